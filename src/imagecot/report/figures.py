"""The figures of a study, each from its summary alone, as PNG bytes."""

from collections.abc import Mapping, Sequence
from typing import Literal, TypeVar

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

from imagecot import interruption
from imagecot.figures import packed, png, wrapped
from imagecot.geneval.prompts import TASKS
from imagecot.report.paper import paper, printed
from imagecot.study.summary import Point, Row, Steps, Summary

_COLORS = ("#2f6fd0", "#b3261e", "#7a4fb5", "#c77700", "#00838f", "#b0448c", "#6b7a1f", "#5d6b7a")
_ORACLE, _RANDOM, _SINGLE = "#3a9d5d", "#8a8a8a", "#22242a"
LINES = ("random", "oracle")
One = TypeVar("One")
Axis = Literal["n", "seconds"]  # what a curve is over
AXES: tuple[Axis, ...] = ("n", "seconds")
MOST = 60  # methods or diagrams on a figure: more would make a picture of unusual size


def png_of(figure: Figure) -> bytes:
    """A finished diagram as PNG."""
    interruption.check()
    return packed(png(figure, dpi=120))


def _label(text: str) -> str:
    """Words beside a line or over a diagram, however many there are."""
    return wrapped(text, 60, 2)


def _first(found: Mapping[str, One]) -> dict[str, One]:
    return dict(list(found.items())[:MOST])


def curve(summary: Summary, generator: str, axis: Axis) -> bytes | None:
    """Score over `axis` ("n" or "seconds") of the searches on one generator (the paper's Figures 3, 13, 14).

    Solid with one standard error: the first judge; dotted: the second. None where nothing was measured on that axis.
    """
    curves = summary.curves.get(generator, {})
    searches = {name: _on(axis, points) for name, points in curves.items() if name not in LINES}
    searches = _first({name: points for name, points in searches.items() if points})
    if not searches:
        return None
    figure = Figure(figsize=(5.6, 4.4 + 0.1 * min(len(curves), MOST)), layout="constrained")
    plot = figure.add_subplot()
    for index, (name, points) in enumerate(searches.items()):
        color, x = _COLORS[index % len(_COLORS)], [_at(point, axis) for point in points]
        plot.errorbar(
            x, [p.overall for p in points], [p.se or 0 for p in points],
            color=color, marker="o", ms=4, capsize=2, label=_label(summary.label(name)),
        )  # fmt: skip
        second = [(at, p.second) for at, p in zip(x, points, strict=True) if p.second is not None]
        if second:
            plot.plot(*zip(*second, strict=True), color=color, ls=":", lw=1.2)
    singles = [name for name, row in summary.methods.items() if row.generator == generator and name not in curves]
    for index, name in enumerate(singles[:MOST]):
        row = summary.rows[name]
        at = row.n if axis == "n" else row.seconds_per_image
        if at:
            plot.errorbar(
                [at], [row.overall], [row.overall_se or 0],
                color=_SINGLE, marker="sD^v"[index % 4], ms=6, capsize=2, ls="", label=_label(summary.label(name)),
            )  # fmt: skip
    _draw_lines(plot, summary, generator, axis)
    plot.set_xscale("log")
    plot.minorticks_off()
    if axis == "n":
        sizes = sorted({point.n for points in searches.values() for point in points})
        plot.set_xticks(sizes, [str(size) for size in sizes])
    else:
        plot.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
        plot.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    plot.set_xlabel("N paths" if axis == "n" else "seconds an image, measured")
    plot.set_ylabel("GenEval score")
    plot.set_title(_label(f"generator: {summary.generator(generator)}"), fontsize=10)
    plot.grid(alpha=0.25)
    figure.legend(loc="outside lower center", ncols=2, fontsize=7.5)
    return png_of(figure)


def _on(axis: Axis, points: Sequence[Point]) -> list[Point]:
    return sorted((point for point in points if _at(point, axis)), key=lambda point: _at(point, axis))


def _at(point: Point, axis: Axis) -> float:
    """Where a point lies; 0 where that was not measured."""
    return point.n if axis == "n" else point.seconds or 0.0


def _draw_lines(plot: Axes, summary: Summary, generator: str, axis: Axis) -> None:
    """Random and oracle: over N as curves where there are any, over seconds as levels."""
    curves = summary.curves.get(generator, {})
    for kind, color, words in (("oracle", _ORACLE, "oracle: any of N"), ("random", _RANDOM, "random one of N")):
        points = _on("n", curves.get(kind, []))
        row = summary.line(kind, generator)
        if axis == "n" and points:
            x, y, error = [p.n for p in points], [p.overall for p in points], [p.se or 0 for p in points]
            plot.errorbar(x, y, error, color=color, ls="--", lw=1, capsize=2, label=words)
        elif row is not None:
            plot.axhline(row.overall, color=color, ls="--", lw=1, label=words)


