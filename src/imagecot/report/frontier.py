"""What is said of a frontier: every search at every budget, which ones reach the best, and all at equal seconds."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from imagecot.reading import read_record
from imagecot.report import render
from imagecot.report.blocks import Block, Code, Fold, Heading, Items, Line, Paragraph, Picture, Strong, Table
from imagecot.report.frontier_figure import draw
from imagecot.report.read import ADVICE
from imagecot.report.tables import NONE, number, points
from imagecot.study.frontier.summary import FRONTIER, Clock, FrontierSummary, Level, OfGenerator, Point

TITLE = "Searches at equal seconds"
README_HEAD = [
    "generator",
    "search",
    "N",
    "score",
    "second judge",
    "to the best",
    "95 % interval",
    "seconds",
    "judge",
    "share",
]


def read(folder: Path) -> FrontierSummary:
    """Read a frontier's folder; ImagecotError where its numbers are damaged."""
    return read_record(folder / FRONTIER, FrontierSummary, advice=ADVICE)


def contents(summary: FrontierSummary) -> list[Block]:
    """The whole report."""
    blocks: list[Block] = [
        Paragraph(
            "All searches on the same recorded pools of paths. Score: GenEval's, ± one standard error, by both judges. "
            "To the best: the paired difference, in points, to the search that the others are held against, at its "
            "largest budget. Seconds an image: those that were measured in real runs a counted row and answer, times "
            "the counts of all prompts. Bold: not dominated, as no other has a score at least as high in less time."
        ),
        figure(summary),
    ]
    for found in summary.generators.values():
        blocks += _of_generator(found)
    return [*blocks, *_provenance(summary)]


def figure(summary: FrontierSummary) -> Picture:
    """The curves of all searches over seconds, a panel a generator."""
    return Picture("frontier", draw(summary), "Score over seconds an image of every search, for each generator")


def _of_generator(found: OfGenerator) -> list[Block]:
    blocks: list[Block] = [Heading(f"Generator {found.generator}"), every_point(found)]
    if found.reached:
        blocks += [Paragraph(f"Where a search first is at most a point below {_best(found)}:"), reached(found)]
    if found.at_seconds:
        words = (
            f"At equal seconds: points above {found.label(found.against)}, in the time that it takes for N paths, with "
            "95 % intervals. Between two budgets a search is interpolated; where its largest takes less, it is that."
        )
        blocks += [Paragraph(words), at_seconds(found)]
    return blocks


def _best(found: OfGenerator) -> str:
    largest = found.rows[found.against].points[-1].n
    return f"{found.label(found.against)} with N = {largest}"


def every_point(found: OfGenerator) -> Table:
    """Each search at each budget, then a random path and the oracle."""
    head = [
        "search",
        "verifier",
        "N",
        "prompts",
        "score",
        "second judge",
        "to the best",
        "95 % interval",
        "second judge",
    ]
    head += ["s", "s generator", "s judge", "± s", "a run", "generator rows", "previews", "judge calls"]
    undominated = {(place.row, place.n) for place in found.frontier}
    rows: list[list[Line]] = []
    for name, line in found.rows.items():
        for point in line.points:
            label = found.label(name)
            said: Line = Strong(label) if (name, point.n) in undominated else label
            rows.append(
                [said, line.verifier or NONE, str(point.n), str(point.prompts), *_scores(point), *_costs(point)]
            )
    for words, bounds in (("a random path", found.random[:1]), ("oracle", found.oracle)):
        for bound in bounds:
            cells = [NONE, str(bound.n), NONE, *_both(bound.score)]
            rows.append([words, *cells, *[NONE] * (len(head) - 1 - len(cells))])
    return Table(head, rows)


def _scores(point: Point) -> list[str]:
    best = point.to_best
    first, second = (best[0] if best else None), (best[1] if len(best) > 1 else None)
    return [*_both(point.score), points(first.value if first else None), _interval(first), _interval(second)]


def _costs(point: Point) -> list[str]:
    took = point.seconds
    seconds = [took.total, took.generator, took.judge, took.standard_error] if took else [None] * 4
    counts = [number(count, 1) for count in (point.generator_rows, point.previews, point.judge_calls)]
    return [*(number(value, 2) for value in seconds), _share(took.a_run if took else None), *counts]


