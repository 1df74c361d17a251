"""All settings of searches tried on the pools, each with the same orders of their paths as best-of-n."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from imagecot import interruption
from imagecot.calibration.costs import Costs
from imagecot.calibration.pools import PoolRow
from imagecot.contracts.search import Calibrated, Strategy
from imagecot.contracts.values import JSON
from imagecot.statistics.clustered import mean_error
from imagecot.strategies.best_of_n import BestOfN
from imagecot.strategies.options import NoSettings, told, validated
from imagecot.strategies.replay import DECODE, PREVIEW, STEP, NotRecordedError, replay
from imagecot.study.searches import strategy_named
from imagecot.watch import Progress

ROWS, CALLS, PREVIEWS, ALONE, TOGETHER = range(5)  # columns of what is spent


@dataclass(frozen=True)
class Tried:
    """A search with some settings, on P prompts; means over orders.

    right  (judges, P) how right the chosen images are, from 0 to 1
    spent  (5, P) path steps, judge calls, images decoded, seconds alone, and seconds where searches share batches
    """

    search: str
    settings: Mapping[str, JSON]
    right: NDArray[np.float64]
    spent: NDArray[np.float64]


@dataclass(frozen=True)
class Compared:
    """The same beside best-of-n of the same paths."""

    tried: Tried
    best: Tried

    @cached_property
    def differences(self) -> NDArray[np.float64]:
        """(judges, P) points that are gained."""
        found: NDArray[np.float64] = 100 * (self.tried.right - self.best.right)
        return found

    def difference(self, judge: int = 0) -> float:
        """Points of the score, less those of best-of-n."""
        return float(self.differences[judge].mean())

    def error(self, judge: int = 0) -> float:
        """Standard error of the difference, by prompt; 0 for one prompt, which has none."""
        values = self.differences[judge]
        return mean_error(values.tolist(), range(len(values))) or 0.0

    def share(self, column: int) -> float:
        """What is spent, as a share of what best-of-n does."""
        return float(self.tried.spent[column].sum() / self.best.spent[column].sum())

    def each(self, column: int) -> float:
        """What is spent on a prompt."""
        return float(self.tried.spent[column].mean())


@dataclass(frozen=True)
class Comparing:
    """The pools, what work on them costs, and in how many orders the paths of each are drawn."""

    rows: Sequence[PoolRow]
    costs: Costs
    orders: int
    seed: int

    def tried(self, name: str, search: Strategy, settings: BaseModel) -> Tried:
        """Replay a search; NotRecordedError where it asks for what is not recorded."""
        judges = len(self.rows[0].right)
        right, spent = np.zeros((judges, len(self.rows))), np.zeros((5, len(self.rows)))
        for place, row in enumerate(self.rows):
            recorded = row.recorded
            for order in self._orders[place]:
                taken, did = replay(search, settings, recorded, order)
                right[:, place] += [found[taken] for found in row.right]
                items = did.items
                calls = items.total() - items[STEP] - items[PREVIEW] - items[DECODE]
                looks = items[PREVIEW] + items[DECODE]
                spent[:, place] += items[STEP], calls, looks, self.costs.alone(did), self.costs.together(did)
        return Tried(name, told(settings), right / self.orders, spent / self.orders)

    @cached_property
    def _orders(self) -> list[list[list[int]]]:
        """The orders of the paths of each row."""
        found = []
        for row in self.rows:
            rng = random.Random(f"{self.seed}:{row.prompt}")
            paths = len(row.final)
            found.append([rng.sample(range(paths), paths) for _ in range(self.orders)])
        return found


def trials_of(name: str, rows: Sequence[PoolRow]) -> list[BaseModel]:
    """The settings that a search which is `Calibrated` wants to be tried with, each once."""
    search, steps = strategy_named(name), rows[0].steps
    assert isinstance(search, Calibrated)  # as was made sure before anything was drawn
    scores = [p for row in rows for p in row.final]
    found = (validated(search, settings, {"steps": steps}) for settings in search.trials(steps, scores))
    unique = {one.model_dump_json(): one for one in found if not isinstance(one, ValidationError)}
    return list(unique.values())


def compare(name: str, comparing: Comparing, progress: Progress) -> tuple[list[Compared], int]:
    """Try all settings of a search; return them beside best-of-n, and how many could not be replayed."""
    best = comparing.tried("best-of-n", BestOfN(), NoSettings())
    trials, found, left_out = trials_of(name, comparing.rows), [], 0
    for k, settings in enumerate(trials):
        interruption.check()
        try:
            found.append(Compared(comparing.tried(name, strategy_named(name), settings), best))
        except NotRecordedError:
            left_out += 1
        progress(k + 1, len(trials))
    return found, left_out
