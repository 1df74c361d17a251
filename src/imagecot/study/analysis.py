"""The numbers of a study from what was observed: the table, the curves over N, paired comparisons, the gallery.

Everything here is a function of the observed rows by generator and works on a study in progress: a row counts the
prompts that it has.
"""

from collections.abc import Iterator
from dataclasses import asdict
from itertools import combinations
from typing import Any

from imagecot.geneval.summary import Summary, compare, summarize
from imagecot.study.choices import chosen, judged
from imagecot.study.names import readable
from imagecot.study.pool import picture_of
from imagecot.study.recipe import ORACLE, RANDOM, RowRecipe, StudyRecipe, Unit, due, units
from imagecot.study.reliability import reliability, steps_used
from imagecot.study.rows import Row
from imagecot.study.searches import sizes
from imagecot.study.timing import Timing

Observed = dict[str, list[Row]]  # by generator
BASELINE = "baseline"


def analyse(recipe: StudyRecipe, observed: Observed, timing: Timing) -> dict[str, Any]:
    """All that a summary says of the rows; without those that no prompt was drawn for yet."""
    there = {
        name: row for name, row in recipe.rows.items() if any(name in o["searches"] for o in observed[row.generator])
    }
    pools = [key for key, rows in observed.items() if rows and recipe.chosen_from(key)]
    table = {name: table_row(recipe, observed, name, row, timing) for name, row in there.items()}
    for key in pools:
        table |= {f"{name}@{key}": pool_row(recipe, observed[key], name, key, timing) for name in (RANDOM, ORACLE)}
    return {
        "rows": table,
        "curves": {key: curves(recipe, observed[key], key, there, timing) for key in pools},
        "comparisons": comparisons(recipe, observed, there),
        "reliability": {
            name: {"verifier": row.verifier, **reliability(observed[row.generator], name)}
            for name, row in there.items()
            if row.how.chooses and not row.how.stops and row.verifier
        },
        "steps": {name: steps_used(observed[row.generator], name) for name, row in there.items() if row.how.stops},
        "agreement": {key: agreement(observed[key]) for key in pools},
        "gallery": gallery(recipe, observed),
    }


def scores_of(summary: Summary) -> Row:
    """A summary as a row of scores."""
    return {
        "overall": summary.overall,
        "overall_se": summary.overall_se,
        "tasks": {tag: score.score for tag, score in summary.tasks.items()},
        "tasks_se": {tag: score.se for tag, score in summary.tasks.items()},
    }


def both_judges(verdicts: list[list[Row]]) -> Row:
    """The scores of verdicts by judge; `second_judge` is None where there is one judge."""
    first, *others = [scores_of(summarize(found)) for found in verdicts]
    return {**first, "second_judge": others[0] if others else None}


def mean_cost(costs: list[Row]) -> Row:
    """What an image took on average, count by count."""
    return {key: sum(cost[key] for cost in costs) / len(costs) for key in costs[0]}


def table_row(recipe: StudyRecipe, observed: Observed, name: str, row: RowRecipe, timing: Timing) -> Row:
    """A row of the table at the study's N."""
    rows = [o for o in observed[row.generator] if name in o["searches"]]
    costs = [o["searches"][name]["cost"] for o in rows]
    n = row.sizes(recipe.n)[-1]
    return {
        "label": row.label or readable(name),
        "generator": row.generator,
        "search": row.search,
        "verifier": row.verifier,
        "n": n,
        **both_judges([judged(rows, name, row, recipe.n, judge) for judge in judges(rows)]),
        "seconds_per_image": timing.get(name, {}).get(n),
        "cost": mean_cost(costs),
        "prompts": len(rows),
    }


def pool_row(recipe: StudyRecipe, rows: list[Row], name: str, generator: str, timing: Timing) -> Row:
    """What a random choice of N paths would have, or one that is right whenever any of them is."""
    n = 1 if name == RANDOM else recipe.n
    words = {RANDOM: f"random of the {recipe.n}", ORACLE: f"oracle: any of the {recipe.n} is right"}
    ones = (name for name, row in recipe.rows_of(generator).items() if row.sizes(recipe.n) == [1] and not row.verifier)
    single = [name for name in ones if name in timing]
    return {
        "label": words[name],
        "generator": generator,
        "search": name,
        "verifier": None,
        "n": n,
        **both_judges([judged(rows, name, None, recipe.n, judge) for judge in judges(rows)]),
        "seconds_per_image": timing[single[0]].get(1) if name == RANDOM and single else None,
        "cost": {},
        "prompts": len(rows),
    }


