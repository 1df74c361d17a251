"""Best-of-N against a single path, with the random and oracle lines, all from the same candidates (Table 1, Figure 3).

For each held-out prompt N candidates are drawn, judged by the verifier and by the scorer; the lines over N are
then computed from these, so that every comparison is paired. Finished prompts are kept on disk and never redone.
"""

import json
import platform
import time
from datetime import date
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console
from rich.progress import Progress

from imagecot.files import write_atomically
from imagecot.generators import load_generator
from imagecot.generators.randomness import path_seeds, prompt_seed
from imagecot.geneval.prompts import TASKS
from imagecot.geneval.summary import Comparison, Summary, compare, summarize
from imagecot.pictograms.captions import held_out_prompts
from imagecot.pictograms.detector import load_detector
from imagecot.verifiers import load_verifier
from imagecot.verifiers.questions import ORM

SIZES = (1, 2, 4, 5, 10, 20)
Row = dict[str, Any]


class BestOfNRecipe(BaseModel):
    """A recipe of `imagecot study`."""

    model_config = ConfigDict(extra="forbid")

    output: Path
    generator: str = "tiny"
    verifier: str = "tiny-zero-shot"
    n: int = Field(20, ge=1)
    groups: int = Field(1, ge=1, description="independent sets of N candidates a prompt")
    prompts_per_task: int = Field(60, ge=1)
    seed: int = 0


def draw_candidates(recipe: BestOfNRecipe, folder: Path, console: Console) -> list[Row]:
    """One row a prompt: metadata, and per candidate P(yes), the scorer's verdict and reason; resumes from `folder`."""
    path = folder / "candidates.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    prompts = held_out_prompts(recipe.prompts_per_task)
    done = {row["metadata"]["prompt"] for row in rows}
    todo = [m for m in prompts if m["prompt"] not in done]
    if not todo:
        return rows
    generator, verifier, detector = (
        load_generator(recipe.generator),
        load_verifier(recipe.verifier),
        load_detector(),
    )
    total = recipe.n * recipe.groups
    with Progress(console=console) as bar:
        task = bar.add_task("prompts", total=len(prompts), completed=len(rows))
        for metadata in todo:
            start = time.perf_counter()
            seeds = path_seeds(prompt_seed(recipe.seed, metadata["prompt"]), total)
            paths = generator.start([metadata["prompt"]], seeds)
            while not paths.finished:
                paths = generator.advance(paths)
            images = generator.preview(paths)
            drawn = time.perf_counter()
            p_yes = verifier.ask(images, [metadata["prompt"]], ORM)
            judged = time.perf_counter()
            verdicts = detector.judge(images, [metadata] * total)
            rows.append(
                {
                    "metadata": metadata,
                    "p_yes": [round(float(p), 6) for p in p_yes],
                    "correct": [v.correct for v in verdicts],
                    "reasons": [v.reason for v in verdicts],
                    "seconds_drawing": drawn - start,
                    "seconds_judging": judged - drawn,
                }
            )
            text = "\n".join(json.dumps(row) for row in rows) + "\n"
            write_atomically(path, lambda p, text=text: p.write_text(text))  # type: ignore[misc]
            bar.advance(task)
    return rows


def selected(rows: list[Row], n: int, rule: str) -> list[Row]:
    """Judged rows, one for each disjoint group of `n` candidates of each prompt.

    `rule` is "verifier" (highest P(yes); ties go to the earlier path), "oracle" (right if any is) or "first".
    """
    chosen = []
    for row in rows:
        for start in range(0, len(row["correct"]) - n + 1, n):
            group = range(start, start + n)
            if rule == "oracle":
                right = any(row["correct"][k] for k in group)
            else:
                best = max(group, key=lambda k: (row["p_yes"][k], -k)) if rule == "verifier" else start
                right = row["correct"][best]
            chosen.append({"tag": row["metadata"]["tag"], "metadata": row["metadata"], "correct": right})
    return chosen


def _as_dict(summary: Summary, seconds: float, n: int) -> dict[str, Any]:
    return {
        "overall": summary.overall,
        "overall_se": summary.overall_se,
        "tasks": {tag: score.score for tag, score in summary.tasks.items()},
        "tasks_se": {tag: score.se for tag, score in summary.tasks.items()},
        "seconds_per_image": seconds,
        "n": n,
    }


