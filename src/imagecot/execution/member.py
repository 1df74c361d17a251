"""The loop of a worker: take a unit that nobody has, do it, keep it, until all are done by whomever."""

import errno
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from imagecot import interruption, last_resort
from imagecot.errors import ImagecotError, UsageError
from imagecot.execution.camp import Camp, Deeds
from imagecot.execution.failures import DIED, TRIES, Failures, told
from imagecot.execution.leases import Lease, Leases, Seen, newest, see
from imagecot.execution.work import Unit, Work, Worker
from imagecot.memory import is_out_of_memory
from imagecot.watch import SILENT, Watch

Look = Callable[[Sequence[Unit]], None]  # is told now and then what is missing
_OF_THE_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ENOMEM)


def tell_holders(watch: Watch, what: str, held: Sequence[Seen], told: set[str]) -> None:
    """Say who holds what is waited for, whenever that is somebody new; `told` are those that were said."""
    holders = {one.owner.shown for one in held if one.owner}
    if not holders <= told:
        told |= holders
        watch.tell(f"waiting for {what}: {'; '.join(sorted(holders))}.")


class Unable(ImagecotError):
    """This worker can do no more, though others may: its disk is full, it has no memory, or all that it does fails."""


@dataclass
class Member:
    """A worker of a work.

    place     which of how many it is, so that they begin at different units
    failures  those that count
    """

    work: Work
    camp: Camp
    leases: Leases
    failures: Failures
    place: tuple[int, int] = (0, 1)
    look: Look = lambda missing: None
    watch: Watch = SILENT
    _told: set[str] = field(default_factory=set)
    _worker: Worker | None = None
    _last: Unit | None = None
    _in_vain: int = 0
    _deeds: Deeds = field(init=False)

    def __post_init__(self) -> None:
        self._deeds = Deeds(owner=self.leases.owner, done=0, weight=0, seconds=0.0)

    def run(self) -> None:
        """Do what nobody else does, wait for what others hold, and take over what they leave.

        UsageError as of `Work.load`. ImagecotError, naming the unit, where one was tried often enough; `Unable` where
        this worker can do no more.
        """
        while missing := self.work.missing():
            interruption.check()
            self.look(missing)
            self.failures.check()
            over, others = self._sight(missing)
            if not over:
                tell_holders(self.watch, f"{len(missing)} units that others do", others, self._told)
                time.sleep(self.leases.pace.look)
                continue
            if self._worker is None:
                with self.watch.waiting("loading the models"):
                    self._worker = self.work.load()
                self.camp.plan(self.work)
                continue
            for unit in self._order(missing, over, alone=not others):
                lease = self._take(unit, over[unit.name])
                if lease is not None:
                    self._check(lease)
                    self._do(unit, lease, self._worker)
                    break

    def _sight(self, missing: Sequence[Unit]) -> tuple[dict[str, Seen | None], list[Seen]]:
        """Units that can be had, each with its last lease, if there was one; and the leases of others."""
        there = newest(self.leases.folder)
        over: dict[str, Seen | None] = {}
        others = []
        for unit in missing:
            found = see(self.leases.folder, unit.name, there[unit.name]) if unit.name in there else None
            if found is None or found.free or self.leases.dead(found):
                over[unit.name] = found
            else:
                others.append(found)
        return over, others

    def _order(self, missing: Sequence[Unit], over: dict[str, Seen | None], *, alone: bool) -> list[Unit]:
        """What to try first: the group that this worker has models for, behind the unit that it did last.

        It begins where its place tells it, or at random beside others who do not know of it.
        """
        group = self._last.group if self._last else missing[0].group
        own = [unit for unit in self.work.units if unit.group == group]
        rank, of = self.place if alone or self.place[1] > 1 else (int(self.leases.owner.id, 16) % len(own), len(own))
        start = own.index(self._last) + 1 if self._last else len(own) * rank // of
        turned = [*own[start:], *own[:start]] + [unit for unit in self.work.units if unit.group != group]
        return [unit for unit in turned if unit.name in over]

    def _take(self, unit: Unit, before: Seen | None) -> Lease | None:
        lease = self.leases.take(unit.name, before.generation if before else 0)
        if lease and before and not before.free and before.owner:
            self.failures.add(unit.name, before.owner, DIED, "the process ended without a word (killed, or no memory).")
        return lease

    def _check(self, lease: Lease) -> None:
        """Raise as of `Failures.check`: the last try of a unit may have failed just before this one took it."""
        try:
            self.failures.check()
        except ImagecotError:
            self.leases.give_back(lease)
            raise

    def _do(self, unit: Unit, lease: Lease, worker: Worker) -> None:
        began = time.monotonic()
        try:
            if not self.work.done(unit):
                keep = worker.do(unit)
                if not (lease.lost and self.work.done(unit)):
                    keep()
        except Exception as error:
            try:
                self._failed(unit, error)
            finally:
                self.leases.give_back(lease)
        except BaseException:
            self.leases.give_back(lease)
            raise
        else:
            self.leases.finish(lease)
            self._in_vain, self._last = 0, unit
            seconds = self._deeds.seconds + time.monotonic() - began
            done, weight = self._deeds.done + 1, self._deeds.weight + unit.weight
            self._deeds = Deeds(owner=self.leases.owner, done=done, weight=weight, seconds=seconds)
            self.camp.did(self._deeds)

    def _failed(self, unit: Unit, error: Exception) -> None:
        """Go on where another try may help; raise the error, or why this worker can do no more."""
        foreseen = isinstance(error, ImagecotError) or is_out_of_memory(error)
        if isinstance(error, UsageError) or (not foreseen and last_resort.switched_off()):
            raise error
        sentence = told(error)
        of_machine = is_out_of_memory(error) or _of_the_machine(error)
        self.failures.add(unit.name, self.leases.owner, type(error).__name__, sentence, counts=not of_machine)
        self._in_vain, self._last = self._in_vain + 1, unit
        if not of_machine:
            self.failures.check()
        if of_machine or self._in_vain >= TRIES:
            raise Unable(sentence) from error


def _of_the_machine(error: BaseException | None) -> bool:
    """Whether an error comes from this machine, so that another one may do the unit."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
            return True
        error = error.__cause__
    return False
