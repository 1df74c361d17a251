"""The numbers of a study from what was observed: the table, the curves over N, paired comparisons, the gallery.

Everything here is a function of the observed rows by generator and works on a study in progress: a row counts the
prompts that it has.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from imagecot.statistics import paired
from imagecot.study.choices import atoms, by_judge, chosen
from imagecot.study.names import readable
from imagecot.study.pool import picture_of
from imagecot.study.recipe import ORACLE, RANDOM, RowRecipe, StudyRecipe, Unit, due, units
from imagecot.study.reliability import reliability, steps_used
from imagecot.study.rows import Counts, PoolRow
from imagecot.study.scores import ByJudge, Shown, gain, scored, scores, scores_of_parts
from imagecot.study.searches import sizes
from imagecot.study.summary import Comparison, Exhibit, Point, Row, Summary
from imagecot.study.timing import Timing

Observed = Mapping[str, Sequence[PoolRow]]  # by generator
BASELINE = "baseline"


def analyse(recipe: StudyRecipe, observed: Observed, timing: Timing) -> Summary:
    """All that a summary says of the rows; without those that no prompt was drawn for yet."""
    there = {name: row for name, row in recipe.rows.items() if any(name in o.searches for o in observed[row.generator])}
    pools = [key for key, rows in observed.items() if rows and recipe.chosen_from(key)]
    rows = {name: table_row(recipe, observed, name, row, timing) for name, row in there.items()}
    for key in pools:
        rows |= {f"{name}@{key}": pool_row(recipe, observed[key], name, key, timing) for name in (RANDOM, ORACLE)}
    return Summary(
        rows=rows,
        curves={key: curves(recipe, observed[key], key, there, timing) for key in pools},
        comparisons=comparisons(recipe, observed, there),
        reliability={
            name: reliability(observed[row.generator], name, row.verifier)
            for name, row in there.items()
            if row.how.chooses and not row.how.stops and row.verifier
        },
        steps={name: steps_used(observed[row.generator], name) for name, row in there.items() if row.how.stops},
        agreement={key: agreement(observed[key]) for key in pools},
        gallery=gallery(recipe, observed),
    )


def mean_cost(costs: Sequence[Counts]) -> dict[str, float]:
    """What an image took on average, count by count."""
    found = [cost.model_dump() for cost in costs]
    return {key: sum(cost[key] for cost in found) / len(found) for key in found[0]}


def table_row(recipe: StudyRecipe, observed: Observed, name: str, row: RowRecipe, timing: Timing) -> Row:
    """A row of the table at the study's N."""
    rows = [o for o in observed[row.generator] if name in o.searches]
    n = row.sizes(recipe.n)[-1]
    return Row(
        label=row.label or readable(name),
        generator=row.generator,
        search=row.search,
        verifier=row.verifier,
        n=n,
        **dict(scored(by_judge(rows, name, row, recipe.n))),
        seconds_per_image=timing.get(name, {}).get(n),
        cost=mean_cost([o.searches[name].cost for o in rows]),
        **_seen(rows, atoms(rows, name, row, recipe.n)),
    )


def pool_row(recipe: StudyRecipe, rows: Sequence[PoolRow], name: str, generator: str, timing: Timing) -> Row:
    """What a random choice of N paths would have, or one that is right whenever any of them is."""
    n = 1 if name == RANDOM else recipe.n
    words = {RANDOM: f"random of the {recipe.n}", ORACLE: f"oracle: any of the {recipe.n} is right"}
    ones = (name for name, row in recipe.rows_of(generator).items() if row.sizes(recipe.n) == [1] and not row.verifier)
    single = [name for name in ones if name in timing]
    return Row(
        label=words[name],
        generator=generator,
        search=name,
        verifier=None,
        n=n,
        **dict(scored(by_judge(rows, name, None, recipe.n))),
        seconds_per_image=timing[single[0]].get(1) if name == RANDOM and single else None,
        cost={},
        **_seen(rows, atoms(rows, name, None, recipe.n)),
    )


