"""Rows of JSON that several processes make, each written whole: nothing is lost or done twice when they are killed."""

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from imagecot import interruption
from imagecot.errors import ImagecotError
from imagecot.files import is_temporary, make_own_folder, publish, write_text
from imagecot.reading import read_records
from imagecot.study.rows import Numbered, Row

ADVICE = "delete that line or the file, and the same command makes again what is missing"
Kept = TypeVar("Kept", bound=Numbered)
Read = TypeVar("Read", bound=Row)


@dataclass(frozen=True)
class Store(Generic[Kept]):
    """Numbered rows, kept in `FOLDER/NAME.jsonl`; those that are new lie in a folder beside it until `fold`.

    schema  what a row must hold
    misfit  says why a row does not belong to this study; None where it does
    claim   called before a row is written, so that the folder belongs to its study from its first result on
    """

    folder: Path
    name: str
    schema: type[Kept]
    misfit: Callable[[Kept], str | None] = lambda row: None
    claim: Callable[[], object] = lambda: None

    @property
    def file(self) -> Path:
        """Where the rows end up, in the order of their numbers."""
        return self.folder / f"{self.name}.jsonl"

    @property
    def _parts(self) -> Path:
        return self.folder / f"{self.name}.parts"

    def numbers(self) -> set[int]:
        """The numbers of the rows that are there; ImagecotError where a file is damaged."""
        return {row.number for row in self.rows()}

    def part(self, number: int) -> Path:
        """Where a row is kept until the next fold."""
        return self._parts / f"{number:05d}.json"

    def rows(self) -> list[Kept]:
        """All rows that are there, in order; ImagecotError where a file is damaged.

        New ones are read first: a row that is folded meanwhile is found in the one file.
        """
        new = [row for part in sorted(self._parts.glob("*.json")) for row in self._of_part(part)]
        found: dict[int, Kept] = {}
        for line, row in self._read(self.file):
            if row.number in found:
                raise ImagecotError(f"line {line} of {self.file} repeats the number {row.number}; {ADVICE}.")
            found[row.number] = row
        found |= {row.number: row for row in new}
        return [found[number] for number in sorted(found)]

    def _of_part(self, part: Path) -> list[Kept]:
        rows = [row for _, row in self._read(part)]
        if part.exists() and (len(rows) != 1 or part != self.part(rows[0].number)):
            raise ImagecotError(f"{part} does not hold the one row of its number; {ADVICE}.")
        return rows

    def keep(self, row: Kept) -> None:
        """Write a row, over one of its number that is there."""
        self._begin()
        write_text(self.part(row.number), json.dumps(row.as_json()))

    def offer(self, row: Kept) -> None:
        """Write a row, unless one of its number is there: of several that make it the first counts."""
        self._begin()
        text = json.dumps(row.as_json())
        publish(self.part(row.number), lambda partial: partial.write_text(text, encoding="utf-8"))

    def _begin(self) -> None:
        self.claim()
        make_own_folder(self._parts)

    def fold(self) -> None:
        """Move all rows into the one file; others may write meanwhile, but not fold."""
        if self._parts.is_dir():
            parts = sorted(self._parts.glob("*.json"))
            write_rows(self.file, self.rows())
            for part in parts:
                part.unlink()
            for partial in filter(lambda file: is_temporary(file.name), self._parts.iterdir()):
                partial.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # somebody wrote a row since
                self._parts.rmdir()

    def _read(self, file: Path) -> Iterator[tuple[int, Kept]]:
        for line, row in read_rows(file, self.schema):
            problem = self.misfit(row)
            if problem:
                raise ImagecotError(f"line {line} of {file} does not belong to this study: {problem}; {ADVICE}.")
            yield line, row


def in_turn(
    store: Store[Kept], count: int, make: Callable[[int, Mapping[int, Kept]], Kept], done: Callable[[], object]
) -> None:
    """Make the rows that a store lacks of so many, one after another; `make` is given those that are there by then."""
    rows = {row.number: row for row in store.rows()}
    for number in range(count):
        if number not in rows:
            interruption.check()
            rows[number] = make(number, rows)
            store.keep(rows[number])
            done()


def write_rows(file: Path, rows: Iterable[Row]) -> None:
    """Write rows of JSON, whole or not at all."""
    write_text(file, "".join(json.dumps(row.as_json()) + "\n" for row in rows))


def read_rows(file: Path, schema: type[Read]) -> Iterator[tuple[int, Read]]:
    """Yield the rows of a file with their line numbers, none where there is no file; ImagecotError for damage."""
    if file.exists():
        yield from read_records(file, schema, advice=ADVICE)
