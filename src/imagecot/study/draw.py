"""The units of a study that are missing, done in this process or shared among several."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from imagecot import interruption
from imagecot.errors import ImagecotError
from imagecot.processes import share
from imagecot.study.folder import stores
from imagecot.study.known import Weights
from imagecot.study.models import Judges, Shelf
from imagecot.study.pool import observe, write_pictures
from imagecot.study.recipe import StudyRecipe, Unit, due, units
from imagecot.study.rows import PoolRow
from imagecot.study.store import Store
from imagecot.watch import Progress, Watch

Places = Mapping[str, Store[PoolRow]]


def weight(recipe: StudyRecipe, unit: Unit) -> int:
    """About how long a unit takes: a search that draws anew, and maybe judges every step, as long as all else."""
    return 1 + sum(not row.how.replayed for row in due(recipe, unit).values())


def draw(recipe: StudyRecipe, weights: Weights, workers: int, shelf: Shelf, watch: Watch) -> None:
    """Do the missing units, in this process or shared among `workers`."""
    work = list(units(recipe))
    places = stores(recipe, weights)
    done = {key: store.numbers() for key, store in places.items()}
    todo = [unit for unit in work if unit.number not in done[unit.generator]]
    if not todo:
        return
    workers = min(workers, len(todo))
    with watch.progress("drawing and judging") as progress:
        left = Left(recipe, places, work, todo, workers, watch.tell, progress)
        left.look()
        if workers == 1:
            for _ in _follow(recipe, places, todo, shelf):
                left.look()
        else:
            shelf.clear()
            share(_work, (recipe, weights, todo), workers, left.look)
            left.look()
    if left.todo:
        raise ImagecotError("a worker process died; run the same command again to go on, or use fewer --workers.")


@dataclass
class Left:
    """What is left of a study's units, whoever does them, and who is told.

    work  all units
    todo  those that are still missing
    """

    recipe: StudyRecipe
    places: Places
    work: Sequence[Unit]
    todo: Sequence[Unit]
    workers: int
    tell: Callable[[str], None]
    progress: Progress
    lengths: Mapping[Unit, int] = field(init=False)
    _begun: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.lengths = {unit: weight(self.recipe, unit) for unit in self.work}

    def look(self) -> None:
        """See which units were kept since, and say how far the work is; after the first how long it takes."""
        before = self.todo
        self.todo = [unit for unit in before if not self.places[unit.generator].holds_new(unit.number)]
        remaining = sum(self.lengths[unit] for unit in self.todo)
        total = sum(self.lengths.values())
        self.progress(total - remaining, total)
        if not self._begun and len(self.todo) < len(before):
            self._begun = True
            first = next(unit for unit in before if unit not in self.todo)
            each = _seconds(self.places[first.generator], first.number) / self.lengths[first]
            span = _span(each * remaining / self.workers)
            self.tell(f"{len(self.todo)} of {len(self.work)} pools to draw, about {span}")


def _work(recipe: StudyRecipe, weights: Weights, todo: Sequence[Unit], rank: int, workers: int) -> None:
    """One process's share of the units."""
    for _ in _follow(recipe, stores(recipe, weights), todo[rank::workers], Shelf(recipe.precision)):
        pass


def _follow(recipe: StudyRecipe, places: Places, todo: Sequence[Unit], shelf: Shelf) -> Iterator[Unit]:
    """Do units and yield each when it is kept; only the models of one generator are held at a time."""
    judges = Judges.load(recipe.detector, recipe.world)
    for key, group in groupby(todo, lambda unit: unit.generator):
        models = shelf.of_rows(recipe, key)
        for unit in group:
            interruption.check()
            row, pictures = observe(recipe, unit, models, judges)
            places[key].claim()
            write_pictures(recipe.output, unit.number, pictures)
            places[key].keep(row)
            yield unit


def _seconds(store: Store[PoolRow], number: int) -> float:
    row = next(row for row in store.rows() if row.number == number)
    return row.ended - row.began


def _span(seconds: float) -> str:
    minutes = math.ceil(seconds / 60)
    return f"{minutes} minutes" if minutes < 100 else f"{minutes / 60:.1f} hours"