def reached(found: OfGenerator) -> Table:
    """Where each search first comes within a point of the best."""
    head = ["search", "N", "seconds", "share of the best's seconds", "to the best", "95 % interval", "second judge"]
    rows: list[list[Line]] = []
    for one in found.reached:
        first, *others = one.to_best
        second = _interval(others[0] if others else None)
        cells = [
            str(one.n),
            number(one.seconds, 2),
            number(one.share, 2),
            points(first.value),
            _interval(first),
            second,
        ]
        rows.append([found.label(one.row), *cells])
    return Table(head, rows)


def at_seconds(found: OfGenerator) -> Table:
    """Each search at the seconds of each budget of the one that they are held against."""
    head = ["search", *(f"{at.seconds:.2g} s (N = {at.n})" for at in found.at_seconds)]
    names = [name for name in found.rows if name != found.against]
    rows: list[list[Line]] = []
    for name in names:
        levels = [at.minus.get(name, [None])[0] for at in found.at_seconds]
        rows.append(
            [found.label(name), *(f"{points(one.value)} ({_interval(one)})" if one else NONE for one in levels)]
        )
    return Table(head, rows)


def _both(levels: Sequence[Level]) -> list[str]:
    cells = [
        f"{one.value:.3f}" + (f" (±{one.standard_error:.3f})" if one.standard_error is not None else "")
        for one in levels[:2]
    ]
    return cells + [NONE] * (2 - len(cells))


def _interval(one: Level | None) -> str:
    if one is None or one.low is None or one.high is None:
        return NONE
    return f"{points(one.low)} to {points(one.high)}"


def _share(value: float | None) -> str:
    return NONE if value is None else f"{value:.0%}"


def _provenance(summary: FrontierSummary) -> list[Block]:
    facts: Mapping[str, object] = {
        "command": summary.command,
        "date": summary.date,
        "prompts": summary.prompts,
        "seed": summary.recipe.get("seed"),
        "precision": summary.recipe.get("precision"),
        "orders of each pool": summary.recipe.get("orders"),
        "prompts that were timed": summary.recipe.get("timed_prompts"),
        "of these at once": summary.recipe.get("timed_together"),
        "at once of searches in rounds": summary.recipe.get("timed_in_rounds"),
        "machine": json.dumps(summary.machine),
        "versions": json.dumps(summary.versions),
    }
    lines: list[Line] = [f"{key}: {value}" for key, value in facts.items() if value not in (None, "")]
    settings: list[Line] = [
        (f"{found.label(name)}: ", Code(json.dumps(dict(line.settings))))
        for found in summary.generators.values()
        for name, line in found.rows.items()
        if line.settings
    ]
    return [Heading("Where the numbers come from"), Items(lines), Fold("Settings", [Items(settings or ["none"])])]


def readme_fragment(summary: FrontierSummary, figures_folder: str) -> str:
    """What a README shows: each search where it first reaches the best, else at its largest budget, and the figure."""
    rows = [line for found in summary.generators.values() for line in _readme_rows(found)]
    said = f"{summary.prompts} prompts" if summary.prompts else "held-out prompts"
    return render.fragment(
        Table(README_HEAD, rows), said, summary.date, summary.command, [figure(summary)], figures_folder
    )


def _readme_rows(found: OfGenerator) -> list[list[Line]]:
    at = {one.row: one.n for one in found.reached}
    best = found.rows[found.against].points[-1]
    shown: list[list[Line]] = []
    for name, line in found.rows.items():
        # The one that the others are held against is shown as what it is: the best.
        wanted = best.n if name == found.against else at.get(name, line.points[-1].n)
        point = next(point for point in line.points if point.n == wanted)
        shown.append([found.generator, found.label(name), str(point.n), *_readme_cells(point, best)])
    return shown


def _readme_cells(point: Point, best: Point) -> list[str]:
    first = point.to_best[0] if point.to_best else None
    took, whole = point.seconds, best.seconds
    share = _of(took, whole)
    seconds = [number(took.total if took else None, 2), number(took.judge if took else None, 2)]
    return [*_both(point.score), points(first.value if first else None), _interval(first), *seconds, share]


def _of(took: Clock | None, whole: Clock | None) -> str:
    return number(took.total / whole.total, 2) if took and whole and whole.total else NONE