def curves(
    recipe: StudyRecipe, rows: list[Row], generator: str, there: dict[str, RowRecipe], timing: Timing
) -> dict[str, list[Row]]:
    """Score over N of every row that chooses among the recorded paths of a generator, of a random choice and oracle."""
    lines: dict[str, RowRecipe | None] = {
        name: row for name, row in recipe.rows_of(generator).items() if row.how.chooses and name in there
    }
    lines |= {RANDOM: None, ORACLE: None}
    return {
        name: [
            {"n": n, **_point(rows, name, row, n), "seconds": timing.get(name, {}).get(n) if row else None}
            for n in (row.sizes(recipe.n) if row else sizes(recipe.n))
        ]
        for name, row in lines.items()
    }


def _point(rows: list[Row], name: str, row: RowRecipe | None, n: int) -> Row:
    first, *others = [summarize(judged(rows, name, row, n, judge)) for judge in judges(rows)]
    second = others[0] if others else None
    return {
        "overall": first.overall,
        "se": first.overall_se,
        "second": second and second.overall,
        "second_se": second and second.overall_se,
    }


def comparisons(recipe: StudyRecipe, observed: Observed, there: dict[str, RowRecipe]) -> list[Row]:
    """Paired differences a - b on the prompts that both have, by the first judge, and `second_judge` by the other.

    Of every row with the baseline, of all rows of one generator, and of rows that differ in their generator alone.
    """
    found = []
    ordered = sorted(there.items(), key=lambda item: item[0] != BASELINE)
    for (b, of_b), (a, of_a) in combinations(ordered, 2):
        if b != BASELINE and of_a.generator != of_b.generator and of_a.method != of_b.method:
            continue
        rows_a, rows_b = observed[of_a.generator], observed[of_b.generator]
        common = {o["number"] for o in rows_a if a in o["searches"]}
        common &= {o["number"] for o in rows_b if b in o["searches"]}
        if not common:
            continue
        rows_a, rows_b = ([o for o in rows if o["number"] in common] for rows in (rows_a, rows_b))
        first, *others = [
            asdict(compare(judged(rows_a, a, of_a, recipe.n, k), judged(rows_b, b, of_b, recipe.n, k)))
            for k in judges(rows_a)
        ]
        second = others[0] if others else None
        found.append({"a": a, "b": b, **first, "second_judge": second, "prompts": len(common)})
    return found


def agreement(rows: list[Row]) -> float | None:
    """The share of images of the pools on which the judges agree; None where there is one judge."""
    if len(judges(rows)) < 2:
        return None
    pairs = [(a, b) for row in rows for a, b in zip(*row["correct"], strict=True)]
    return sum(a == b for a, b in pairs) / len(pairs)


def gallery(recipe: StudyRecipe, observed: Observed) -> list[Row]:
    """The prompts whose chosen images were kept, with their files and each judge's verdict, by row."""
    by_unit = {(key, row["number"]): row for key, rows in observed.items() for row in rows}
    found: dict[int, Row] = {}
    for unit, name in _shown(recipe):
        row = by_unit.get((unit.generator, unit.number))
        if row is None:
            continue
        entry = found.setdefault(
            unit.number,
            {"prompt": unit.metadata["prompt"], "tag": unit.metadata["tag"], "images": {}, "correct": {}},
        )
        entry["images"][name] = picture_of(unit.number, name)
        entry["correct"][name] = chosen(row, name)
    return [found[number] for number in sorted(found)]


def _shown(recipe: StudyRecipe) -> Iterator[tuple[Unit, str]]:
    for unit in units(recipe):
        if unit.rank < recipe.gallery:
            yield from ((unit, name) for name in due(recipe, unit))


def judges(rows: list[Row]) -> range:
    """The judges that looked at observed rows."""
    return range(len(rows[0]["correct"]))
