"""What an evaluation leaves for people and scripts: the summary, the table, the page of failures."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image

from imagecot.errors import ImagecotError
from imagecot.evaluation.state import Row, Unit
from imagecot.figures import literal, wrapped
from imagecot.files import write_atomically
from imagecot.geneval.summary import summarize
from imagecot.images import open_picture
from imagecot.naming import printable

_SHOWN, _COLUMNS = 24, 6
_LARGEST = 2048  # side in pixels, from which a picture is made smaller for the page


def agreement(rows: Sequence[Row], second: Sequence[Row]) -> float:
    """Share of images on which two judges agree."""
    return sum(a.correct == b.correct for a, b in zip(rows, second, strict=True)) / len(rows)


def summarise_run(whole: Unit, remarked: Sequence[str], record: dict[str, Any]) -> dict[str, Any]:
    """Everything about a finished run as one JSON object."""
    summary: dict[str, Any] = {"score": _table_of(whole.rows), "problems": whole.problems}
    if remarked:
        summary["remarks"] = list(remarked)
    if whole.second:
        summary["second_judge"] = _table_of(whole.second)
        summary["agreement"] = agreement(whole.rows, whole.second)
    return summary | {"cost": whole.cost, "record": record}


def with_comparison(summary: Mapping[str, Any], against: Mapping[str, Any]) -> dict[str, Any]:
    """The summary with a comparison in place of the one it had."""
    last = {key: summary[key] for key in ("cost", "record")}
    first = {key: value for key, value in summary.items() if key not in (*last, "against")}
    return first | {"against": dict(against)} | last


def _table_of(rows: Sequence[Row]) -> dict[str, Any]:
    return asdict(summarize(row.model_dump() for row in rows))


def table(summary: Mapping[str, Any]) -> str:
    """The scores as a Markdown table, standard errors in brackets, both judges side by side."""
    second = summary.get("second_judge")
    head = ["task", "images", "score"] + (["second judge"] if second else [])
    lines = [" | ".join(head), " | ".join(["---"] * len(head))]

    def cell(score: float, error: float | None) -> str:
        return f"{score:.3f}" + (f" (±{error:.3f})" if error is not None else "")

    for tag, task in summary["score"]["tasks"].items():
        row = [_plain(tag), str(task["total"]), cell(task["score"], task["se"])]
        if second:
            other = second["tasks"].get(tag)
            row.append(cell(other["score"], other["se"]) if other else "")
        lines.append(" | ".join(row))
    total = ["**overall**", str(summary["score"]["total_images"])]
    for judged in (summary["score"], second) if second else (summary["score"],):
        total.append(f"**{cell(judged['overall'], judged['overall_se'])}**")
    lines.append(" | ".join(total))
    return "\n".join(f"| {line} |" for line in lines)


def _plain(tag: str) -> str:
    """A tag as words in a cell of a Markdown table, whatever it holds."""
    words = printable(" ".join(tag.replace("_", " ").split()))[:80]
    return re.sub(r"([\\`*{}\[\]()<>#+!|&~$])", r"\\\1", words)


def remarks(summary: Mapping[str, Any]) -> list[str]:
    """What stands under the table: the detector, agreement, comparison, gaps."""
    lines = [f"judged by {summary['record']['detector'].get('detector')}"]
    if "agreement" in summary:
        lines[0] += f"; the second judge agrees on {summary['agreement']:.1%} of the images"
    if "against" in summary:
        c = summary["against"]
        if c.get("judges_differ"):
            lines.append(
                f"{c['difference']:+.3f} against {c['folder']}, but the judges differ ({c['judges_differ']}): this "
                "compares judges, not images"
            )
        else:
            lines.append(
                f"{c['difference']:+.3f} against {c['folder']} (95 % interval {c['low']:+.3f} to {c['high']:+.3f}, "
                f"exact McNemar p = {c['p_value']:.2g}; right only here {c['only_a']}, only there {c['only_b']})"
            )
    if summary["problems"]:
        lines.append(f"INCOMPLETE: {len(summary['problems'])} problems left images out of the score")
    return [printable(line) for line in lines]


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
        axis.set_title(wrapped(row.prompt, 30, 4), fontsize=7)
        reason = wrapped(row.reason.replace("\n", "; "), 34, 3)
        axis.text(0.5, -0.03, reason, fontsize=6, color="#b3261e", ha="center", va="top", transform=axis.transAxes)
    if not picked:
        axes[0][0].text(0, 0.5, literal("every image was judged right"), fontsize=9)
    figure.tight_layout()
    write_atomically(file, lambda p: figure.savefig(p, format="png", dpi=110))


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