def reliability(summary: Summary) -> bytes | None:
    """One diagram a verifier: the share of right images over its mean P(yes); dots grow with the number of images."""
    found = _first({name: entry for name, entry in summary.reliability.items() if any(b.count for b in entry.bins)})
    if not found:
        return None
    columns = min(3, len(found))
    lines = -(-len(found) // columns)
    figure = Figure(figsize=(2.9 * columns + 0.2, 3.0 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    for plot in axes.flat[len(found) :]:
        plot.axis("off")
    for plot, (name, entry) in zip(axes.flat, found.items(), strict=False):
        bins = [b for b in entry.bins if b.count and b.mean_p is not None and b.right is not None]
        most = max((b.count for b in bins), default=1)
        plot.plot([0, 1], [0, 1], color=_RANDOM, ls="--", lw=1)
        x, y = [b.mean_p for b in bins], [b.right for b in bins]
        plot.plot(x, y, color=_COLORS[0], lw=1)
        plot.scatter(x, y, [12 + 90 * b.count / most for b in bins], color=_COLORS[0])
        plot.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
        plot.set_title(_label(summary.label(name)), fontsize=8)
        plot.grid(alpha=0.25)
    figure.supxlabel("mean P(yes)", fontsize=9)
    figure.supylabel("share of images that are right", fontsize=9)
    return png_of(figure)


def steps(summary: Summary) -> bytes | None:
    """Where paths were first clear and where they were stopped, beside the steps at which the paper's are clear."""
    found = _first({name: used for name, used in summary.steps.items() if used.first_clear or used.stopped})
    if not found:
        return None
    columns = min(2, len(found))
    lines = -(-len(found) // columns)
    figure = Figure(figsize=(3.9 * columns + 0.2, 2.7 * lines + 0.3), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False)
    for plot in axes.flat[len(found) :]:
        plot.axis("off")
    low, high = paper().settings.first_clear_steps
    for index, (plot, (name, used)) in enumerate(zip(axes.flat, found.items(), strict=False)):
        clear, stopped = shares(used, used.first_clear), shares(used, used.stopped)
        plot.axvspan(low - 0.5, high + 0.5, color=_COLORS[3], alpha=0.15, label="first clear, in the paper")
        plot.bar([s - 0.2 for s in clear], list(clear.values()), 0.4, color=_COLORS[0], label="first clear")
        plot.bar([s + 0.2 for s in stopped], list(stopped.values()), 0.4, color=_COLORS[1], label="stopped")
        plot.set_title(_label(summary.label(name)), fontsize=8)
        plot.set_xlabel("step", fontsize=8)
        plot.set_ylabel("share of paths", fontsize=8)
        plot.tick_params(labelsize=7)
        plot.xaxis.set_major_locator(MaxNLocator(integer=True))
        if index == 0:
            figure.legend(loc="outside lower center", ncols=3, fontsize=7)
    return png_of(figure)


def shares(used: Steps, counts: Mapping[str, int]) -> dict[int, float]:
    """Shares of all paths by step, those that never were left out."""
    return {int(s): count / max(1, used.paths) for s, count in sorted(counts.items(), key=_step) if s.isdigit()}


def _step(item: tuple[str, int]) -> int:
    return int(item[0]) if item[0].isdigit() else 0


def tasks(summary: Summary) -> bytes | None:
    """A panel a task: every method's score with one standard error, the paper's as a mark."""
    rows: dict[str, Row] = _first(summary.methods)
    present = [task for task in TASKS if any(task in row.tasks for row in rows.values())]
    if not present:
        return None
    columns = min(3, len(present))
    lines = -(-len(present) // columns)
    size = (3.4 + 2.1 * columns, lines * (0.7 + 0.21 * len(rows)))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    for plot in axes.flat[len(present) :]:
        plot.axis("off")
    for plot, task in zip(axes.flat, present, strict=False):
        for place, (name, row) in enumerate(rows.items()):
            if task in row.tasks:
                plot.barh(place, row.tasks[task], xerr=row.tasks_se.get(task) or 0, color=_COLORS[0],
                          alpha=0.75, ecolor=_SINGLE, capsize=1.5, error_kw={"lw": 0.8})  # fmt: skip
            if task in printed(name):
                plot.plot(printed(name)[task], place, marker="D", ms=4, color=_COLORS[3], ls="")
        plot.set_title(task.replace("_", " "), fontsize=9)
        plot.tick_params(labelsize=7)
        plot.grid(alpha=0.25, axis="x")
    axes[0][0].set_yticks(range(len(rows)), [_label(summary.label(name)) for name in rows])
    axes[0][0].invert_yaxis()
    axes[0][0].set_xlim(0, 1.02)
    return png_of(figure)
