"""How a work is shared: by so many workers, started in one of several ways, and concluded by one of them."""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from imagecot import interruption
from imagecot.errors import UsageError
from imagecot.execution import executors
from imagecot.execution.camp import Camp
from imagecot.execution.failures import Failures
from imagecot.execution.leases import PACE, Leases, Pace, newest, see
from imagecot.execution.member import Look, Member, tell_holders
from imagecot.execution.work import Unit, Work
from imagecot.files import check_writable
from imagecot.launch import launched, leftovers
from imagecot.watch import SILENT, Watch

if TYPE_CHECKING:
    from pydantic import BaseModel

Result = TypeVar("Result")
CONCLUSION = "conclusion"  # the name of the lease


@dataclass(frozen=True)
class Team:
    """Who does a work.

    workers  how many, where no launcher started this process
    on       the way in which they are started, by its name in `executors.py`
    recipe   what a worker on another machine follows
    """

    workers: int = 1
    on: str = executors.LOCAL
    recipe: "BaseModel | None" = None
    pace: Pace = PACE


@dataclass
class Sharing:
    """A work under way, as whoever starts workers needs it."""

    work: Work
    team: Team
    camp: Camp
    failures: Failures
    watch: Watch
    look: Look

    def member(self, place: tuple[int, int]) -> None:
        """Be one of the workers, in this process; errors as of `Member.run`."""
        with self.camp.begin(self.team.pace) as leases:
            Member(self.work, self.camp, leases, self.failures, place, self.look, self.watch).run()


def place(watch: Watch) -> tuple[int, int]:
    """Which process of how many this is, by its launcher; people are told where that is not obvious."""
    rank, world = launched()
    if world > 1:
        watch.tell(f"this is process {rank + 1} of {world} by RANK and WORLD_SIZE of its launcher.")
    elif leftovers():
        watch.tell(
            f"{' and '.join(leftovers())} in the environment are ignored, since no launcher such as accelerate "
            "started this process: it does all of the work."
        )
    return rank, world


def _refuse_url(folder: Path) -> None:
    """Raise UsageError for a URL: leases are files of a file system that all machines share."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(folder)):
        raise UsageError(
            f"{folder} is a URL, and work is shared through a folder of the file system; give one, and copy it when it "
            "is finished."
        )


def nobody(missing: Sequence[Unit]) -> None:
    """Nobody is told what is missing."""


def carry_out(
    work: Work,
    team: Team,
    watch: Watch,
    conclude: Callable[[], Result],
    read: Callable[[], Result],
    *,
    look: Look = nobody,
) -> Result:
    """Do what is missing of a work together with whoever does so too, and return what came of it.

    conclude  joins the units and writes what a finished work leaves; called by one of all that take part
    read      reads what that one has written
    look      is told now and then what is missing

    UsageError as of `Work.load`; ImagecotError where a unit was tried often enough, where no worker can do more, and
    as of `conclude`. What is done stays, and the same call goes on.
    """
    _refuse_url(work.folder)
    camp = Camp(work.folder)
    camp.check()
    joined = bool(work.missing())
    where = place(watch)
    try:
        if joined:
            check_writable(work.folder)
            _share(work, team, camp, watch, look, where)
        return _conclude(work, team, camp, watch, conclude, read, joined=joined)
    except BaseException:
        camp.leave()
        raise


def _share(work: Work, team: Team, camp: Camp, watch: Watch, look: Look, where: tuple[int, int]) -> None:
    total = sum(unit.weight for unit in work.units)
    with watch.progress(work.doing) as progress:
        before = -1

        def both(missing: Sequence[Unit]) -> None:
            nonlocal before
            look(missing)
            done = total - sum(unit.weight for unit in missing)
            if done != before:
                before = done
                progress(done, total)

        sharing = Sharing(work, team, camp, camp.failures(), watch, both)
        both(work.missing())
        if where[1] > 1:
            sharing.member(where)
        else:
            executors.start(team.on)(sharing)
        both(work.missing())


def _conclude(
    work: Work,
    team: Team,
    camp: Camp,
    watch: Watch,
    conclude: Callable[[], Result],
    read: Callable[[], Result],
    *,
    joined: bool,
) -> Result:
    """Conclude, or wait until another has; the plan, which goes then, tells whether one has."""
    told: set[str] = set()
    with camp.begin(team.pace) as leases:
        while not joined or camp.planned(work):
            interruption.check()
            with _only_one(leases, watch, told) as mine:
                if mine and (not joined or camp.planned(work)):
                    result = conclude()
                    camp.conclude(work)
                    return result
            if not mine:
                time.sleep(team.pace.look)
    camp.tidy()
    return read()


@contextmanager
def only_one(work: Work, pace: Pace = PACE) -> Iterator[bool]:
    """Whether this process alone may join what is there, inside; it may not while another does."""
    camp = Camp(work.folder)
    camp.make()
    with camp.begin(pace) as leases, _only_one(leases, SILENT, set()) as mine:
        yield mine


@contextmanager
def _only_one(leases: Leases, watch: Watch, told: set[str]) -> Iterator[bool]:
    generation = newest(leases.folder).get(CONCLUSION, 0)
    found = see(leases.folder, CONCLUSION, generation) if generation else None
    if found and not found.free and not leases.dead(found):
        tell_holders(watch, "another process that sums up", [found], told)
        yield False
        return
    lease = leases.take(CONCLUSION, generation)
    try:
        yield lease is not None
    finally:
        if lease:
            leases.give_back(lease)
