"""The pools of a study that are missing, as a work of units: a prompt that one generator draws."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from imagecot.execution import machine
from imagecot.execution.work import Keep, Worker, absent
from imagecot.execution.work import Unit as Piece
from imagecot.study.folder import stores
from imagecot.study.known import Weights
from imagecot.study.models import Judges, Shelf
from imagecot.study.pool import observe, write_pictures
from imagecot.study.recipe import StudyRecipe, Unit, due, units
from imagecot.study.rows import PoolRow
from imagecot.study.store import Store

Places = Mapping[str, Store[PoolRow]]


def weight(recipe: StudyRecipe, unit: Unit) -> int:
    """About how long a unit takes: a search that draws anew, and maybe judges every step, as long as all else."""
    return 1 + sum(not row.how.replayed for row in due(recipe, unit).values())


@dataclass
class Pools:
    """The work of a study, as a `Work`; only the models of one generator are held at a time.

    shelf  models that are loaded already; another process has its own
    """

    recipe: StudyRecipe
    weights: Weights
    shelf: Shelf
    doing: str = "drawing and judging"
    _folded: dict[str, tuple[tuple[int, int], set[int]]] = field(default_factory=dict)

    def __reduce__(self) -> tuple[object, ...]:
        return Pools, (self.recipe, self.weights, Shelf(self.recipe.precision))

    @property
    def folder(self) -> Path:
        """That of the study."""
        return self.recipe.output

    @cached_property
    def places(self) -> Places:
        """Where the rows of each generator are kept."""
        return stores(self.recipe, self.weights)

    @cached_property
    def asked(self) -> dict[str, Unit]:
        """The prompts of each generator, by the names of their units."""
        return {f"{unit.generator}-{unit.number:05d}": unit for unit in units(self.recipe)}

    @cached_property
    def units(self) -> list[Piece]:
        """As of `Work.units`."""
        return [self._piece(name, unit) for name, unit in self.asked.items()]

    def _piece(self, name: str, unit: Unit) -> Piece:
        file = self.places[unit.generator].part(unit.number)
        return Piece(name, str(file.relative_to(self.folder)), unit.generator, weight(self.recipe, unit))

    def missing(self) -> list[Piece]:
        """The units whose rows are neither new nor folded."""
        new = absent(self.folder, self.units)
        return [piece for piece in new if not self._is_folded(self.asked[piece.name])]

    def done(self, piece: Piece) -> bool:
        """As of `Work.done`."""
        return (self.folder / piece.marker).is_file() or self._is_folded(self.asked[piece.name])

    def _is_folded(self, unit: Unit) -> bool:
        """Whether a row is in the one file, which is read whenever it has changed."""
        store = self.places[unit.generator]
        if not store.file.exists():
            return False
        state = store.file.stat()
        seen = state.st_ino, state.st_mtime_ns
        if self._folded.get(unit.generator, (None,))[0] != seen:
            self._folded[unit.generator] = seen, store.numbers()
        return unit.number in self._folded[unit.generator][1]

    def load(self) -> Worker:
        """The judges; generators follow when they are asked for."""
        machine.settle()
        return _Drawer(self, Judges.load(self.recipe.detector, self.recipe.world))


@dataclass(frozen=True)
class _Drawer:
    pools: Pools
    judges: Judges

    def do(self, piece: Piece) -> Keep:
        """Draw a pool and look at it."""
        pools = self.pools
        unit = pools.asked[piece.name]
        row, pictures = observe(pools.recipe, unit, pools.shelf.of_rows(pools.recipe, unit.generator), self.judges)

        def keep() -> None:
            store = pools.places[unit.generator]
            store.claim()
            write_pictures(pools.folder, unit.number, pictures)
            store.offer(row)

        return keep


@dataclass
class Left:
    """Tells, when the first of the units is done, how many are left and how long they take.

    before  the units that are missing at first
    """

    pools: Pools
    before: Sequence[Piece]
    workers: int
    tell: Callable[[str], None]
    _told: bool = False

    def look(self, missing: Sequence[Piece]) -> None:
        """See which units were kept since."""
        if self._told or len(missing) >= len(self.before):
            return
        left = {piece.name for piece in missing}
        first = next((piece for piece in self.before if piece.name not in left), None)
        taken = None if first is None else _seconds(self.pools, first)
        if first is None or taken is None:
            return
        self._told = True
        span = _span(taken / first.weight * sum(piece.weight for piece in missing) / self.workers)
        self.tell(f"{len(missing)} of {len(self.pools.units)} pools to draw, about {span}")


def _seconds(pools: Pools, piece: Piece) -> float | None:
    unit = pools.asked[piece.name]
    rows = pools.places[unit.generator].rows()
    return next((row.ended - row.began for row in rows if row.number == unit.number), None)


def _span(seconds: float) -> str:
    minutes = math.ceil(seconds / 60)
    return f"{minutes} minutes" if minutes < 100 else f"{minutes / 60:.1f} hours"
