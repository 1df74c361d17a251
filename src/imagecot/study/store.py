"""Rows of JSON that several processes make, each written whole: nothing is lost or done twice when they are killed."""

import json
import math
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagecot.errors import ImagecotError
from imagecot.files import clear_write_errors, write_whole

Row = dict[str, Any]


@dataclass(frozen=True)
class Store:
    """Numbered rows, kept in `FOLDER/NAME.jsonl`; those that are new lie in a folder beside it until `fold`."""

    folder: Path
    name: str

    @property
    def file(self) -> Path:
        """Where the rows end up, in the order of their numbers."""
        return self.folder / f"{self.name}.jsonl"

    @property
    def _parts(self) -> Path:
        return self.folder / f"{self.name}.parts"

    def numbers(self) -> set[int]:
        """The numbers of the rows that are there."""
        return {row["number"] for row in read_lines(self.file)} | {
            int(part.stem) for part in self._parts.glob("*.json")
        }

    def holds_new(self, number: int) -> bool:
        """Whether a row was kept since the last fold; cheap."""
        return (self._parts / f"{number:05d}.json").is_file()

    def rows(self) -> list[Row]:
        """All rows that are there; ImagecotError where a file is damaged."""
        found = {row["number"]: row for row in read_lines(self.file)}
        for part in self._parts.glob("*.json"):
            found.update((row["number"], row) for row in read_lines(part))
        return [found[number] for number in sorted(found)]

    def keep(self, row: Row) -> None:
        """Write a row, which has a `number`."""
        with clear_write_errors(self._parts):
            self._parts.mkdir(parents=True, exist_ok=True)
        write_whole(self._parts / f"{row['number']:05d}.json", json.dumps(row).encode())

    def fold(self) -> None:
        """Move all rows into the one file; only while nobody writes."""
        if self._parts.is_dir():
            write_lines(self.file, self.rows())
            shutil.rmtree(self._parts, ignore_errors=True)


def write_lines(file: Path, rows: Iterable[Row]) -> None:
    """Write rows of JSON, whole or not at all."""
    write_whole(file, "".join(json.dumps(row) + "\n" for row in rows).encode())


def read_lines(file: Path) -> list[Row]:
    """Read rows of JSON, none where there is no file; ImagecotError where it is damaged."""
    if not file.is_file():
        return []
    try:
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    except ValueError as error:
        raise ImagecotError(f"{file} is damaged ({error}); delete it, and what it held is done again.") from error


def without_nan(value: Any) -> Any:
    """The same with None for what is not a number, which JSON does not know."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
