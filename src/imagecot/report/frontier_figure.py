"""The figure of a frontier: score over seconds of every search, a panel a generator."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

from imagecot.figures import wrapped
from imagecot.report.figures import png_of
from imagecot.study.frontier.summary import FrontierSummary, OfGenerator, Point

_COLORS = ("#2f6fd0", "#b3261e", "#7a4fb5", "#c77700", "#00838f", "#b0448c", "#6b7a1f", "#5d6b7a")
_MARKS = "osD^vP*X"
_MOST = 16  # searches in a panel


def draw(summary: FrontierSummary) -> bytes:
    """The panels as PNG: scores by the first judge with one standard error; over N where no seconds were measured."""
    found = list(summary.generators.values())
    figure = Figure(figsize=(5.6 * max(1, len(found)), 5.4), layout="constrained")
    panels = figure.subplots(1, max(1, len(found)), squeeze=False)[0]
    for plot, one in zip(panels, found, strict=False):
        _panel(plot, one)
    return png_of(figure)


def _panel(plot: Axes, found: OfGenerator) -> None:
    timed = any(point.seconds for line in found.rows.values() for point in line.points)
    for index, (name, line) in enumerate(list(found.rows.items())[:_MOST]):
        points = [point for point in line.points if point.seconds or not timed]
        if not points:
            continue
        style = {"color": "#22242a", "lw": 2.0} if name == found.against else {"color": _COLORS[index % 8], "lw": 1.0}
        plot.errorbar(
            [_x(point) for point in points], [point.score[0].value for point in points],
            [point.score[0].standard_error or 0.0 for point in points],
            marker=_MARKS[index % 8], ms=4, capsize=2, elinewidth=0.7, label=wrapped(found.label(name), 44, 2), **style,
        )  # fmt: skip
    for words, bounds, color in (("a random path", found.random, "#8a8a8a"), ("oracle", found.oracle, "#3a9d5d")):
        if bounds:
            plot.axhline(bounds[-1].score[0].value, color=color, ls="--", lw=1, label=f"{words}, N = {bounds[-1].n}")
    plot.set_xscale("log")
    plot.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    plot.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    plot.minorticks_off()
    plot.set_xlabel("seconds an image, judge included" if timed else "N paths")
    plot.set_ylabel("score")
    plot.set_title(wrapped(f"generator: {found.generator}", 60, 1), fontsize=10)
    plot.grid(alpha=0.25)
    plot.legend(fontsize=6.5, loc="lower right")


def _x(point: Point) -> float:
    return point.seconds.total if point.seconds else float(point.n)
