"""The tables of a report, and how its numbers are written."""

from collections.abc import Mapping

import numpy as np

from imagecot.geneval.prompts import TASKS
from imagecot.report.blocks import Line, Strong, Table
from imagecot.report.figures import LINES
from imagecot.report.paper import (
    CORRECTION,
    MAIN,
    Difference,
    Finding,
    difference,
    paper,
    paper_gain,
    printed,
)
from imagecot.study.names import readable
from imagecot.study.summary import Point, Row, Scored, Scores, SelfCorrection, Summary

NONE = "–"
OUTCOMES = {
    "agrees": "holds",
    "leans": "undecided, same direction",
    "equal": "equal within two points",
    "against": "undecided, not the same direction",
    "contradicts": "does not hold",
    None: "not measured",
}
NO_YARDSTICK = "no fine-tuned ORM to hold it against"


def score(scores: Scores | None) -> str:
    """An overall score with its standard error, where there is one."""
    if scores is None:
        return NONE
    return f"{scores.overall:.3f}" + (f" (±{scores.overall_se:.3f})" if scores.overall_se is not None else "")


def points(value: float | None) -> str:
    """A difference of scores in points (hundredths), with its sign."""
    return NONE if value is None else _signed(100 * value)


def _signed(value: float) -> str:
    text = f"{value:+.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", "−")


def interval(found: Difference | None) -> str:
    """The 95 % interval of a difference in points; ≈ where it is not a paired one."""
    if found is None or found.low is None or found.high is None:
        return NONE
    return f"{'' if found.paired else '≈ '}{points(found.low)} to {points(found.high)}"


def number(value: float | None, digits: int = 1) -> str:
    """A plain number, or a dash."""
    return NONE if value is None else f"{value:,.{digits}f}"


def ordered(summary: Summary) -> list[str]:
    """All rows: those of the paper in its order, then ours, then the lines random and oracle."""
    methods, places = summary.methods, list(paper().tables[MAIN])
    own = [name for name in methods if name not in places]
    return [name for name in places if name in methods] + own + [name for name in summary.rows if name not in methods]


def scores(summary: Summary) -> Table:
    """Every row: tasks and overall, ours / the paper's; the second judge; the gains over the baseline."""
    tasks = _tasks(summary.rows)
    head = ["method", *(task.replace("_", " ") for task in tasks), "overall", "second judge", "paper"]
    head += ["gain", "95 % interval", "paper's gain"]
    rows: list[list[Line]] = []
    for name in ordered(summary):
        row, theirs = summary.rows[name], printed(name)
        gain = None
        if name != "baseline" and "@" not in name:
            gain = difference(summary.methods, summary.comparisons, name, "baseline")
        rows.append(
            [
                summary.label(name),
                *(_task(row, theirs, task) for task in tasks),
                Strong(score(row)),
                score(row.second_judge),
                number(theirs.get("overall"), 2),
                points(gain.value if gain else None),
                interval(gain),
                points(paper_gain(name)) if theirs and name != "baseline" else NONE,
            ]
        )
    return Table(head, rows)


def told(summary: Summary) -> Table | None:
    """What both judges tell of every row, and the parts of its prompts that it shows; None where neither is known."""
    known = [name for name in ordered(summary) if summary.rows[name].told or summary.rows[name].atoms]
    if not known:
        return None
    rows: list[list[Line]] = []
    for name in known:
        row = summary.rows[name]
        shares = [row.told.right, row.told.untold, row.told.wrong] if row.told else [None] * 3
        rows.append([summary.label(name), *(number(share, 3) for share in shares), score(row.atoms)])
    return Table(["method", "right", "cannot be told", "wrong", "parts shown"], rows)


def _tasks(rows: Mapping[str, Row]) -> list[str]:
    """GenEval's tasks, then those of another world."""
    return list(dict.fromkeys([*TASKS, *(task for row in rows.values() for task in row.tasks)]))


def _task(row: Scores, theirs: Mapping[str, float], task: str) -> str:
    ours = number(row.tasks.get(task), 2)
    return f"{ours} / {theirs[task]:.2f}" if task in theirs else ours


def costs(summary: Summary) -> Table:
    """What each method takes: its parts, seconds, seconds a right image, and counted work an image."""
    head = ["method", "generator", "search", "verifier", "N", "prompts", "s / image", "s / correct image"]
    head += ["generator rows", "previews", "judge calls"]
    generators = summary.recipe.get("generators")
    model = generators if isinstance(generators, dict) else {}
    rows: list[list[Line]] = []
    for name in (name for name in ordered(summary) if name in summary.methods):
        row = summary.rows[name]
        counts = [number(row.cost.get(key), 0) for key in ("generator_rows", "previews", "judge_calls")]
        rows.append(
            [
                summary.label(name),
                str(model.get(row.generator, row.generator)) or NONE,
                row.search or NONE,
                row.verifier or NONE,
                number(row.n, 0),
                number(row.prompts, 0),
                number(row.seconds_per_image, 2),
                number(row.seconds_per_correct, 2),
                *counts,
            ]
        )
    return Table(head, rows)