def analyse(rows: list[Row], recipe: BestOfNRecipe) -> dict[str, Any]:
    """The lines single, random, best-of-n and oracle with standard errors, the curves over N, and the paired gain."""
    total = len(rows[0]["correct"])
    per_path = sum(r["seconds_drawing"] for r in rows) / (len(rows) * total)
    per_verdict = sum(r["seconds_judging"] for r in rows) / (len(rows) * total)
    n = recipe.n
    single, best = selected(rows, n, "first"), selected(rows, n, "verifier")
    lines = {
        "baseline": _as_dict(summarize(single), per_path, 1),
        "random": _as_dict(summarize(selected(rows, 1, "first")), per_path, 1),
        "orm_zero_shot": _as_dict(summarize(best), n * (per_path + per_verdict), n),
        "oracle": _as_dict(summarize(selected(rows, n, "oracle")), n * per_path, n),
    }
    curves: dict[str, list[dict[str, Any]]] = {}
    for rule in ("verifier", "oracle"):
        curves[rule] = []
        for size in (s for s in SIZES if s <= n):
            summary = summarize(selected(rows, size, rule))
            seconds = size * (per_path + (per_verdict if rule == "verifier" else 0))
            point = {"n": size, "overall": summary.overall, "se": summary.overall_se, "seconds": seconds}
            curves[rule].append(point)
    gain: Comparison = compare(best, single)
    return {
        "rows": lines,
        "curves": curves,
        "gain": {"difference": gain.difference, "low": gain.low, "high": gain.high, "p_value": gain.p_value},
        "recipe": recipe.model_dump(mode="json"),
        "date": date.today().isoformat(),
        "machine": {"cpu": platform.processor() or platform.machine(), "threads": torch.get_num_threads()},
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "prompts": len(rows),
    }


def plot(result: dict[str, Any], path: Path) -> None:
    """Score over N and over seconds: verifier, oracle and random, with one standard error."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True)
    style = {
        "verifier": ("#2f6fd0", "best of N by the zero-shot ORM"),
        "oracle": ("#3a9d5d", "oracle: any of the N is right"),
    }
    random = result["rows"]["random"]
    for axis, key, label in (
        (axes[0], "n", "N paths"),
        (axes[1], "seconds", "seconds per image, judge included"),
    ):
        for rule, (color, name) in style.items():
            points = result["curves"][rule]
            x, y = [p[key] for p in points], [p["overall"] for p in points]
            axis.errorbar(x, y, [p["se"] or 0 for p in points], color=color, marker="o", ms=4, capsize=2, label=name)
        axis.axhline(random["overall"], color="#999", ls="--", lw=1, label="random one of the N")
        axis.set_xscale("log")
        axis.set_xlabel(label)
        axis.grid(alpha=0.25)
    axes[0].set_xticks(
        [p["n"] for p in result["curves"]["verifier"]], [str(p["n"]) for p in result["curves"]["verifier"]]
    )
    axes[0].minorticks_off()
    axes[0].set_ylabel("GenEval score (pictograms)")
    axes[0].legend(fontsize=8)
    figure.tight_layout()
    write_atomically(path, lambda p: figure.savefig(p, format="png", dpi=130))
    plt.close(figure)


def table(result: dict[str, Any]) -> str:
    """The lines as a Markdown table, standard errors in brackets."""
    head = "| | " + " | ".join(t.replace("_", " ") for t in TASKS) + " | overall |"
    out = [head, "|---" * (len(TASKS) + 2) + "|"]
    names = {
        "baseline": "single path",
        "random": "random of the N",
        "orm_zero_shot": f"best-of-{result['recipe']['n']}, zero-shot ORM",
        "oracle": "oracle",
    }
    for key, name in names.items():
        row = result["rows"][key]
        cells = [f"{row['tasks'][t]:.2f} (±{row['tasks_se'][t] or 0:.2f})" if t in row["tasks"] else "" for t in TASKS]
        out.append(
            f"| {name} | " + " | ".join(cells) + f" | **{row['overall']:.3f}** (±{row['overall_se'] or 0:.3f}) |"
        )
    return "\n".join(out)


def run(recipe: BestOfNRecipe, console: Console | None = None) -> dict[str, Any]:
    """Draw what is missing, analyse, and write `summary.json`, `table.md` and `curves.png` into `recipe.output`."""
    console = console or Console(stderr=True)
    recipe.output.mkdir(parents=True, exist_ok=True)
    result = analyse(draw_candidates(recipe, recipe.output, console), recipe)
    text = json.dumps(result, indent=1) + "\n"
    write_atomically(recipe.output / "summary.json", lambda p: p.write_text(text))
    write_atomically(recipe.output / "table.md", lambda p: p.write_text(table(result) + "\n"))
    plot(result, recipe.output / "curves.png")
    return result
