"""What an evaluation by GenEval 2 found, as `summary.json` holds it."""

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from imagecot.evaluation.summary import AGAIN, SUMMARY
from imagecot.files import write_whole
from imagecot.geneval2.summary import Summary
from imagecot.reading import Schema, read_record


class Judged(Schema):
    """Who answers, and how who draws does: settings, steps, size of the images; nothing where nothing is drawn."""

    judge: Mapping[str, object]
    drawing: Mapping[str, object] = Field(default_factory=dict)


class Record(Judged):
    """The same, what was asked for, and the versions."""

    run: Mapping[str, object]
    versions: dict[str, str]


class Found(Schema):
    """The scores, what is missing in them, what was spent, and all that they depend on.

    problems   what kept an image out of the score, a sentence each
    remarks    what is odd about the images
    """

    score: Summary
    problems: list[str]
    remarks: list[str] = Field(default_factory=list)
    cost: dict[str, int | float]
    record: Record

    def as_json(self) -> dict[str, object]:
        """The summary as it is written."""
        values: dict[str, object] = self.model_dump()
        return values

    def write(self, folder: Path) -> None:
        """Write it, by which the evaluation is finished."""
        write_whole(folder / SUMMARY, (json.dumps(self.as_json(), indent=1) + "\n").encode())


def read_summary(folder: Path) -> Found:
    """Read the summary of a finished evaluation; ImagecotError where it is damaged."""
    return read_record(folder / SUMMARY, Found, advice=AGAIN)
