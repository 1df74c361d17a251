"""The figure of a frontier: score over seconds of every search, a panel a generator."""

import io

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator
from PIL import Image

from imagecot.figures import wrapped
from imagecot.report.figures import png_of
from imagecot.study.frontier.summary import FrontierSummary, OfGenerator, Point

_COLORS = (
    "#2f6fd0", "#b3261e", "#7a4fb5", "#c77700", "#00838f", "#b0448c", "#6b7a1f", "#5d6b7a", "#8c564b", "#17becf",
    "#a6761d", "#3a5f0b",
)  # fmt: skip
_MARKS = "os^vDP*Xdh<>"
_MOST = len(_COLORS)  # searches in a panel
_SHADES = 200  # colours of the picture, which is small thereby


def draw(summary: FrontierSummary) -> bytes:
    """The panels as PNG, over N where no seconds were measured.

    A score is that of the search which the others are held against, plus the paired difference to it, so that searches
    on fewer prompts can be compared; bars are one standard error of the difference.
    """
    found = list(summary.generators.values())
    figure = Figure(figsize=(5.2 * max(1, len(found)), 6.0), layout="constrained")
    panels = figure.subplots(1, max(1, len(found)), squeeze=False)[0]
    for plot, one in zip(panels, found, strict=False):
        _panel(plot, one)
    return _small(png_of(figure))


def _panel(plot: Axes, found: OfGenerator) -> None:
    timed = any(point.seconds for line in found.rows.values() for point in line.points)
    best = found.rows[found.against].points[-1].score[0].value
    for index, (name, line) in enumerate(list(found.rows.items())[:_MOST]):
        points = [point for point in line.points if point.to_best and (point.seconds or not timed)]
        if not points:
            continue
        first = name == found.against
        plot.errorbar(
            [_x(point) for point in points], [best + point.to_best[0].value for point in points],
            [point.to_best[0].standard_error or 0.0 for point in points],
            color="#22242a" if first else _COLORS[index], lw=2.2 if first else 1.0, marker=_MARKS[index], ms=4,
            capsize=2, elinewidth=0.6, label=wrapped(found.label(name), 44, 2), zorder=3 if first else 2,
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
    plot.legend(fontsize=6.5, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2, frameon=False)


def _x(point: Point) -> float:
    return point.seconds.total if point.seconds else float(point.n)


def _small(png: bytes) -> bytes:
    """The same picture in few colours, and three quarters as wide."""
    with Image.open(io.BytesIO(png)) as picture:
        width, height = (round(side * 0.75) for side in picture.size)
        fewer = (
            picture.convert("RGB")
            .resize((width, height), Image.Resampling.LANCZOS)
            .quantize(_SHADES, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        )
    buffer = io.BytesIO()
    fewer.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
