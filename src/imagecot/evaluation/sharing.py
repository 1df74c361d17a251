"""The units of an evaluation as a work that is shared out: which are missing, and who does them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from imagecot.evaluation.state import Evaluation, Piece
from imagecot.execution.team import Team, carry_out
from imagecot.execution.work import Keep, Unit, Worker, absent
from imagecot.identity import Identity
from imagecot.watch import Watch

Found = TypeVar("Found")


class Scorer(Protocol):
    """Who does units, with all models loaded."""

    @property
    def settings(self) -> Identity:
        """The settings of the models: entries of the identity."""
        ...

    def check(self) -> None:
        """Raise UsageError for what the models cannot do."""
        ...

    def work(self, piece: Piece, state: Evaluation) -> Keep:
        """Do a unit, and return what keeps it."""
        ...


class Shared(Protocol):
    """An evaluation whose units can be shared; it can be sent to another process."""

    @property
    def team(self) -> Team:
        """Who takes part."""
        ...

    def worker(self) -> Scorer:
        """Load the models."""
        ...


@dataclass(frozen=True)
class Units:
    """The work of an evaluation, as a `Work`."""

    job: Shared
    state: Evaluation
    pieces: Sequence[Piece]
    doing: str = "evaluating"
    units: list[Unit] = field(init=False)

    def __post_init__(self) -> None:
        units = [Unit(piece.name, str(self.state.file(piece).relative_to(self.state.out))) for piece in self.pieces]
        object.__setattr__(self, "units", units)

    @property
    def folder(self) -> Path:
        """That of the evaluation."""
        return self.state.out

    def missing(self) -> list[Unit]:
        """The units that are still to be done; the parts go behind the results."""
        return [] if self.state.finished else absent(self.folder, self.units)

    def done(self, unit: Unit) -> bool:
        """As of `Work.done`."""
        return (self.folder / unit.marker).is_file() or self.state.finished

    def load(self) -> Worker:
        """Load the models; UsageError for what they cannot do."""
        scorer = self.job.worker()
        scorer.check()
        self.state.settle(scorer.settings)
        return _Pieces(scorer, self.state, {piece.name: piece for piece in self.pieces})


@dataclass(frozen=True)
class _Pieces:
    scorer: Scorer
    state: Evaluation
    pieces: dict[str, Piece]

    def do(self, unit: Unit) -> Keep:
        return self.scorer.work(self.pieces[unit.name], self.state)


def share(
    job: Shared,
    state: Evaluation,
    pieces: Sequence[Piece],
    watch: Watch,
    conclude: Callable[[], None],
    read: Callable[[], Found],
) -> Found:
    """Do what is missing together with whoever does so too, and return what was found; as of `carry_out`.

    conclude  writes the results
    read      reads them back
    """
    if state.changed:
        watch.tell(f"the images have changed since {state.out} was written; they are scored again.")

    def concluded() -> Found:
        if not state.finished:
            conclude()
        return read()

    return carry_out(Units(job, state, pieces), job.team, watch, concluded, read)
