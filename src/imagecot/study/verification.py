"""Verification at test time on held-out prompts: the rows of Tables 1 and 3, and Figure 3, from the same candidates.

For each prompt N paths are drawn once and judged by both scorers. Searches that choose among whole paths are replayed
on them, so that every comparison is paired; step-level search draws its own. What a search costs in seconds is measured
on real runs of it. Finished prompts are kept on disk and never redone.
"""

import json
import platform
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console
from rich.progress import Progress

from imagecot.files import write_atomically
from imagecot.generators import load_generator
from imagecot.generators.randomness import path_seeds, prompt_seed
from imagecot.geneval.summary import Summary, compare, summarize
from imagecot.identity import claim
from imagecot.images import from_picture
from imagecot.models import weights_of
from imagecot.pictograms.captions import held_out_prompts
from imagecot.pictograms.detector import DETECTORS, load_detector
from imagecot.search import search
from imagecot.search.trace import Trace
from imagecot.study.recorded import record
from imagecot.verifiers import load_verifier

Row = dict[str, Any]
JUDGES = list(DETECTORS)
SIZES = (1, 2, 3, 5, 8, 12, 16, 20, 30, 40)


class Method(BaseModel):
    """A row of the table: a search and who judges in it."""

    model_config = ConfigDict(extra="forbid")

    search: str = "best-of-n"
    verifier: str
    label: str
    first_step: int = Field(1, ge=1)


class VerificationRecipe(BaseModel):
    """A recipe of `imagecot study`."""

    model_config = ConfigDict(extra="forbid")

    output: Path
    generator: str = "tiny"
    precision: Literal["float32", "bfloat16", "int8"] | None = None
    rows: dict[str, Method]
    n: int = Field(20, ge=1)
    prompts_per_task: int = Field(60, ge=1, le=60)
    timed_prompts: int = Field(6, ge=0, description="prompts on which the searches are run for their seconds")
    seed: int = 0


def observe(recipe: VerificationRecipe, folder: Path, console: Console) -> list[Row]:
    """One row a prompt: both judges' verdicts on each path, and what every search made of them; resumes."""
    path = folder / "candidates.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    prompts = held_out_prompts(recipe.prompts_per_task)
    done = {row["metadata"]["prompt"] for row in rows}
    todo = [m for m in prompts if m["prompt"] not in done]
    if not todo:
        return rows
    generator = load_generator(recipe.generator, dtype=recipe.precision)
    verifiers = {
        name: load_verifier(name, dtype=recipe.precision)
        for name in {method.verifier for method in recipe.rows.values()}
    }
    judges = [load_detector(name) for name in JUDGES]
    with Progress(console=console) as bar:
        task = bar.add_task("prompts", total=len(prompts), completed=len(rows))
        for metadata in todo:
            seed = prompt_seed(recipe.seed, metadata["prompt"])
            recorded = record(generator, metadata["prompt"], path_seeds(seed, recipe.n))
            images = recorded.images
            verdicts = [judge.judge(images, [metadata] * recipe.n) for judge in judges]
            row: Row = {
                "metadata": metadata,
                "correct": [[v.correct for v in found] for found in verdicts],
                "reasons": [v.reason for v in verdicts[0]],
                "searches": {},
            }
            for name, method in recipe.rows.items():
                replayed = method.search != "stepwise"
                trace = search(
                    metadata["prompt"],
                    generator=recorded if replayed else generator,
                    verifier=verifiers[method.verifier],
                    strategy=method.search,
                    n=recipe.n,
                    seed=seed,
                    first_step=method.first_step,
                )
                row["searches"][name] = _outcome(trace, None if replayed else judges, metadata)
            rows.append(row)
            text = "\n".join(json.dumps(row) for row in rows) + "\n"
            write_atomically(path, lambda p, text=text: p.write_text(text))  # type: ignore[misc]
            bar.advance(task)
    return rows


def _outcome(trace: Trace, judges: list[Any] | None, metadata: Row) -> Row:
    """What a search said of its candidates and what it cost; `judges` where its images are its own."""
    paths = []
    for candidate in trace.candidates:
        potential = [v.p_yes for v in candidate.verdicts if v.question == "potential"]
        paths.append(
            {
                "score": None if candidate.score is None else round(candidate.score, 6),
                "stopped": candidate.truncated_at if candidate.resumed_at is None else candidate.resumed_at,
                "first_clear": candidate.first_clear,
                "potential": round(potential[0], 6) if potential else None,
            }
        )
    cost = {
        "generator_rows": trace.cost.generator_rows,
        "previews": trace.cost.previews,
        "judge_calls": trace.cost.judge_calls,
    }
    found: Row = {"paths": paths, "chosen": trace.chosen, "cost": cost}
    if judges:
        image = from_picture(trace.image)[None]
        found["correct"] = [judge.judge(image, [metadata])[0].correct for judge in judges]
    return found


