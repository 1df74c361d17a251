"""What an evaluation leaves for people and scripts: the summary, the table, the page of failures."""

import re
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from imagecot import figures
from imagecot.errors import ImagecotError
from imagecot.evaluation.state import Row, Unit
from imagecot.evaluation.summary import Compared, Found, Record
from imagecot.geneval.summary import Summary, summarize
from imagecot.images import open_picture
from imagecot.naming import printable
from imagecot.statistics.paired import agreement

_SHOWN, _COLUMNS = 24, 6
_LARGEST = 2048  # side in pixels, from which a picture is made smaller for the page


def summarise_run(whole: Unit, remarked: Sequence[str], record: Record) -> Found:
    """Everything about a finished run."""
    judged = [[row.correct for row in rows] for rows in (whole.rows, whole.second)]
    return Found(
        score=_table_of(whole.rows),
        problems=whole.problems,
        remarks=list(remarked),
        second_judge=_table_of(whole.second) if whole.second else None,
        agreement=agreement(*judged) if whole.second else None,
        cost=whole.cost,
        record=record,
    )


def _table_of(rows: Sequence[Row]) -> Summary:
    return summarize(row.verdict for row in rows)


def table(summary: Found) -> str:
    """The scores as a Markdown table, standard errors in brackets, both judges side by side."""
    tables = [summary.score, *([summary.second_judge] if summary.second_judge else [])]
    head = ["task", "images", "score", "second judge"][: 2 + len(tables)]
    lines = [" | ".join(head), " | ".join(["---"] * len(head))]
    for tag, task in summary.score.tasks.items():
        scored = [judged.tasks.get(tag) for judged in tables]
        cells = [_cell(one.score, one.se) if one else "" for one in scored]
        lines.append(" | ".join([plain(tag), str(task.total), *cells]))
    total = [f"**{_cell(judged.overall, judged.overall_se)}**" for judged in tables]
    lines.append(" | ".join(["**overall**", str(summary.score.total_images), *total]))
    return "\n".join(f"| {line} |" for line in lines)


def _cell(score: float, error: float | None) -> str:
    return f"{score:.3f}" + (f" (±{error:.3f})" if error is not None else "")


def plain(tag: str) -> str:
    """A tag as words in a cell of a Markdown table, whatever it holds."""
    words = printable(" ".join(tag.replace("_", " ").split()))[:80]
    return re.sub(r"([\\`*{}\[\]()<>#+!|&~$])", r"\\\1", words)


def remarks(summary: Found) -> list[str]:
    """What stands under the table: the detector, agreement, comparison, gaps."""
    lines = [f"judged by {summary.record.detector.get('detector')}"]
    if summary.agreement is not None:
        lines[0] += f"; the second judge agrees on {summary.agreement:.1%} of the images"
    if summary.against:
        lines.append(_compared(summary.against))
    if summary.problems:
        lines.append(f"INCOMPLETE: {len(summary.problems)} problems left images out of the score")
    return [printable(line) for line in lines]


def _compared(found: Compared) -> str:
    told = f"{found.difference:+.3f} against {found.folder}"
    if found.low is None or found.high is None or found.p_value is None:
        return f"{told}, but the judges differ ({found.judges_differ}): this compares judges, not images"
    return (
        f"{told} (95 % interval {found.low:+.3f} to {found.high:+.3f}, exact McNemar p = {found.p_value:.2g}; right "
        f"only here {found.only_a}, only there {found.only_b})"
    )


def failures_page(rows: Sequence[Row], root: Path, file: Path) -> None:
    """Write a page of pictures that were judged wrong, with their prompts and reasons, spread over the tasks.

    root  what the file names of the rows are relative to
    """
    from matplotlib.figure import Figure

    picked = _picked(rows)
    lines = max(1, -(-len(picked) // _COLUMNS))
    figure = Figure(figsize=(2.1 * _COLUMNS, 2.75 * lines))
    axes = figure.subplots(lines, _COLUMNS, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, row in zip(axes.flat, picked, strict=False):
        image = _picture(root / row.filename)
        if image is None:
            axis.text(0.5, 0.5, "not there any more", fontsize=6, ha="center", transform=axis.transAxes)
        else:
            axis.imshow(image, interpolation="nearest" if max(image.size) < 128 else None)
        axis.set_title(figures.wrapped(row.prompt, 30, 4), fontsize=7)
        reason = figures.wrapped(row.reason.replace("\n", "; "), 34, 3)
        axis.text(0.5, -0.03, reason, fontsize=6, color="#b3261e", ha="center", va="top", transform=axis.transAxes)
    if not picked:
        axes[0][0].text(0, 0.5, figures.literal("every image was judged right"), fontsize=9)
    figures.save(figure, file, dpi=110)


def _picked(rows: Sequence[Row]) -> list[Row]:
    """Some of the wrong images, one of each prompt first, in turns of the tasks."""
    wrong: dict[str, list[Row]] = {}
    for row in rows:
        if not row.correct:
            wrong.setdefault(row.tag, []).append(row)
    queues = [sorted(found, key=lambda row: row.filename.rsplit("/", 1)[-1]) for found in wrong.values()]
    return [row for turn in range(_SHOWN) for queue in queues for row in queue[turn : turn + 1]][:_SHOWN]


def _picture(file: Path) -> Image.Image | None:
    """A picture, made small enough for the page; None where it has gone since it was judged."""
    try:
        picture = open_picture(file)
    except ImagecotError:
        return None
    picture.thumbnail((_LARGEST, _LARGEST))
    return picture
