"""How far the work in a folder is, told by its files alone: nothing is loaded, and nobody is asked."""

import contextlib
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from imagecot.errors import UsageError
from imagecot.execution.camp import WORK, Camp, Deeds, Plan
from imagecot.execution.failures import TRIES, Failure, Failures
from imagecot.execution.leases import PACE, Seen, newest, see
from imagecot.execution.team import CONCLUSION
from imagecot.execution.work import Unit, absent
from imagecot.files import create

_LOOKS, _BETWEEN = 5, 0.1  # looks at a work that nobody seems to be at, and seconds between two
State = Literal["finished", "running", "stopped"]
# What marks a folder of each kind, and what is there when it is finished.
FOLDERS = {
    "evaluation.json": (("results.jsonl", "summary.json"),),
    "curation.json": (("README.md",),),
    "study.json": (("summary.json",), ("frontier.json",)),
}


@dataclass(frozen=True)
class Running:
    """Who holds a unit.

    seconds  since when, at its last heartbeat
    silent   seconds since that, by the clock of the file system; None where that cannot be known
    done     units that it has done before
    alive    whether its heartbeat can be heard; where that cannot be known it is taken to be
    """

    unit: str
    host: str
    pid: int
    seconds: float
    silent: float | None
    done: int
    alive: bool


@dataclass(frozen=True)
class Status:
    """How far a work is.

    state     stopped: not finished, and nobody is at it
    doing     what is done; "" of a finished folder
    units     how many there are; None of a finished folder, which does not tell
    running   who holds units, and who sums up (the unit `conclusion`)
    failures  tries that failed
    rate      units a second, of those who are at it; None where nobody has done any
    left      seconds until all is done, by that rate
    """

    folder: str
    state: State
    doing: str = ""
    units: int | None = None
    done: int | None = None
    running: Sequence[Running] = ()
    failures: Sequence[Failure] = ()
    rate: float | None = None
    left: float | None = None

    @property
    def kinds(self) -> dict[str, int]:
        """How often tries failed, by the kind of error."""
        return dict(Counter(failure.kind for failure in self.failures))

    @property
    def given_up(self) -> list[str]:
        """Units that were tried often enough."""
        tries = Counter(failure.unit for failure in self.failures if failure.counts)
        return [unit for unit, count in tries.items() if count >= TRIES]


def status(folder: Path) -> Status:
    """Look at a folder; UsageError where nothing is done in units, ImagecotError for damaged files."""
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}; give that of an evaluation, a curation or a study.")
    camp = Camp(folder)
    plans = camp.plans()
    looks = 0
    while plans:
        found, looks = _under_way(camp, plans), looks + 1
        if found.state == "running" or looks == _LOOKS:
            return found
        time.sleep(_BETWEEN)  # somebody may be between two units, or has just concluded
        plans = camp.plans()
    kind = next((name for name in FOLDERS if (folder / name).is_file()), None)
    if kind is None and not (folder / WORK).is_dir():
        raise UsageError(f"{folder} is no folder of an evaluation, a curation or a study, nor one that is under way.")
    done = kind is not None and any(all((folder / name).is_file() for name in names) for names in FOLDERS[kind])
    return Status(str(folder), "finished" if done else "stopped")


def _under_way(camp: Camp, plans: Sequence[Plan]) -> Status:
    units = {unit.name: unit for plan in plans for unit in plan.units}
    before = {name for plan in plans for name in plan.before}
    empty = {file.name for file in camp.folder.glob("empty-*/*")}
    missing = {unit.name for unit in absent(camp.out, (Unit(one.name, one.marker) for one in units.values()))}
    left = [unit for name, unit in units.items() if name in missing - before - empty]
    deeds = {found.owner.id: found for found in camp.deeds()}
    held = [one for one in _held(camp) if one.name in units or one.name == CONCLUSION]
    silent = _silences(camp, held)
    running = [_running(one, silent.get(one.name), deeds) for one in held]
    at_it = {one.owner.id for one, how in zip(held, running, strict=True) if one.owner and how.alive}
    speeds = [found for key, found in deeds.items() if key in at_it and found.seconds > 0]
    weights = sum(found.weight / found.seconds for found in speeds)
    return Status(
        folder=str(camp.out),
        state="running" if at_it else "stopped",
        doing=plans[0].doing,
        units=len(units),
        done=len(units) - len(left),
        running=running,
        failures=Failures(camp.folder / "failures").read(),
        rate=sum(found.done / found.seconds for found in speeds) if weights else None,
        left=sum(unit.weight for unit in left) / weights if weights else None,
    )


def _held(camp: Camp) -> list[Seen]:
    """The leases that were not given back."""
    found = (see(camp.leases, name, generation) for name, generation in sorted(newest(camp.leases).items()))
    return [one for one in found if one and not one.free]


def _running(one: Seen, silent: float | None, deeds: dict[str, Deeds]) -> Running:
    owner = one.owner
    alive = owner is not None and not owner.gone and (silent is None or silent < PACE.patience)
    done = deeds[owner.id].done if owner and owner.id in deeds else 0
    host, pid = (owner.host, owner.pid) if owner else ("unknown", 0)
    return Running(one.name, host, pid, one.seconds, silent, done, alive)


def _silences(camp: Camp, held: Sequence[Seen]) -> dict[str, float]:
    """How long ago the last heartbeats were, by the clock that dates files: a new one says what it shows.

    Empty where no file can be made, as in a folder of somebody else.
    """
    probe = camp.folder / f".probe-{time.monotonic_ns()}"
    found: dict[str, float] = {}
    with contextlib.suppress(OSError):
        create(probe, b"")
        try:
            now = probe.stat().st_mtime
        finally:
            probe.unlink(missing_ok=True)
        for one in held:
            file = camp.leases / f"{one.name}.{one.generation}"
            with contextlib.suppress(FileNotFoundError):
                found[one.name] = max(0.0, now - file.stat().st_mtime)
    return found
