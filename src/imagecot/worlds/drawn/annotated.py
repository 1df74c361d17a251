"""Generated pictures in which annotators said what stands where.

A drawn scene is whole and clear; of what a generator draws, only who looks can say whether it still is a cup. The
detectors that judge are trained on both.
"""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from imagecot.errors import UsageError
from imagecot.geneval.prompts import COLORS
from imagecot.reading import Schema, read_records
from imagecot.worlds.drawn.scenes import KINDS, SIZE


class Seen(Schema):
    """An object that stands in a picture.

    color  None where it is not known
    box    x0, y0, x1, y1 in pixels
    sure   False where nobody can say whether it is there
    """

    kind: str
    color: str | None = None
    box: tuple[float, float, float, float]
    sure: bool = True

    @field_validator("kind")
    @classmethod
    def _known_kind(cls, kind: str) -> str:
        if kind not in KINDS:
            raise ValueError(f"the drawn world has no {kind!r}, only {', '.join(KINDS)}")
        return kind

    @field_validator("color")
    @classmethod
    def _known_color(cls, color: str | None) -> str | None:
        if color is not None and color not in COLORS:
            raise ValueError(f"there is no colour {color!r}, only {', '.join(COLORS)}")
        return color

    @model_validator(mode="after")
    def _in_the_picture(self) -> Self:
        x0, y0, x1, y1 = self.box
        if not (-SIZE <= x0 < x1 <= 2 * SIZE and -SIZE <= y0 < y1 <= 2 * SIZE):
            raise ValueError(f"the box {list(self.box)} is not x0, y0, x1, y1 in a picture of {SIZE} pixels")
        return self


class AnnotatedPicture(Schema):
    """A generated picture as codes (N,) of the image tokenizer, what it was drawn for, and what is there."""

    prompt: str
    codes: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    objects: list[Seen]


def read_annotations(file: str | Path) -> list[AnnotatedPicture]:
    """Read a file with one annotated picture a line; UsageError that names the line where it is no such thing."""
    advice = "pass a JSONL file of annotated pictures"
    found: list[AnnotatedPicture] = []
    for number, picture in read_records(Path(file), AnnotatedPicture, failure=UsageError, advice=advice):
        if found and len(picture.codes) != len(found[0].codes):
            raise UsageError(
                f"line {number} of {file}: codes has {len(picture.codes)} codes, others have {len(found[0].codes)}; "
                f"{advice}."
            )
        found.append(picture)
    if not found:
        raise UsageError(f"{file} is empty; {advice}.")
    return found