def choice(paths: list[Row], group: range) -> int:
    """Which path of a group a search over whole paths takes: the best that was not stopped, else the least refused."""
    running = [k for k in group if paths[k]["stopped"] is None]
    if running:
        return max(running, key=lambda k: (paths[k]["score"], -k))
    return max(group, key=lambda k: (paths[k]["potential"], -k))


def judged(rows: list[Row], name: str, n: int, judge: int = 0) -> list[Row]:
    """A verdict for each disjoint group of `n` paths of each prompt, by one of the judges.

    `name` is a row of the recipe, "first" (the first path of the group), "random" (each path of the group counts) or
    "oracle" (right if any path is). A row that draws its own images has one verdict a prompt.
    """
    found = []
    for row in rows:
        correct = row["correct"][judge]
        outcome = row["searches"].get(name)
        verdicts: list[bool] = []
        if outcome and "correct" in outcome:
            verdicts = [outcome["correct"][judge]]
        else:
            for start in range(0, len(correct) - n + 1, n):
                group = range(start, start + n)
                if outcome:
                    verdicts.append(correct[choice(outcome["paths"], group)])
                elif name == "oracle":
                    verdicts.append(any(correct[k] for k in group))
                elif name == "random":
                    verdicts += [correct[k] for k in group]
                else:
                    verdicts.append(correct[start])
        metadata = row["metadata"]
        found += [{"tag": metadata["tag"], "metadata": metadata, "correct": value} for value in verdicts]
    return found


