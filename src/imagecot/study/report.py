"""What a study leaves for people: the table and the curves, from its summary alone."""

from pathlib import Path
from typing import Any

from imagecot.files import write_atomically
from imagecot.geneval.prompts import TASKS

_COLORS = ("#2f6fd0", "#b3261e", "#7a4fb5", "#c77700", "#00838f", "#5d6b7a")
_NAMES = {"baseline": "single path", "random": "random of the N", "oracle": "oracle: any of the N is right"}


def label(result: dict[str, Any], name: str) -> str:
    """What a row is called in tables and figures."""
    return _NAMES.get(name) or str(result["recipe"]["rows"][name]["label"])


def table(result: dict[str, Any]) -> str:
    """The rows as a Markdown table: tasks, overall by both judges with standard errors, seconds an image."""
    return score_table(result["rows"], {name: label(result, name) for name in result["rows"]})


def score_table(rows: dict[str, dict[str, Any]], labels: dict[str, str]) -> str:
    """Rows of scores, as a summary has them, under their labels."""
    head = ["", *(t.replace("_", " ") for t in TASKS), "overall", "second judge", "s / image"]
    out = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name, row in rows.items():
        seconds = row["seconds_per_image"]
        cells = [f"{row['tasks'][t]:.2f}" if t in row["tasks"] else "" for t in TASKS]
        cells.append(f"**{row['overall']:.3f}** (±{row['overall_se'] or 0:.3f})")
        cells.append(with_error(row["second_judge"]))
        cells.append(f"{seconds:.1f}" if seconds else "")
        out.append(f"| {labels[name]} | " + " | ".join(cells) + " |")
    return "\n".join(out)


def with_error(row: dict[str, Any]) -> str:
    """The overall score of a row with its standard error."""
    return f"{row['overall']:.3f} (±{row['overall_se'] or 0:.3f})"


def plot(result: dict[str, Any], path: Path) -> None:
    """Score over N and over seconds, with one standard error."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FuncFormatter, LogLocator

    figure, axes = plt.subplots(1, 2, figsize=(10, 3.9), sharey=True)
    colors = dict(zip([n for n in result["curves"] if n != "oracle"], _COLORS, strict=False)) | {"oracle": "#3a9d5d"}
    for axis, key, title in ((axes[0], "n", "N paths"), (axes[1], "seconds", "seconds an image, measured")):
        for name, points in result["curves"].items():
            points = [p for p in points if p[key] is not None]
            if not points:
                continue
            x, y, error = ([p[k] for p in points] for k in (key, "overall", "se"))
            axis.errorbar(x, y, [e or 0 for e in error], color=colors[name], marker="o", ms=4, capsize=2,
                          label=label(result, name))  # fmt: skip
        axis.axhline(result["rows"]["random"]["overall"], color="#999", ls="--", lw=1, label="random of the N")
        axis.set_xscale("log")
        axis.set_xlabel(title)
        axis.grid(alpha=0.25)
    sizes = [p["n"] for p in result["curves"]["oracle"]]
    axes[0].set_xticks(sizes, [str(size) for size in sizes])
    axes[0].minorticks_off()
    axes[1].xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes[1].xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes[1].minorticks_off()
    axes[0].set_ylabel("GenEval score (pictograms)")
    axes[0].legend(fontsize=8)
    figure.tight_layout()
    write_atomically(path, lambda p: figure.savefig(p, format="png", dpi=130))
    plt.close(figure)
