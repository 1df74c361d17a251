"""Rows of JSON that several processes make, each written whole: nothing is lost or done twice when they are killed."""

import json
import shutil
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
        return {row["number"] for row in self._folded()} | {int(part.stem) for part in self._parts.glob("*.json")}

    def rows(self) -> list[Row]:
        """All rows that are there; ImagecotError where a file is damaged."""
        found = {row["number"]: row for row in self._folded()}
        for part in self._parts.glob("*.json"):
            found.update((row["number"], row) for row in _read(part))
        return [found[number] for number in sorted(found)]

    def keep(self, row: Row) -> None:
        """Write a row, which has a `number`."""
        with clear_write_errors(self._parts):
            self._parts.mkdir(parents=True, exist_ok=True)
        write_whole(self._parts / f"{row['number']:05d}.json", json.dumps(row).encode())

    def fold(self) -> None:
        """Move all rows into the one file; only while nobody writes."""
        if self._parts.is_dir():
            write_whole(self.file, "".join(json.dumps(row) + "\n" for row in self.rows()).encode())
            shutil.rmtree(self._parts, ignore_errors=True)

    def _folded(self) -> list[Row]:
        return _read(self.file) if self.file.is_file() else []


def _read(file: Path) -> list[Row]:
    try:
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    except ValueError as error:
        raise ImagecotError(f"{file} is damaged ({error}); delete it, and what it held is done again.") from error