def time_searches(recipe: VerificationRecipe, folder: Path, console: Console) -> Row:
    """Seconds and counts of real runs, by row and N, averaged over the timed prompts; kept in `timing.json`."""
    file = folder / "timing.json"
    if file.exists():
        found: Row = json.loads(file.read_text())
        return found
    generator = load_generator(recipe.generator, dtype=recipe.precision)
    verifiers = {
        name: load_verifier(name, dtype=recipe.precision)
        for name in {method.verifier for method in recipe.rows.values()}
    }
    every = held_out_prompts()
    prompts = [m["prompt"] for m in every[:: max(1, len(every) // max(1, recipe.timed_prompts))]][
        : recipe.timed_prompts
    ]
    methods = {"baseline": Method(search="single", verifier="", label="", first_step=1), **recipe.rows}
    sizes = sorted({size for size in SIZES if size < recipe.n} | {recipe.n})
    timing: Row = {name: {} for name in methods}
    with Progress(console=console) as bar:
        task = bar.add_task("timing", total=len(prompts) * len(methods) * len(sizes))
        for warm in (True, False):
            for prompt in prompts[:1] if warm else prompts:
                for size in sizes[:1] if warm else sizes:
                    for name, method in methods.items():  # side by side, so that all meet the same machine
                        trace = search(
                            prompt,
                            generator=generator,
                            verifier=verifiers.get(method.verifier),
                            strategy=method.search,
                            n=size,
                            seed=prompt_seed(recipe.seed, prompt),
                            first_step=method.first_step,
                        )
                        if not warm:
                            timing[name].setdefault(str(size), []).append(asdict(trace.cost))
                            bar.advance(task)
    means = {
        name: {
            size: {key: sum(cost[key] for cost in costs) / len(costs) for key in costs[0]}
            for size, costs in by_size.items()
        }
        for name, by_size in timing.items()
    }
    text = json.dumps(means, indent=1)
    write_atomically(file, lambda p: p.write_text(text))
    return means


def _table_row(rows: list[Row], name: str, n: int, timing: Row) -> Row:
    first, second = (summarize(judged(rows, name, n, judge)) for judge in (0, 1))
    measured = timing.get(name, {}).get(str(n)) or {}
    return {
        **scores_of(first),
        "second_judge": scores_of(second),
        "seconds_per_image": measured.get("seconds"),
        "cost": {key: value for key, value in measured.items() if key != "seconds"},
        "n": n,
    }


def scores_of(summary: Summary) -> Row:
    """A summary as a row of scores."""
    return {
        "overall": summary.overall,
        "overall_se": summary.overall_se,
        "tasks": {tag: score.score for tag, score in summary.tasks.items()},
        "tasks_se": {tag: score.se for tag, score in summary.tasks.items()},
    }


def analyse(rows: list[Row], recipe: VerificationRecipe, timing: Row) -> Row:
    """The table, the curves over N, paired comparisons, and how PARM used its steps."""
    n = recipe.n
    replayed = [name for name, method in recipe.rows.items() if method.search != "stepwise"]
    table = {"baseline": _table_row(rows, "first", n, {})}
    table["baseline"] |= {"n": 1, "seconds_per_image": timing.get("baseline", {}).get(str(n), {}).get("seconds")}
    table["random"] = {**_table_row(rows, "random", n, {}), "n": 1}
    table |= {name: _table_row(rows, name, n, timing) for name in recipe.rows}
    table["oracle"] = _table_row(rows, "oracle", n, {})
    curves: dict[str, list[Row]] = {}
    for name in ("oracle", *replayed):
        curves[name] = []
        for size in sorted({s for s in SIZES if s < n} | {n}):
            summary = summarize(judged(rows, name, size))
            seconds = timing.get(name, {}).get(str(size), {}).get("seconds")
            curves[name].append({"n": size, "overall": summary.overall, "se": summary.overall_se, "seconds": seconds})
    names = ["baseline", *recipe.rows]
    gains = []
    for k, better in enumerate(names):
        for other in names[:k]:
            gain = compare(
                judged(rows, "first" if better == "baseline" else better, n),
                judged(rows, "first" if other == "baseline" else other, n),
            )
            gains.append({"a": better, "b": other, **asdict(gain)})
    return {
        "rows": table,
        "curves": curves,
        "comparisons": gains,
        "steps": {name: steps_used(rows, name) for name in replayed if recipe.rows[name].search == "parm"},
        "agreement": _agreement(rows),
        "weights": {
            **weights_of("generator", recipe.generator),
            **{name: weights_of("verifier", method.verifier)["verifier"] for name, method in recipe.rows.items()},
        },
        "recipe": recipe.model_dump(mode="json"),
        "prompts": len(rows),
        "date": date.today().isoformat(),
        "machine": {"cpu": platform.processor() or platform.machine(), "threads": torch.get_num_threads()},
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
    }


def _agreement(rows: list[Row]) -> float:
    pairs = [(a, b) for row in rows for a, b in zip(*row["correct"], strict=True)]
    return sum(a == b for a, b in pairs) / len(pairs)


def steps_used(rows: list[Row], name: str) -> Row:
    """For a parm row: how many paths were first clear, and how many stopped, at each step, and how rightly."""
    paths = [
        (path, right)
        for row in rows
        for path, right in zip(row["searches"][name]["paths"], row["correct"][0], strict=True)
    ]
    clear: dict[str, int] = {}
    stopped: dict[str, int] = {}
    for path, _ in paths:
        for key, counts in (("first_clear", clear), ("stopped", stopped)):
            step = str(path[key]) if path[key] is not None else "never"
            counts[step] = counts.get(step, 0) + 1
    given_up = [right for path, right in paths if path["stopped"] is not None]
    kept = [right for path, right in paths if path["stopped"] is None]
    return {
        "paths": len(paths),
        "first_clear": clear,
        "stopped": stopped,
        "right_of_stopped": sum(given_up) / max(1, len(given_up)),
        "right_of_kept": sum(kept) / max(1, len(kept)),
    }


def identity(recipe: VerificationRecipe) -> Row:
    """What defines a study: its recipe but for where it writes, and the weights."""
    weights = {name: weights_of("verifier", method.verifier) for name, method in recipe.rows.items()}
    return {
        **recipe.model_dump(mode="json", exclude={"output"}),
        "weights": {**weights_of("generator", recipe.generator), **weights},
    }


def run(recipe: VerificationRecipe, console: Console | None = None) -> Row:
    """Observe what is missing, measure, analyse, and write summary, table and figures into `recipe.output`."""
    from imagecot.study.report import plot, table

    console = console or Console(stderr=True)
    claim(recipe.output / "study.json", identity(recipe), "study")
    rows = observe(recipe, recipe.output, console)
    result = analyse(rows, recipe, time_searches(recipe, recipe.output, console))
    result["command"] = f"imagecot study RECIPE  # {json.dumps(recipe.model_dump(mode='json'))}"
    text = json.dumps(result, indent=1) + "\n"
    write_atomically(recipe.output / "summary.json", lambda p: p.write_text(text))
    write_atomically(recipe.output / "table.md", lambda p: p.write_text(table(result) + "\n"))
    plot(result, recipe.output / "curves.png")
    return result
