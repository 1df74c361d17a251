"""A study that was never run: verdicts and P(yes) drawn from a seed, and the summary that follows from them."""

import json
import random
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

from PIL import Image

from imagecot.geneval.prompts import TASKS
from imagecot.geneval.summary import compare, summarize

N, PROMPTS, STEPS = 8, 5, 18
GENERATORS = {"baseline": (0.35, "tiny"), "iterative_dpo": (0.6, "tiny-dpo-iter")}
ROWS = {  # search, verifier, how much its P(yes) knows
    "baseline": ("baseline", "single", None, 0.0),
    "orm_zero_shot": ("baseline", "best-of-n", "tiny-zero-shot", 0.12),
    "orm_fine_tuned": ("baseline", "best-of-n", "tiny-orm", 0.25),
    "parm": ("baseline", "parm", "tiny-parm", 0.35),
    "iterative_dpo": ("iterative_dpo", "single", None, 0.0),
    "orm_fine_tuned+iterative_dpo": ("iterative_dpo", "best-of-n", "tiny-orm", 0.2),
    "parm+iterative_dpo": ("iterative_dpo", "parm", "tiny-parm", 0.3),
}
CHOOSERS = {name: row for name, row in ROWS.items() if row[2]}


def verdicts() -> dict[str, list[dict[str, Any]]]:
    """By generator a row a prompt: `correct` [judge][path] and each chooser's P(yes) of the paths."""
    draw = random.Random(5)
    found = {}
    for generator, (share, _) in GENERATORS.items():
        rows = []
        for number in range(PROMPTS * len(TASKS)):
            tag = TASKS[number % len(TASKS)]
            first = [draw.random() < share for _ in range(N)]
            second = [right if draw.random() < 0.85 else not right for right in first]
            p_yes = {
                name: [knows * right + (1 - knows) * draw.random() for right in first]
                for name, (of, _, _, knows) in CHOOSERS.items()
                if of == generator
            }
            metadata = {"tag": tag, "prompt": f"a photo of thing {number}"}
            rows.append({"metadata": metadata, "correct": [first, second], "p_yes": p_yes})
        found[generator] = rows
    return found


def judged(rows: list[dict[str, Any]], name: str, judge: int, n: int = N) -> list[dict[str, Any]]:
    """The verdicts on what a row, "random" or "oracle" makes of each group of n paths, as `summarize` takes them."""
    found = []
    for row in rows:
        correct = row["correct"][judge]
        groups = [range(k, k + n) for k in range(0, N - n + 1, n)]
        if name == "random":
            values = correct
        elif name == "oracle":
            values = [any(correct[k] for k in group) for group in groups]
        elif name in row["p_yes"]:
            values = [correct[max(group, key=lambda k: row["p_yes"][name][k])] for group in groups]
        else:
            values = correct[:1]
        found += [{"tag": row["metadata"]["tag"], "metadata": row["metadata"], "correct": value} for value in values]
    return found


def scores(rows: list[dict[str, Any]], name: str, judge: int) -> dict[str, Any]:
    summary = summarize(judged(rows, name, judge))
    return {
        "overall": summary.overall, "overall_se": summary.overall_se,
        "tasks": {tag: task.score for tag, task in summary.tasks.items()},
        "tasks_se": {tag: task.se for tag, task in summary.tasks.items()},
    }  # fmt: skip


def seconds(name: str, n: int) -> float:
    return 0.4 if name not in CHOOSERS else (0.2 if "parm" in name else 0.3) * n + 0.1


def table_row(rows: list[dict[str, Any]], name: str, generator: str) -> dict[str, Any]:
    _, search, verifier, _ = ROWS.get(name, (generator, name, None, 0.0))
    return {
        "label": name.replace("_", " "), "generator": generator, "search": search, "verifier": verifier,
        "n": N if verifier or name == "oracle" else 1, **scores(rows, name, 0), "second_judge": scores(rows, name, 1),
        "seconds_per_image": seconds(name, N) if name in ROWS else None,
        "cost": {"generator_rows": 36.0 * N, "previews": float(N), "judge_calls": float(N)}, "prompts": len(rows),
    }  # fmt: skip


def point(rows: list[dict[str, Any]], name: str, n: int) -> dict[str, Any]:
    first, second = (summarize(judged(rows, name, judge, n)) for judge in (0, 1))
    timed = seconds(name, n) if name in CHOOSERS else None
    return {"n": n, "overall": first.overall, "se": first.overall_se, "second": second.overall,
            "second_se": second.overall_se, "seconds": timed}  # fmt: skip


def comparison(observed: dict[str, Any], a: str, b: str) -> dict[str, Any]:
    first, second = (
        asdict(compare(judged(observed[ROWS[a][0]], a, k), judged(observed[ROWS[b][0]], b, k), resamples=500))
        for k in (0, 1)
    )
    return {"a": a, "b": b, **first, "second_judge": second}