def at_seconds(summary: Summary, generator: str) -> tuple[Table, list[tuple[str, float]], float] | None:
    """The scores of one generator's searches at equal seconds, interpolated between measured N over log seconds.

    Returns the table, the scores at its longest time (the best first) and that time. Only times that lie within what
    was measured of every search count; None where there are fewer than two searches or no such time.
    """
    found: dict[str, list[Point]] = {}
    for name, curve in summary.curves.get(generator, {}).items():
        timed = sorted((p for p in curve if p.seconds), key=lambda point: point.seconds or 0.0)
        if name not in LINES and timed:
            found[name] = timed
    if len(found) < 2:
        return None
    shortest = max(p[0].seconds or 0.0 for p in found.values())
    longest = min(p[-1].seconds or 0.0 for p in found.values())
    times = [longest / part for part in (4, 2, 1) if longest / part >= shortest]
    if not times:
        return None
    values = {name: [_interpolated(curve, time) for time in times] for name, curve in found.items()}
    lines: list[list[Line]] = [[summary.label(name), *(number(v, 3) for v in row)] for name, row in values.items()]
    table = Table(["at equal time", *(f"{time:.2g} s" for time in times)], lines)
    return table, sorted(((name, row[-1]) for name, row in values.items()), key=lambda pair: -pair[1]), longest


def _interpolated(curve: list[Point], seconds: float) -> float:
    x = [np.log(point.seconds or 0.0) for point in curve]
    return float(np.interp(np.log(seconds), x, [point.overall for point in curve]))


def findings(found: list[Finding], names: bool = False) -> Table:
    """Claims or orderings with the paper's number and ours, in points; with `names`, as pairs of rows."""
    head = ["the paper finds", "paper", "ours", "95 % interval", "second judge", ""]
    rows: list[list[Line]] = []
    for finding in found:
        claim = finding.claim
        text = claim.text if not names else f"{_pair(claim.a, claim.table)} above {_pair(claim.b, claim.table)}"
        ours, second = finding.ours, finding.second
        rows.append(
            [
                text,
                points(finding.paper),
                points(ours.value if ours else None),
                interval(ours),
                points(second.value if second else None),
                NO_YARDSTICK if ours and finding.outcome is None else OUTCOMES[finding.outcome],
            ]
        )
    return Table(head, rows)


def _pair(name: str, table: str) -> str:
    return readable(name) + (" (self-correcting)" if table == CORRECTION else "")


def self_correction(part: SelfCorrection) -> Table:
    """Table 5: scores ours / the paper's, and what reflection gains on each row."""
    tasks = _tasks(part.rows)
    head = ["method", "N", *(task.replace("_", " ") for task in tasks), "overall", "second judge", "paper"]
    head += ["s / image", "reflection gains", "95 % interval"]
    rows: list[list[Line]] = []
    for name, row in part.rows.items():
        theirs = printed(name, CORRECTION)
        reflecting = "parm++_with_reflection"
        gain = difference(part.rows, part.comparisons, reflecting, name) if name != reflecting else None
        rows.append(
            [
                part.label(name),
                number(row.n, 0),
                *(_task(row, theirs, task) for task in tasks),
                Strong(score(row)),
                score(row.second_judge),
                number(theirs.get("overall"), 2),
                number(row.seconds_per_image, 2),
                points(gain.value if gain else None),
                interval(gain),
            ]
        )
    return Table(head, rows)


def by_round(part: SelfCorrection) -> Table | None:
    """The score after each round of correction, first / second judge; None without rounds."""
    if not part.by_round:
        return None
    rounds = range(max(map(len, part.by_round.values())))
    rows: list[list[Line]] = []
    for name, found in part.by_round.items():
        rows.append([part.label(name), *(_both(found[k]) if k < len(found) else NONE for k in rounds)])
    return Table(["after rounds", *map(str, rounds)], rows)


def redrawn(part: SelfCorrection) -> Table | None:
    """What a correction is worth by itself: the right ones among a first round's images; None where nobody counted."""
    found = {name: one for name, one in part.redrawn.items() if one.prompts}
    if not found:
        return None
    rows: list[list[Line]] = []
    for name, one in found.items():
        shares = list(zip(one.right, one.standard_error, strict=True))[:2]
        cells = [f"{right:.3f} ({error:.3f})" for right, error in shares]
        rows.append([part.label(name), number(one.prompts, 0), *cells, *[NONE] * (2 - len(cells))])
    return Table(["told", "prompts", "right, first judge", "second judge"], rows)


def _both(row: Scored) -> str:
    return f"{row.overall:.3f}" + (f" / {row.second_judge.overall:.3f}" if row.second_judge else "")


def reliability(summary: Summary) -> Table:
    """How far the verifiers' P(yes) can be believed, in numbers."""
    head = ["chooses in", "verifier", "AUROC", "balanced accuracy", "calibration error", "paths"]
    rows: list[list[Line]] = []
    for name, entry in summary.reliability.items():
        measured = [number(value, 3) for value in (entry.auroc, entry.balanced_accuracy, entry.ece)]
        rows.append([summary.label(name), entry.verifier or NONE, *measured, number(entry.paths, 0)])
    return Table(head, rows)


def steps(summary: Summary) -> Table:
    """How searches that stop paths used their steps: shares stopped and never clear, and how rightly."""
    head = ["method", "paths", "stopped", "never clear", "first clear within the paper's steps"]
    head += ["right among stopped", "right among kept"]
    low, high = paper().settings.first_clear_steps
    rows: list[list[Line]] = []
    for name, used in summary.steps.items():
        never = used.first_clear.get("never", 0)
        within = sum(count for step, count in used.first_clear.items() if step.isdigit() and low <= int(step) <= high)
        clear = used.paths - never
        rows.append(
            [
                summary.label(name),
                number(used.paths, 0),
                _share(used.paths - used.stopped.get("never", 0), used.paths),
                _share(never, used.paths),
                _share(within, clear),
                number(used.right_of_stopped, 2),
                number(used.right_of_kept, 2),
            ]
        )
    return Table(head, rows)


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else NONE
