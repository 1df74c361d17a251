"""The numbers of a frontier: scores, paired differences and seconds by search and budget, and who is not dominated."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imagecot.study.frontier.levels import Values, level, minus
from imagecot.study.frontier.rows import Replayed
from imagecot.study.frontier.seconds import clock
from imagecot.study.frontier.summary import (
    AtSeconds,
    Bound,
    Clock,
    Level,
    Line,
    OfGenerator,
    Place,
    Point,
    Reached,
)
from imagecot.study.recipe import RowRecipe
from imagecot.study.rows import TimingRow

MARGIN = 0.01  # a point: how far below the best a search may be that reaches it


@dataclass(frozen=True)
class Observed:
    """What was observed of one generator's searches.

    rows     of the recipe, by name, with their budgets in `sizes`
    kept     by row the prompts that it has
    timed    the timed runs of each row
    tasks    of prompts, by number
    pools    by number what each judge says of the paths of a pool (judges, paths)
    against  the row that the others are held against
    """

    rows: Mapping[str, RowRecipe]
    sizes: Mapping[str, Sequence[int]]
    kept: Mapping[str, Mapping[int, Replayed]]
    timed: Mapping[str, Sequence[TimingRow]]
    tasks: Mapping[int, str]
    pools: Mapping[int, NDArray[np.bool_]]
    against: str

    @property
    def judges(self) -> int:
        """How many judges looked."""
        return len(next(iter(next(iter(self.kept[self.against].values())).by_n.values())).right)

    def right(self, name: str, n: int, judge: int) -> dict[int, float]:
        """Shares of right images by prompt, of a row with n paths by one judge."""
        return {number: row.by_n[str(n)].right[judge] for number, row in self.kept[name].items()}

    def best(self, judge: int) -> dict[int, float]:
        """The same of the row that the others are held against, at its largest budget."""
        return self.right(self.against, self.sizes[self.against][-1], judge)


def analyse(generator: str, observed: Observed, budgets: Sequence[int]) -> OfGenerator:
    """All that is said of a generator's searches; rows without prompts are left out."""
    lines = {name: _line(observed, name) for name in observed.rows if observed.kept[name]}
    best = lines[observed.against].points[-1]
    return OfGenerator(
        generator=generator,
        against=observed.against,
        rows=lines,
        random=[_bound(observed, n, _random) for n in budgets],
        oracle=[_bound(observed, n, _oracle) for n in budgets],
        frontier=frontier(lines),
        reached=reached(lines, best),
        at_seconds=_at_seconds(observed, lines),
    )


def _line(observed: Observed, name: str) -> Line:
    row = observed.rows[name]
    return Line(
        label=row.label,
        search=row.search,
        verifier=row.verifier,
        settings=row.how.settings.model_dump(mode="json"),
        points=[_point(observed, name, n) for n in observed.sizes[name]],
    )


def _point(observed: Observed, name: str, n: int) -> Point:
    means = [row.by_n[str(n)] for row in observed.kept[name].values()]
    rows, previews, calls = (
        sum(found) / len(means)
        for found in zip(*((mean.generator_rows, mean.previews, mean.judge_calls) for mean in means), strict=True)
    )
    right = [observed.right(name, n, judge) for judge in range(observed.judges)]
    gaps = [minus(values, observed.best(judge)) for judge, values in enumerate(right)]
    return Point(
        n=n,
        prompts=len(means),
        score=[level(values, observed.tasks) for values in right],
        to_best=[level(gap, observed.tasks) for gap in gaps if gap],
        generator_rows=rows,
        previews=previews,
        judge_calls=calls,
        seconds=clock([run for run in observed.timed[name] if run.n == n], rows, calls),
    )


def _bound(observed: Observed, n: int, share: Callable[[NDArray[np.bool_], int], float]) -> Bound:
    values = [
        {number: share(correct[judge], n) for number, correct in observed.pools.items()}
        for judge in range(observed.judges)
    ]
    return Bound(n=n, score=[level(found, observed.tasks) for found in values])


