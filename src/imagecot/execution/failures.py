"""What went wrong with units, by whom and how, kept for others and for whoever asks."""

import contextlib
import json
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from imagecot import last_resort
from imagecot.errors import OUT_OF_MEMORY, ImagecotError
from imagecot.execution.owner import Owner
from imagecot.files import is_temporary, make_own_folder, write_text
from imagecot.memory import is_out_of_memory
from imagecot.reading import Schema, read_record

TRIES = 3  # of a unit, by whomever
DIED = "died"


class Failure(Schema):
    """One try of a unit that failed.

    kind      the class of the exception, or `died` of a worker that ended without a word
    sentence  what it said
    time      UTC, by the clock of its machine
    counts    whether another machine might fail as well: not where one has a full disk, or no memory
    """

    unit: str
    host: str
    pid: int
    kind: str
    sentence: str
    time: str
    counts: bool


class Failures:
    """The failures in a folder; those that were there before count no more."""

    def __init__(self, folder: Path, before: Iterable[str] = ()) -> None:
        self.folder, self.before = folder, frozenset(before)

    def add(self, unit: str, owner: Owner, kind: str, sentence: str, *, counts: bool = True) -> None:
        """Keep one, as far as the disk lets."""
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        failure = Failure(
            unit=unit, host=owner.host, pid=owner.pid, kind=kind, sentence=sentence, time=now, counts=counts
        )
        with contextlib.suppress(ImagecotError):
            make_own_folder(self.folder)
            write_text(self.folder / f"{secrets.token_hex(8)}.json", json.dumps(failure.model_dump()))

    def names(self) -> list[str]:
        """The files that are there."""
        files = self.folder.glob("*.json")
        return sorted(file.name for file in files if not is_temporary(file.name))

    def read(self, *, all_of_them: bool = False) -> list[Failure]:
        """Those that count, or all; by time."""
        found = []
        for name in self.names():
            if all_of_them or name not in self.before:
                with contextlib.suppress(ImagecotError):  # it may go, and a damaged one tells nothing
                    found.append(read_record(self.folder / name, Failure, advice="delete it"))
        return sorted(found, key=lambda failure: failure.time)

    def check(self) -> None:
        """Raise ImagecotError, naming the unit, where one of them was tried often enough."""
        tries: dict[str, list[Failure]] = {}
        for failure in filter(lambda one: one.counts, self.read()):
            tries.setdefault(failure.unit, []).append(failure)
        for unit, failed in tries.items():
            if len(failed) >= TRIES:
                last = failed[-1]
                raise ImagecotError(
                    f"the unit {unit} failed {len(failed)} times, at last on {last.host}: {last.sentence}"
                )


def told(error: Exception) -> str:
    """What an error says of itself, in a sentence."""
    if isinstance(error, ImagecotError):
        return str(error)
    return OUT_OF_MEMORY if is_out_of_memory(error) else last_resort.sentence(error)
