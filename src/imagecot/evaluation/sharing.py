"""The units of an evaluation shared out: in this process, in several of this machine, or under a launcher."""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch

from imagecot.errors import ImagecotError
from imagecot.evaluation.state import Evaluation, Piece
from imagecot.files import check_writable
from imagecot.identity import Identity
from imagecot.launch import launched, leftovers
from imagecot.processes import share
from imagecot.watch import SILENT, Watch

Done = Callable[[], None]


class Worker(Protocol):
    """Who does units, with all models loaded."""

    @property
    def settings(self) -> Identity:
        """The settings of the models: entries of the identity."""
        ...

    def check(self) -> None:
        """Raise UsageError for what the models cannot do."""
        ...

    def work(self, todo: Sequence[Piece], state: Evaluation, done: Done) -> None:
        """Do these units one after another, and call `done` behind each."""
        ...


class Shared(Protocol):
    """An evaluation whose units can be shared; it can be sent to another process."""

    @property
    def workers(self) -> int:
        """Processes, where no launcher started this one."""
        ...

    def worker(self) -> Worker:
        """Load the models."""
        ...


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


def do(job: Shared, state: Evaluation, todo: Sequence[Piece], watch: Watch, where: tuple[int, int]) -> None:
    """Do what is missing: in this process, in several of this machine, or this one's part under a launcher.

    where  which process of how many this is
    """
    if state.changed:
        watch.tell(f"the images have changed since {state.out} was written; they are scored again.")
    check_writable(state.out)
    rank, world = where
    if world > 1:
        _work_on(job, state, todo[rank::world], watch)
        from accelerate import PartialState

        PartialState(cpu=not torch.cuda.is_available()).wait_for_everyone()
        return
    missing = state.missing(todo)
    workers = min(job.workers, len(missing))
    if workers <= 1:
        _work_on(job, state, todo, watch)
        return
    with watch.progress("evaluating") as progress:
        share(
            _worker, (job, state, missing), workers,
            lambda: progress(len(todo) - len(state.missing(todo)), len(todo)),
        )  # fmt: skip
    if state.missing(todo):
        raise ImagecotError("a worker process died; run the same command again to go on, or use fewer --workers.")


def _worker(job: Shared, state: Evaluation, missing: Sequence[Piece], rank: int, workers: int) -> None:
    """One process's share of the units."""
    _work_on(job, Evaluation(state.out, state.identity), missing[rank::workers], SILENT)


def _work_on(job: Shared, state: Evaluation, todo: Sequence[Piece], watch: Watch) -> None:
    """Do those units that are missing, in this process."""
    missing = state.missing(todo)
    if not missing:
        return
    with watch.waiting("loading the models"):
        worker = job.worker()
    worker.check()
    state.settle(worker.settings)
    left = len(missing)
    with watch.progress("evaluating") as progress:

        def done() -> None:
            nonlocal left
            left -= 1
            progress(len(todo) - left, len(todo))

        worker.work(missing, state, done)