def _random(correct: NDArray[np.bool_], n: int) -> float:
    """P(a path is right) of any of them."""
    return float(correct.mean())


def _oracle(correct: NDArray[np.bool_], n: int) -> float:
    """P(any of n paths is right), over all choices of n of the pool."""
    wrong = int((~correct).sum())
    return 1 - math.comb(wrong, n) / math.comb(len(correct), n)


def frontier(lines: Mapping[str, Line]) -> list[Place]:
    """The points that no other dominates, the quickest first: of equal ones the first named."""
    timed = sorted(_timed(lines), key=lambda found: (found[2].total, -found[1].to_best[0].value))
    found: list[Place] = []
    highest = -math.inf
    for name, point, _ in timed:
        if point.to_best[0].value > highest:
            highest = point.to_best[0].value
            found.append(Place(row=name, n=point.n))
    return found


def reached(lines: Mapping[str, Line], best: Point) -> list[Reached]:
    """Where each row first comes within the margin of the best by the first judge, the quickest row first."""
    if best.seconds is None:
        return []
    found: dict[str, Reached] = {}
    for name, point, seconds in sorted(_timed(lines), key=lambda found: found[2].total):
        if name not in found and point.to_best[0].value >= -MARGIN:
            share = seconds.total / best.seconds.total
            found[name] = Reached(row=name, n=point.n, seconds=seconds.total, share=share, to_best=point.to_best)
    return list(found.values())


def _timed(lines: Mapping[str, Line]) -> Iterator[tuple[str, Point, Clock]]:
    for name, line in lines.items():
        for point in line.points:
            if point.seconds is not None and point.to_best:
                yield name, point, point.seconds


def _at_seconds(observed: Observed, lines: Mapping[str, Line]) -> list[AtSeconds]:
    """All searches at the seconds of each budget of the row that they are held against."""
    found = []
    for base in lines[observed.against].points:
        if base.seconds is None:
            continue
        seconds, at = base.seconds.total, {}
        for name, line in lines.items():
            levels = _minus(observed, name, line, base.n, seconds)
            if name != observed.against and levels:
                at[name] = levels
        found.append(AtSeconds(n=base.n, seconds=seconds, minus=at))
    return found


def _minus(observed: Observed, name: str, line: Line, n: int, seconds: float) -> list[Level]:
    """A row at so many seconds beside the other one with n paths, by each judge; empty where it needs longer."""
    shares = shares_at([(point.n, point.seconds.total) for point in line.points if point.seconds], seconds)
    found = []
    for judge in range(observed.judges):
        values: Values = mixed([(observed.right(name, m, judge), share) for m, share in shares])
        gap = minus(values, observed.right(observed.against, n, judge))
        if gap:
            found.append(level(gap, observed.tasks))
    return found


def shares_at(points: Sequence[tuple[int, float]], seconds: float) -> list[tuple[int, float]]:
    """The budgets between which a search is at so many seconds, with their shares that add to 1.

    points  budgets with the seconds that they take

    The largest alone where even that takes less; none where the smallest takes longer.
    """
    ordered = sorted(points, key=lambda point: point[1])
    before = [point for point in ordered if point[1] <= seconds]
    if not before:
        return []
    if len(before) == len(ordered):
        return [(before[-1][0], 1.0)]
    (n, low), (more, high) = before[-1], ordered[len(before)]
    share = math.log(seconds / low) / math.log(high / low) if low else 1.0
    return [(n, 1 - share), (more, share)]


def mixed(parts: Sequence[tuple[Values, float]]) -> dict[int, float]:
    """The sum of values by prompt, each with its share; nothing where there are no parts."""
    if not parts:
        return {}
    return {number: sum(values[number] * share for values, share in parts) for number in parts[0][0]}
