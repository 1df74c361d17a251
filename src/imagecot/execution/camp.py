"""`.work` in a folder of results: what is to be done there, who does it, and what went wrong, while it is under way.

    plan-DIGEST.json   the units of a work, for whoever asks how far it is
    leases/            who does which unit (`leases.py`)
    workers/ID.json    what each worker has done
    failures/          units that failed, and how

It goes when the work is done, and where nothing came of it. So a folder of results is the same whoever made it.
"""

import contextlib
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from imagecot.errors import ImagecotError
from imagecot.execution.failures import Failures
from imagecot.execution.leases import Leases, Pace, newest, see
from imagecot.execution.owner import Owner
from imagecot.execution.work import Unit, Work
from imagecot.files import make_own_folder, publish, write_text
from imagecot.reading import Schema, read_record

WORK = ".work"
PLANS = "plan-*.json"
_ADVICE = "delete it, and run the command again"


class Planned(Schema):
    """A unit of a plan, as of `Unit`."""

    name: str
    marker: str
    weight: int


class Plan(Schema):
    """A work that is under way; `before` are the units that were done and joined before it began."""

    doing: str
    units: list[Planned]
    before: list[str]


class Deeds(Schema):
    """What a worker has done: units, their weight, and the seconds that they took it."""

    owner: Owner
    done: int
    weight: int
    seconds: float


@dataclass(frozen=True)
class Camp:
    """The folder `.work` of a folder of results.

    made  whether the folder of results is not there yet
    """

    out: Path
    made: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "made", not self.out.exists())

    @property
    def folder(self) -> Path:
        """Where it is."""
        return self.out / WORK

    @property
    def leases(self) -> Path:
        """The folder of leases."""
        return self.folder / "leases"

    def check(self) -> None:
        """Raise ImagecotError where a link stands in its place, which nothing is written through."""
        for folder in (self.folder, self.leases):
            if folder.is_symlink():
                make_own_folder(folder)

    def begin(self, pace: Pace) -> Leases:
        """The leases of a new worker."""
        return Leases(self.leases, pace)

    def failures(self) -> Failures:
        """The failures from now on."""
        found = Failures(self.folder / "failures")
        return Failures(found.folder, found.names())

    def make(self) -> None:
        """Make the folder; ImagecotError where that is not possible."""
        make_own_folder(self.folder)
        make_own_folder(self.leases)

    def plan(self, work: Work) -> None:
        """Write down what is to be done, unless that is there."""
        file = self._plan(work.units)
        if file.is_file():
            return
        self.make()
        text = self._text(work)
        publish(file, lambda partial: partial.write_text(text, encoding="utf-8"))

    def renew(self, work: Work) -> None:
        """Write the plan anew, where there is one: units that were joined meanwhile have no markers."""
        if self.planned(work):
            write_text(self._plan(work.units), self._text(work))

    def _text(self, work: Work) -> str:
        missing = {unit.name for unit in work.missing()}
        units = [Planned(name=unit.name, marker=unit.marker, weight=unit.weight) for unit in work.units]
        done = [unit for unit in work.units if unit.name not in missing]
        before = [unit.name for unit in done if not (self.out / unit.marker).is_file()]
        return json.dumps(Plan(doing=work.doing, units=units, before=before).model_dump())

    def planned(self, work: Work) -> bool:
        """Whether the work was begun, and not concluded by anybody."""
        return self._plan(work.units).is_file()

    def plans(self) -> list[Plan]:
        """What is under way; ImagecotError for what is damaged."""
        found = []
        for file in sorted(self.folder.glob(PLANS)):
            with contextlib.suppress(FileNotFoundError):
                found.append(read_record(file, Plan, advice=_ADVICE))
        return found

    def did(self, deeds: Deeds) -> None:
        """Keep what a worker has done, as far as the disk lets."""
        if not self.folder.is_dir():
            return
        with contextlib.suppress(ImagecotError):
            folder = make_own_folder(self.folder / "workers")
            write_text(folder / f"{deeds.owner.id}.json", json.dumps(deeds.model_dump()))

    def deeds(self) -> Iterator[Deeds]:
        """What each worker has done."""
        for file in sorted((self.folder / "workers").glob("*.json")):
            with contextlib.suppress(ImagecotError):
                yield read_record(file, Deeds, advice=_ADVICE)

    def conclude(self, work: Work) -> None:
        """Forget a work that is done, and all else where nothing else is under way."""
        with contextlib.suppress(OSError):
            self._plan(work.units).unlink(missing_ok=True)
            if any(self.folder.glob(PLANS)):
                own = {unit.name for unit in work.units}
                for file in self.leases.iterdir():
                    if file.name.rpartition(".")[0] in own:
                        file.unlink(missing_ok=True)
            else:
                self._remove()

    def tidy(self) -> None:
        """Forget what was left of a work that another has concluded."""
        with contextlib.suppress(OSError):
            if self.folder.is_dir() and not any(self.folder.glob(PLANS)) and not self._held():
                self._remove()

    def leave(self) -> None:
        """Forget a work that nothing came of: nothing was written beside it, and nobody else is at it."""
        with contextlib.suppress(OSError):
            known = {"leases", "workers", "failures"}
            kept = [name for name in os.listdir(self.folder) if name not in known and not name.startswith("plan-")]
            results = [name for name in os.listdir(self.out) if not name.startswith(".")]
            if not kept and not results and not self._held():
                self._remove()
                if self.made:
                    self.out.rmdir()

    def _held(self) -> bool:
        seen = (see(self.leases, name, generation) for name, generation in newest(self.leases).items())
        return any(one and not one.free and not (one.owner and one.owner.gone) for one in seen)

    def _remove(self) -> None:
        """Under another name first, so that nobody finds half of it."""
        going = self.folder.with_name(f"{WORK}-{secrets.token_hex(8)}")
        os.replace(self.folder, going)
        shutil.rmtree(going, ignore_errors=True)

    def _plan(self, units: Sequence[Unit]) -> Path:
        names = "\n".join(unit.name for unit in units)
        return self.folder / f"plan-{hashlib.sha256(names.encode()).hexdigest()[:16]}.json"
