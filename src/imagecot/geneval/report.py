"""What an evaluation leaves for people and scripts: the summary, the table, the page of failures, the comparison."""

import json
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image

from imagecot.errors import UsageError
from imagecot.files import write_atomically
from imagecot.geneval.evaluate import RESULTS, Row, Unit
from imagecot.geneval.summary import compare, summarize

SUMMARY, FAILURES = "summary.json", "failures.png"
_SHOWN = 24


def agreement(rows: Sequence[Row], second: Sequence[Row]) -> float:
    """Share of images on which two judges agree."""
    return sum(a["correct"] == b["correct"] for a, b in zip(rows, second, strict=True)) / len(rows)


def read_results(folder: Path) -> list[Row]:
    """Read the results of a finished evaluation; UsageError where there are none, naming a malformed line."""
    file = folder / RESULTS if folder.is_dir() else folder
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise UsageError(f"{folder} holds no finished evaluation ({file.name} is missing or unreadable).") from None
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(json.loads(line))
        except ValueError:
            raise UsageError(f"line {number} of {file} is not valid JSON; evaluate again.") from None
    return rows


def summarise_run(whole: Unit, record: dict[str, Any], against: Path | None) -> dict[str, Any]:
    """Everything about a finished run as one JSON object; UsageError where `against` does not match it."""
    summary: dict[str, Any] = {"score": asdict(summarize(whole.rows)), "problems": whole.problems}
    if whole.second:
        summary["second_judge"] = asdict(summarize(whole.second))
        summary["agreement"] = agreement(whole.rows, whole.second)
    if against is not None:
        comparison = compare(_by_prompt(whole.rows), _by_prompt(read_results(against)))
        summary["against"] = {"folder": str(against), **asdict(comparison)}
    return summary | {"cost": whole.cost, "record": record}


def _by_prompt(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: (row["tag"], row["metadata"]))


def table(summary: dict[str, Any]) -> str:
    """The scores as a Markdown table, standard errors in brackets, both judges side by side."""
    second = summary.get("second_judge")
    head = ["task", "images", "score"] + (["second judge"] if second else [])
    lines = [" | ".join(head), " | ".join(["---"] * len(head))]

    def cell(score: float, error: float | None) -> str:
        return f"{score:.3f}" + (f" (±{error:.3f})" if error is not None else "")

    for tag, task in summary["score"]["tasks"].items():
        row = [tag.replace("_", " "), str(task["total"]), cell(task["score"], task["se"])]
        if second:
            row.append(cell(second["tasks"][tag]["score"], second["tasks"][tag]["se"]))
        lines.append(" | ".join(row))
    total = ["**overall**", str(summary["score"]["total_images"])]
    for judged in (summary["score"], second) if second else (summary["score"],):
        total.append(f"**{cell(judged['overall'], judged['overall_se'])}**")
    lines.append(" | ".join(total))
    return "\n".join(f"| {line} |" for line in lines)


def remarks(summary: dict[str, Any]) -> list[str]:
    """What stands under the table: the detector, agreement, comparison, gaps."""
    lines = [f"judged by {summary['record']['detector']['detector']}"]
    if "agreement" in summary:
        lines[0] += f"; the second judge agrees on {summary['agreement']:.1%} of the images"
    if "against" in summary:
        c = summary["against"]
        lines.append(
            f"{c['difference']:+.3f} against {c['folder']} (95 % interval {c['low']:+.3f} to {c['high']:+.3f}, "
            f"exact McNemar p = {c['p_value']:.2g}; right only here {c['only_a']}, only there {c['only_b']})"
        )
    if summary["problems"]:
        lines.append(f"INCOMPLETE: {len(summary['problems'])} problems left images out of the score")
    return lines


def failures_page(rows: Sequence[Row], root: Path, file: Path) -> None:
    """A page of pictures that were judged wrong, with their prompts and reasons, spread over the tasks."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    wrong: dict[str, list[Row]] = {}
    for row in rows:
        if not row["correct"]:
            wrong.setdefault(row["tag"], []).append(row)
    # One of each prompt first, in turns of the tasks.
    queues = [sorted(found, key=lambda row: row["filename"].rsplit("/", 1)[-1]) for found in wrong.values()]
    picked = [row for turn in range(_SHOWN) for queue in queues for row in queue[turn : turn + 1]][:_SHOWN]
    columns = 6
    lines = max(1, -(-len(picked) // columns))
    figure, axes = plt.subplots(lines, columns, figsize=(2.1 * columns, 2.75 * lines), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, row in zip(axes.flat, picked, strict=False):
        path = Path(row["filename"])
        with Image.open(path if path.is_absolute() or path.is_file() else root / path) as image:
            axis.imshow(image.convert("RGB"), interpolation="nearest" if max(image.size) < 128 else None)
        axis.set_title("\n".join(textwrap.wrap(row["prompt"], 30)), fontsize=7)
        reason = "\n".join(textwrap.wrap(row["reason"].replace("\n", "; "), 34)[:3])
        axis.text(0.5, -0.03, reason, fontsize=6, color="#b3261e", ha="center", va="top", transform=axis.transAxes)
    if not picked:
        axes[0][0].text(0, 0.5, "every image was judged right", fontsize=9)
    figure.tight_layout()
    write_atomically(file, lambda p: figure.savefig(p, format="png", dpi=110))
    plt.close(figure)