def _seen(rows: Sequence[PoolRow], shown: Sequence[Shown] | None) -> dict[str, Any]:
    """On how many prompts and draws a row is seen, and the shares of their parts that it shows."""
    prompts = {row.metadata.key for row in rows}
    return {
        "prompts": len(prompts),
        "draws": math.ceil(len(rows) / len(prompts)),
        "atoms": scores_of_parts(shown) if shown else None,
    }


def curves(
    recipe: StudyRecipe, rows: Sequence[PoolRow], generator: str, there: Mapping[str, RowRecipe], timing: Timing
) -> dict[str, list[Point]]:
    """Score over N of every row that chooses among the recorded paths of a generator, of a random choice and oracle."""
    lines: dict[str, RowRecipe | None] = {
        name: row for name, row in recipe.rows_of(generator).items() if row.how.chooses and name in there
    }
    lines |= {RANDOM: None, ORACLE: None}
    return {
        name: [
            _point(n, by_judge(rows, name, row, n), timing.get(name, {}).get(n) if row else None)
            for n in (row.sizes(recipe.n) if row else sizes(recipe.n))
        ]
        for name, row in lines.items()
    }


def _point(n: int, verdicts: ByJudge, seconds: float | None) -> Point:
    first, *others = map(scores, verdicts)
    second = others[0] if others else None
    return Point(
        n=n,
        overall=first.overall,
        se=first.overall_se,
        second=second.overall if second else None,
        second_se=second.overall_se if second else None,
        seconds=seconds,
    )


def comparisons(recipe: StudyRecipe, observed: Observed, there: Mapping[str, RowRecipe]) -> list[Comparison]:
    """Paired differences a - b on the prompts that both have, by the first judge, and `second_judge` by the other.

    Of every row with the baseline, of all rows of one generator, and of rows that differ in their generator alone.
    """
    found = []
    ordered = sorted(there.items(), key=lambda item: item[0] != BASELINE)
    for (b, of_b), (a, of_a) in combinations(ordered, 2):
        if b != BASELINE and of_a.generator != of_b.generator and of_a.method != of_b.method:
            continue
        rows_a, rows_b = observed[of_a.generator], observed[of_b.generator]
        common = {o.number for o in rows_a if a in o.searches} & {o.number for o in rows_b if b in o.searches}
        if not common:
            continue
        ours, theirs = (
            by_judge([o for o in rows if o.number in common], name, row, recipe.n)
            for rows, name, row in ((rows_a, a, of_a), (rows_b, b, of_b))
        )
        first, *others = map(gain, ours, theirs)
        second = others[0] if others else None
        prompts = len({o.metadata.key for o in rows_a if o.number in common})
        found.append(Comparison(a=a, b=b, **dict(first), second_judge=second, prompts=prompts))
    return found


def agreement(rows: Sequence[PoolRow]) -> float | None:
    """The share of images of the pools on which the judges agree; None where there is one judge."""
    if len(rows[0].correct) < 2:
        return None
    first, second = ([right for row in rows for right in row.correct[judge]] for judge in (0, 1))
    return paired.agreement(first, second)


def gallery(recipe: StudyRecipe, observed: Observed) -> list[Exhibit]:
    """The prompts whose chosen images were kept, with their files and each judge's verdict, by row."""
    by_unit = {(key, row.number): row for key, rows in observed.items() for row in rows}
    found: dict[int, dict[str, PoolRow]] = {}
    for unit, name in _shown(recipe):
        row = by_unit.get((unit.generator, unit.number))
        if row is not None:
            found.setdefault(unit.number, {})[name] = row
    return [_exhibit(number, found[number]) for number in sorted(found)]


def _exhibit(number: int, rows: Mapping[str, PoolRow]) -> Exhibit:
    """A prompt with what each row chose."""
    metadata = next(iter(rows.values())).metadata
    return Exhibit(
        prompt=metadata.prompt,
        tag=metadata.tag,
        images={name: picture_of(number, name) for name in rows},
        correct={name: list(chosen(row, name)) for name, row in rows.items()},
    )


def _shown(recipe: StudyRecipe) -> Iterator[tuple[Unit, str]]:
    for unit in units(recipe):
        if unit.shown(recipe.gallery):
            yield from ((unit, name) for name in due(recipe, unit))
