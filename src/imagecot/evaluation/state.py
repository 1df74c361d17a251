"""An evaluation on disk: its units while it runs, its results when it is done; a folder belongs to one evaluation.

`summary.json` is written last and read first: with it and the results an evaluation is finished.
"""

import hashlib
import json
import math
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pydantic import Field

from imagecot.evaluation.folder import Entry
from imagecot.evaluation.summary import AGAIN, SUMMARY, Judges
from imagecot.files import make_own_folder, publish, write_whole
from imagecot.geneval.summary import Verdict
from imagecot.identity import Identity, claim, read_identity, refuse_occupied, refuse_other
from imagecot.reading import Model, Schema, read_record, read_records

IDENTITY, PARTS, IMAGES = "evaluation.json", "parts", "images"
RESULTS, SECOND = "results.jsonl", "results-second.jsonl"
TABLE, FAILURES, SCORES = "table.md", "failures.png", "score_lists.json"
_JUDGES = "detectors.json"
CONTENT = "images_sha256"  # the one part of an identity that may change: then the images are scored again


class Row(Schema):
    """One image's line of the results, in the reference's keys and order; `metadata` and `details` hold JSON."""

    filename: str
    tag: str
    prompt: str
    correct: bool
    reason: str
    metadata: str
    details: str

    @property
    def verdict(self) -> Verdict:
        """What counts of it."""
        return Verdict(self.tag, self.metadata, self.correct)


class Unit(Schema):
    """What one piece of the work left: rows of both judges, problems, and what was spent."""

    rows: list[Row] = Field(default_factory=list)
    second: list[Row] = Field(default_factory=list)
    problems: list[str] = Field(default_factory=list)
    cost: dict[str, int | float] = Field(default_factory=dict)


def settings_of(role: str) -> str:
    """The entry of an identity with the settings of who has this role."""
    return f"{role}_settings"


@dataclass(frozen=True)
class Piece:
    """A unit of the work: each `step`th of the prompts or entries from `first` to `last` - 1, kept under `name`."""

    name: str
    first: int
    last: int
    step: int = 1

    @property
    def numbers(self) -> range:
        """Those of its prompts."""
        return range(self.first, self.last, self.step)


def pieces(count: int, size: int) -> list[Piece]:
    """The units of `count` prompts."""
    return [Piece(f"{a:05d}", a, min(a + size, count)) for a in range(0, count, size)]


def spread_pieces(count: int, size: int) -> list[Piece]:
    """Units of about `size` prompts each, which are spread evenly, so that each has some of every kind."""
    units = math.ceil(count / size)
    return [Piece(f"{a:05d}-of-{units:05d}", a, count, units) for a in range(units)]


def pieces_of(entries: Sequence[Entry], size: int) -> list[Piece]:
    """The units of a folder's entries; their names say what these hold, so that what has changed is done again."""
    named = []
    for piece in pieces(len(entries), size):
        held = "".join(entry.digest for entry in entries[piece.first : piece.last])
        digest = hashlib.sha256(held.encode()).hexdigest()
        named.append(Piece(f"{piece.name}-{digest[:16]}", piece.first, piece.last))
    return named


class Evaluation:
    """The state of an evaluation in the folder `out`."""

    def __init__(self, out: Path, identity: Identity) -> None:
        """Open or resume, and write nothing; UsageError where the folder holds something else."""
        self.out, self.parts, self.identity = out, out / PARTS, identity
        file = out / IDENTITY
        if self.changed:
            there = read_identity(file)
            refuse_other(out, there, {k: v for k, v in identity.items() if k != CONTENT}, "evaluation")
        else:
            refuse_occupied(file, identity, "evaluation")

    @property
    def changed(self) -> bool:
        """Whether what is in the folder is of other images."""
        file = self.out / IDENTITY
        return file.is_file() and read_identity(file).get(CONTENT) != self.identity.get(CONTENT)

    @property
    def finished(self) -> bool:
        """Whether the results are complete, and those of the images as they are now."""
        return all((self.out / name).is_file() for name in (RESULTS, SUMMARY)) and not self.changed

    def settle(self, settings: Identity) -> None:
        """Make the settings of the loaded models entries of the identity, as far as the folder has them too.

        UsageError where it was begun with others.
        """
        file = self.out / IDENTITY
        there = read_identity(file) if file.is_file() else settings
        known = {name: value for name, value in settings.items() if name in there}
        refuse_other(self.out, there, known, "evaluation")
        self.identity = {**self.identity, **known}

    def begin(self) -> None:
        """Make the folder this evaluation's, when the first result is there; the results of other images go."""
        if self.changed:
            for name in (SUMMARY, RESULTS, SECOND, TABLE, FAILURES, SCORES):
                (self.out / name).unlink(missing_ok=True)
            write_whole(self.out / IDENTITY, (json.dumps(self.identity, ensure_ascii=False) + "\n").encode())
        claim(self.out / IDENTITY, self.identity, "evaluation")

    def keep(self, piece: Piece, unit: Schema, judges: Schema) -> None:
        """Write a finished unit, unless there is one; and what the judges' answers depend on, for the summary."""
        self.begin()
        make_own_folder(self.parts)
        for file, record in ((self.parts / _JUDGES, judges), (self.file(piece), unit)):
            if not file.is_file():
                publish(file, partial(_write, json.dumps(record.model_dump()).encode()))

    def judges(self) -> Judges | None:
        """What `keep` wrote of GenEval's judges; as of `kept_judges`."""
        return self.kept_judges(Judges)

    def kept_judges(self, form: type[Model]) -> Model | None:
        """What `keep` wrote of judges; None where that is gone, as after a kill while the parts were deleted."""
        file = self.parts / _JUDGES
        return read_record(file, form, advice=AGAIN) if file.is_file() else None

    def units(self, done: Iterable[Piece], form: type[Model]) -> Iterator[Model]:
        """Read finished units in order; ImagecotError for a damaged one."""
        for piece in done:
            yield read_record(self.file(piece), form, advice=AGAIN)

    def whole(self, done: Iterable[Piece]) -> Unit:
        """All units of GenEval joined."""
        rows: list[Row] = []
        second: list[Row] = []
        problems: list[str] = []
        cost: dict[str, int | float] = {}
        for unit in self.units(done, Unit):
            rows += unit.rows
            second += unit.second
            problems += unit.problems
            for key, value in unit.cost.items():
                cost[key] = cost.get(key, 0) + value
        return Unit(rows=rows, second=second, problems=problems, cost=cost)

    def write_results(self, whole: Unit) -> None:
        """Write the rows of both judges."""
        for file, rows in ((SECOND, whole.second), (RESULTS, whole.rows)):
            if rows:
                lines = (json.dumps(row.model_dump()) + "\n" for row in rows)
                write_whole(self.out / file, "".join(lines).encode())

    def clean(self) -> None:
        """Delete the parts of a finished evaluation."""
        shutil.rmtree(self.parts, ignore_errors=True)

    def forget(self) -> None:
        """Give the folder back where there is nothing to keep."""
        self.clean()
        (self.out / IDENTITY).unlink(missing_ok=True)

    def file(self, piece: Piece) -> Path:
        """Where a finished unit is kept."""
        return self.parts / f"{piece.name}.json"


def _write(data: bytes, file: Path) -> None:
    file.write_bytes(data)


def read_rows(folder: Path) -> list[Row]:
    """Read the results of a finished evaluation of ours; ImagecotError naming a damaged line."""
    return [row for _, row in read_records(folder / RESULTS, Row, advice=f"delete {folder} and evaluate again")]
