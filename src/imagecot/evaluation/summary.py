"""What an evaluation found, as `summary.json` holds it."""

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from imagecot.errors import ImagecotError
from imagecot.files import write_whole
from imagecot.geneval.summary import Summary
from imagecot.reading import Schema, read_record

SUMMARY = "summary.json"
AGAIN = "delete it and run the same command again"


class Judges(Schema):
    """What the answers of the judges depend on, as each says it."""

    detector: Mapping[str, object]
    second: Mapping[str, object] | None


class Record(Judges):
    """Who judged, what was asked for, and by which versions."""

    run: Mapping[str, object]
    versions: dict[str, str]


class Compared(Schema):
    """The comparison with another evaluation; no interval and no p value where `judges_differ` says how they do."""

    folder: str
    difference: float
    low: float | None
    high: float | None
    only_a: int
    only_b: int
    p_value: float | None
    judges_differ: str = ""


class Found(Schema):
    """The scores by both judges, what is missing in them, what was spent, and all that they depend on.

    problems   what kept an image out of the score, a sentence each
    remarks    what is odd about the images
    agreement  the share of images on which both judges agree
    """

    score: Summary
    problems: list[str]
    remarks: list[str] = Field(default_factory=list)
    second_judge: Summary | None = None
    agreement: float | None = None
    against: Compared | None = None
    cost: dict[str, int | float]
    record: Record

    def as_json(self) -> dict[str, object]:
        """The summary as it is written: without what it does not hold."""
        values: dict[str, object] = self.model_dump(exclude_defaults=True)
        return values

    def write(self, folder: Path) -> None:
        """Write it, by which the evaluation is finished."""
        write_whole(folder / SUMMARY, (json.dumps(self.as_json(), indent=1) + "\n").encode())


def read_summary(folder: Path) -> Found:
    """Read the summary of a finished evaluation; ImagecotError where it is damaged."""
    return read_record(folder / SUMMARY, Found, advice=AGAIN)


def judges_of(folder: Path) -> Judges | None:
    """Who judged a finished evaluation, by its summary; None where that does not say it."""
    try:
        return read_summary(folder).record
    except ImagecotError:
        return None
