"""Generated pictures in which annotators said what stands where.

A drawn scene is whole and clear; of what a generator draws, only who looks can say whether it still is a cup. The
detectors that judge are trained on both.
"""

import json
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from imagecot.errors import UsageError
from imagecot.geneval.prompts import COLORS
from imagecot.pictograms.scenes import KINDS


class Seen(BaseModel):
    """An object that stands in a picture.

    color  None where it is not known
    box    x0, y0, x1, y1 in pixels
    sure   False where nobody can say whether it is there
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

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


class AnnotatedPicture(BaseModel):
    """A generated picture as codes (N,) of the image tokenizer, what it was drawn for, and what is there."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: str
    codes: Annotated[list[int], Field(min_length=1)]
    objects: list[Seen]


def read_annotations(file: str | Path) -> list[AnnotatedPicture]:
    """Read a file with one annotated picture a line; UsageError that names the line where it is no such thing."""
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read ({error}); pass a JSONL file of annotated pictures.") from None
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(AnnotatedPicture.model_validate(json.loads(line)))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise UsageError(f"line {number} of {file}: {where}: {first['msg']}; correct the line.") from None
        except ValueError as error:
            raise UsageError(f"line {number} of {file} is not JSON ({error}); correct the line.") from None
    if not found:
        raise UsageError(f"{file} is empty; pass a JSONL file of annotated pictures.")
    return found