def bins(rows: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    pairs = [(p, right) for row in rows for p, right in zip(row["p_yes"][name], row["correct"][0], strict=True)]
    found = []
    for k in range(5):
        here = [(p, right) for p, right in pairs if k / 5 <= p < (k + 1) / 5 or (k == 4 and p == 1)]
        if here:
            mean, right = (sum(values) / len(here) for values in zip(*here, strict=True))
            found.append({"mean_p": mean, "right": right, "count": len(here)})
    return found


def invent(folder: Path, *, pictures: bool = True) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """Write a study into `folder`; return its summary and the verdicts that it was made of."""
    observed, draw = verdicts(), random.Random(7)
    folder.mkdir(parents=True, exist_ok=True)
    rows = {name: table_row(observed[row[0]], name, row[0]) for name, row in ROWS.items()}
    for generator in GENERATORS:
        rows |= {f"{k}@{generator}": table_row(observed[generator], k, generator) for k in ("random", "oracle")}
    choosers = {g: [name for name, row in CHOOSERS.items() if row[0] == g] for g in GENERATORS}
    clear = [str(min(17, max(1, round(draw.gauss(9, 3))))) for _ in range(200)]
    used = {"paths": 240, "first_clear": {s: clear.count(s) for s in clear} | {"never": 40},
            "stopped": {s: clear.count(s) // 2 for s in clear} | {"never": 140},
            "right_of_stopped": 0.2, "right_of_kept": 0.6}  # fmt: skip
    summary = {
        "rows": rows,
        "curves": {
            g: {name: [point(observed[g], name, n) for n in (1, 2, 4, 8)] for name in (*names, "random", "oracle")}
            for g, names in choosers.items()
        },
        "comparisons": [comparison(observed, b, a) for a, b in combinations(ROWS, 2)],
        "reliability": {
            name: {"verifier": row[2], "bins": bins(observed[row[0]], name), "auroc": 0.8, "balanced_accuracy": 0.7,
                   "ece": float("nan"), "paths": N * PROMPTS * len(TASKS)}
            for name, row in CHOOSERS.items() if row[1] == "best-of-n"
        },
        "steps": {name: used for name, row in CHOOSERS.items() if row[1] == "parm"},
        "agreement": dict.fromkeys(GENERATORS, 0.85),
        "gallery": _gallery(observed, folder) if pictures else [],
        "self_correction": _self_correction(observed["baseline"]),
        "recipe": {
            "generators": {name: model for name, (_, model) in GENERATORS.items()}, "n": N, "seed": 0,
            "rows": {name: {"generator": g, "search": s, "verifier": v} for name, (g, s, v, _) in ROWS.items()},
            "self_correction": {"orm": "tiny-orm"},
        },
        "weights": {"baseline": {"generator": "0" * 64}}, "prompts": PROMPTS * len(TASKS),
        "command": "imagecot study recipes/study/tiny.yaml", "date": "2026-11-22", "seconds": 60.5,
        "machine": {"cpu": "x86_64", "threads": 1}, "versions": {"torch": "2.13"},
    }  # fmt: skip
    (folder / "summary.json").write_text(json.dumps(summary))
    return summary, observed


def _gallery(observed: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    (folder / "gallery").mkdir(exist_ok=True)
    draw, found = random.Random(3), []
    for number in range(2 * len(TASKS)):
        metadata = observed["baseline"][number]["metadata"]
        entry: dict[str, Any] = {**metadata, "images": {}, "correct": {}}
        for name, (generator, *_) in ROWS.items():
            file = f"gallery/{number}-{len(entry['images'])}.png"
            image = Image.new("RGB", (64, 64), "white")
            color = tuple(draw.randrange(256) for _ in range(3))
            image.paste(color, (8 * draw.randrange(4), 8, 32 + 8 * draw.randrange(4), 56))
            image.save(folder / file)
            row = observed[generator][number : number + 1]
            entry["images"][name] = file
            entry["correct"][name] = [judged(row, name, judge)[0]["correct"] for judge in (0, 1)]
        found.append(entry)
    return found


def _self_correction(rows: list[dict[str, Any]]) -> dict[str, Any]:
    names = {
        "no_verifier": "baseline", "orm_fine_tuned": "orm_zero_shot", "parm": "parm",
        "parm++_without_reflection": "parm", "parm++_with_reflection": "orm_fine_tuned", "more_paths": "parm",
    }  # fmt: skip
    table = {ours: {**table_row(rows, source, "x"), "label": ""} for ours, source in names.items()}
    reflecting, without = names["parm++_with_reflection"], names["parm++_without_reflection"]
    gain = asdict(compare(judged(rows, reflecting, 0), judged(rows, without, 0), resamples=500))
    return {
        "rows": table,
        "by_round": {"parm++_with_reflection": [table["parm"], table["parm++_with_reflection"]]},
        "comparisons": [{"a": "parm++_with_reflection", "b": "parm++_without_reflection", **gain}],
        "reasons": {"precision": 0.5, "recall": float("nan")},
        "problems": {"endless": 1},
        "rounds": {"1": 20, "2": 10},
    }


def small(**overall: float) -> dict[str, Any]:
    """A summary of rows alone, by their scores."""
    rows = {name: {"overall": value, "overall_se": 0.03, "tasks": {"colors": value}} for name, value in overall.items()}
    return {"rows": rows}
