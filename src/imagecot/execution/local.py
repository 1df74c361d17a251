"""Workers that are processes of this machine, each with a GPU of its own as far as there are enough.

One worker is this process itself. Of several each is a new process, which ends when the one that started it ends. One
that dies without a word is replaced, a few times.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.context import SpawnProcess
from multiprocessing.queues import SimpleQueue
from typing import TYPE_CHECKING

from imagecot import interruption, last_resort
from imagecot.errors import ImagecotError, UsageError
from imagecot.execution import machine
from imagecot.execution.camp import Camp
from imagecot.execution.failures import Failures, told
from imagecot.execution.member import Unable
from imagecot.execution.work import Unit
from imagecot.watch import SILENT

if TYPE_CHECKING:
    from imagecot.execution.team import Sharing, Team
    from imagecot.execution.work import Work

REPLACED = 3  # processes of a work, at most
_GRACE = 5.0  # seconds in which a process that is to end gives back what it holds


@dataclass(frozen=True)
class _Said:
    """What a process said at its end: its error, and whether others go on all the same."""

    rank: int
    message: str
    usage: bool
    alone: bool


def run(sharing: "Sharing") -> None:
    """Do a work in this process, or in several; errors as of `Member.run`, and ImagecotError where all have died."""
    workers = min(sharing.team.workers, len(sharing.work.missing()))
    if workers <= 1:
        sharing.member((0, 1))
    else:
        _Processes(sharing, workers).run()


@dataclass
class _Processes:
    sharing: "Sharing"
    workers: int
    _alive: dict[int, SpawnProcess] = field(default_factory=dict)
    _said: list[_Said] = field(default_factory=list)
    _died: str = ""
    _replaced: int = 0

    def run(self) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._ends: SimpleQueue[_Said] = self._context.SimpleQueue()
        try:
            for rank in range(self.workers):
                self._start(rank)
            while self._alive:
                self._look()
                interruption.check()
                time.sleep(0.5)
        finally:
            self._end()
        self._hear()
        if self.sharing.work.missing():
            last = next((said for said in self._said), None)
            if last is not None:
                raise ImagecotError(last.message)
            raise ImagecotError(
                f"a worker process died (it {self._died}); run the same command again to go on, or use fewer --workers."
            )

    def _start(self, rank: int) -> None:
        """Start a process; it shares the threads of the machine with the others."""
        sharing = self.sharing
        given = (sharing.work, sharing.team, sharing.failures.before, rank, self.workers, self._ends)
        process = self._context.Process(target=_worker, args=given, daemon=True)
        process.start()
        self._alive[rank] = process

    def _look(self) -> None:
        """See how far the work is, and who has ended and how."""
        missing = self.sharing.work.missing()
        self.sharing.look(missing)
        ended = [rank for rank, process in self._alive.items() if not process.is_alive()]
        self._hear()
        for rank in ended:
            process = self._alive.pop(rank)
            if process.exitcode and not any(said.rank == rank for said in self._said):
                self._dead(rank, process.exitcode, missing)

    def _hear(self) -> None:
        """Take note of what processes said at their end; raise what ends the work."""
        while not self._ends.empty():
            said = self._ends.get()
            if said.usage:
                raise UsageError(said.message)
            if not said.alone:
                raise ImagecotError(said.message)
            self._said.append(said)
            if self.sharing.work.missing():
                self.sharing.watch.tell(f"worker {said.rank + 1} of {self.workers} stopped: {said.message}")

    def _dead(self, rank: int, code: int, missing: Sequence[Unit]) -> None:
        """Replace a process that ended without a word, unless that happened often."""
        self._died = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        self.sharing.failures.check()
        replaced = bool(missing) and self._replaced < REPLACED
        if replaced:
            self._replaced += 1
            self._start(rank)
        then = "another one takes its place" if replaced else "others go on"
        self.sharing.watch.tell(f"worker {rank + 1} of {self.workers} {self._died}; {then}.")

    def _end(self) -> None:
        """End all processes, which give back what they hold."""
        for process in self._alive.values():
            process.terminate()
        for process in self._alive.values():
            process.join(_GRACE)
            if process.is_alive():
                process.kill()
                process.join()


def _worker(
    work: "Work", team: "Team", before: frozenset[str], rank: int, workers: int, ends: "SimpleQueue[_Said]"
) -> None:
    """What a process does."""
    interruption.catch_signals()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from imagecot.execution.team import Sharing, nobody

    machine.share(rank, workers)
    camp = Camp(work.folder)
    sharing = Sharing(work, team, camp, Failures(camp.failures().folder, before), SILENT, nobody)
    try:
        sharing.member((rank, workers))
    except interruption.Stopped:
        return
    except ImagecotError as error:
        ends.put(_Said(rank, str(error), isinstance(error, UsageError), isinstance(error, Unable)))
    except Exception as error:
        if last_resort.switched_off():
            raise
        ends.put(_Said(rank, told(error), usage=False, alone=True))


def _end_with_parent() -> None:
    """End soon after the parent, which cannot end its workers when it is killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_GRACE)
        os._exit(1)
