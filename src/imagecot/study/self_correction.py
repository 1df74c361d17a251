"""Reflection and self-correction on held-out prompts: the paper's Table 5, and the controls that reflection must beat.

All rows draw with the self-correcting generator and from the same recorded paths, so that comparisons are paired. The
controls leave out the reasons, exchange them for those of another prompt, leave out the rejected image, or spend the
time on more paths of PARM. Finished prompts are kept on disk and never redone.
"""

import copy
import json
import random
from collections.abc import Callable
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console
from rich.progress import Progress

from imagecot.files import write_atomically
from imagecot.generators import load_generator
from imagecot.generators.paths import Correction, Generator
from imagecot.generators.randomness import path_seeds, prompt_seed
from imagecot.geneval.discrepancies import Discrepancy, from_reason
from imagecot.geneval.summary import compare, summarize
from imagecot.identity import claim
from imagecot.images import from_picture
from imagecot.models import weights_of
from imagecot.pictograms.captions import held_out_prompts
from imagecot.pictograms.detector import load_detector
from imagecot.search import parm, search
from imagecot.search.parm_plus_plus import ROUNDS, Telling, correct, everything
from imagecot.search.run import Run
from imagecot.search.trace import Candidate, Cost, ranked
from imagecot.study.recorded import record
from imagecot.study.report import score_table, with_error
from imagecot.study.verification import JUDGES, scores_of
from imagecot.training.answers import found_and_said
from imagecot.verifiers import load_verifier

Row = dict[str, Any]
WITH, WITHOUT = "parm++_with_reflection", "parm++_without_reflection"
LABELS = {
    "no_verifier": "single path",
    "orm_fine_tuned": "ORM",
    "parm": "PARM",
    WITHOUT: "PARM++ without reflection",
    WITH: "PARM++ with reflection",
    "more_paths": "control: more paths instead",
    "without_reasons": "control: no reasons",
    "shuffled_reasons": "control: another prompt's reasons",
    "without_image": "control: no rejected image",
}


class SelfCorrectionStudy(BaseModel):
    """A recipe of `imagecot study`."""

    model_config = ConfigDict(extra="forbid")

    output: Path
    correcting_generator: str
    orm: str
    parm: str
    parm_plus_plus: str
    n: int = Field(20, ge=1)
    more_paths: int = Field(32, ge=1, description="paths of PARM that take as long as PARM++ with reflection")
    prompts_per_task: int = Field(60, ge=1, le=60)
    timed_prompts: int = Field(6, ge=0, description="prompts on which the searches are run for their seconds")
    seed: int = 0


def tellings(other: str) -> dict[str, Telling]:
    """What the generator is told with reflection and in the controls; `other` are another prompt's reasons."""
    return {
        WITH: everything,
        "without_reasons": lambda codes, _: Correction(codes),
        "shuffled_reasons": lambda codes, _: Correction(codes, other),
        "without_image": lambda _, reflection: Correction(None, reflection.reasons),
    }


def observe(recipe: SelfCorrectionStudy, console: Console) -> list[Row]:
    """One row a prompt: both judges' verdicts on what every row of the table chose; resumes."""
    path = recipe.output / "candidates.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    prompts = held_out_prompts(recipe.prompts_per_task)
    # Shuffled, so that the prompt before, whose reasons the control is told, is of any task.
    random.Random(recipe.seed).shuffle(prompts)
    if len(rows) == len(prompts):
        return rows
    generator = load_generator(recipe.correcting_generator)
    verifiers = {name: load_verifier(name) for name in {recipe.orm, recipe.parm, recipe.parm_plus_plus}}
    judges = [load_detector(name) for name in JUDGES]

    def look(image: Image.Image, metadata: Row) -> list[Any]:
        return [judge.judge(from_picture(image)[None], [metadata])[0] for judge in judges]

    with Progress(console=console) as bar:
        task = bar.add_task("prompts", total=len(prompts), completed=len(rows))
        for metadata in prompts[len(rows) :]:
            other = rows[-1]["reasons"] if rows else ""
            rows.append(observe_prompt(recipe, metadata, generator, verifiers, look, other))
            text = "\n".join(json.dumps(row) for row in rows) + "\n"
            write_atomically(path, lambda p, text=text: p.write_text(text))  # type: ignore[misc]
            bar.advance(task)
    return rows


def observe_prompt(
    recipe: SelfCorrectionStudy,
    metadata: Row,
    generator: Generator,
    verifiers: dict[str, Any],
    look: Callable[[Image.Image, Row], list[Any]],
    other: str,
) -> Row:
    """Draw one prompt's paths once and let every row of the table choose; `look` gives both judges' verdicts."""
    prompt, seed = metadata["prompt"], prompt_seed(recipe.seed, metadata["prompt"])
    recorded = record(generator, prompt, path_seeds(seed, max(recipe.n, recipe.more_paths)))

    def outcome(image: Image.Image, cost: Cost) -> Row:
        counts = {name: value for name, value in asdict(cost).items() if name != "seconds"}
        return {"correct": [verdict.correct for verdict in look(image, metadata)], "cost": counts}

    arms: dict[str, Row] = {}
    for name, strategy, verifier, n in searches(recipe):
        trace = search(prompt, generator=recorded, verifier=verifiers.get(verifier), strategy=strategy, n=n, seed=seed)
        arms[name] = outcome(trace.image, trace.cost)
    # The rounds start from the choice without reflection; each control redraws from the same candidates.
    first = Run(prompt, recorded, verifiers[recipe.parm_plus_plus], recipe.n, seed)
    candidates, best = parm.choose(first)
    truth = look(_image(candidates[best]), metadata)[0].reason
    said: list[Row] = []
    for name, tell in tellings(other).items():
        run = Run(prompt, recorded, verifiers[recipe.parm_plus_plus], recipe.n, seed)
        found = copy.deepcopy(candidates)
        correct(run, found, best, tell)
        images = [_best(found, number) for number in range(ROUNDS + 1)]
        arms[name] = outcome(images[-1], first.cost + run.cost)
        arms[name]["by_round"] = [[verdict.correct for verdict in look(image, metadata)] for image in images]
        if name == WITH:
            said = [c.reflection.to_dict() for c in found if c.reflection is not None]
            reflection = found[best].reflection
    assert reflection is not None
    return {
        "metadata": metadata,
        "arms": arms,
        "said": said,
        "reasons": reflection.reasons or other,
        "understood": [asdict(d) for d in reflection.discrepancies],
        "true": [asdict(d) for d in from_reason(metadata, truth)],
    }


def searches(recipe: SelfCorrectionStudy) -> list[tuple[str, str, str, int]]:
    """The rows without rounds: name, search, verifier and number of paths."""
    return [
        ("no_verifier", "single", "", 1),
        ("orm_fine_tuned", "best-of-n", recipe.orm, recipe.n),
        ("parm", "parm", recipe.parm, recipe.n),
        (WITHOUT, "parm", recipe.parm_plus_plus, recipe.n),
        ("more_paths", "parm", recipe.parm_plus_plus, recipe.more_paths),
    ]


def _best(candidates: list[Candidate], rounds: int) -> Image.Image:
    """The image that would have been returned after so many rounds."""
    return _image(next(candidates[i] for i in ranked(candidates) if candidates[i].round <= rounds))


def _image(candidate: Candidate) -> Image.Image:
    assert candidate.image is not None
    return candidate.image


def time_searches(recipe: SelfCorrectionStudy) -> dict[str, float]:
    """Mean seconds an image of real searches, side by side on the timed prompts; kept in `timing.json`."""
    file = recipe.output / "timing.json"
    if file.exists():
        found: dict[str, float] = json.loads(file.read_text())
        return found
    generator = load_generator(recipe.correcting_generator)
    verifiers = {name: load_verifier(name) for name in {recipe.orm, recipe.parm, recipe.parm_plus_plus}}
    every = held_out_prompts()
    prompts = every[:: max(1, len(every) // max(1, recipe.timed_prompts))][: recipe.timed_prompts]
    measured = [*searches(recipe), (WITH, "parm++", recipe.parm_plus_plus, recipe.n)]
    seconds: dict[str, float] = {}
    for warm in (True, False):
        for metadata in prompts[:1] if warm else prompts:
            for name, strategy, verifier, n in measured:
                trace = search(
                    metadata["prompt"],
                    generator=generator,
                    verifier=verifiers.get(verifier),
                    strategy=strategy,
                    n=n,
                    seed=prompt_seed(recipe.seed, metadata["prompt"]),
                )
                if not warm:
                    seconds[name] = seconds.get(name, 0.0) + trace.cost.seconds / len(prompts)
    text = json.dumps(seconds, indent=1)
    write_atomically(file, lambda p: p.write_text(text))
    return seconds


def judged(rows: list[Row], name: str, judge: int = 0, rounds: int | None = None) -> list[Row]:
    """One judge's verdict a prompt on what a row of the table chose, or would have chosen after so many rounds."""
    found = []
    for row in rows:
        arm = row["arms"][name]
        verdicts = arm["correct"] if rounds is None else arm["by_round"][rounds]
        found.append({"tag": row["metadata"]["tag"], "metadata": row["metadata"], "correct": verdicts[judge]})
    return found


def _scores(rows: list[Row], name: str, judge: int, rounds: int | None = None) -> Row:
    return scores_of(summarize(judged(rows, name, judge, rounds)))


def analyse(rows: list[Row], recipe: SelfCorrectionStudy, seconds: dict[str, float]) -> Row:
    """The table, the score by rounds, paired comparisons with every control, and how right the reasons are."""
    table = {}
    for name in LABELS:
        costs = [row["arms"][name]["cost"] for row in rows]
        table[name] = {
            **_scores(rows, name, 0),
            "second_judge": _scores(rows, name, 1),
            "seconds_per_image": seconds.get(name),
            "cost": {key: sum(cost[key] for cost in costs) / len(costs) for key in costs[0]},
            "n": {"no_verifier": 1, "more_paths": recipe.more_paths}.get(name, recipe.n),
        }
    by_round = {
        name: [{**_scores(rows, name, 0, k), "second_judge": _scores(rows, name, 1, k)} for k in range(ROUNDS + 1)]
        for name in tellings("")
    }
    gains = [
        {"a": WITH, "b": name, **asdict(compare(judged(rows, WITH), judged(rows, name)))}
        for name in LABELS
        if name != WITH
    ]
    said, true = ([[Discrepancy(**d) for d in row[key]] for row in rows] for key in ("understood", "true"))
    problems = [reflection["problem"] for row in rows for reflection in row["said"] if reflection["problem"]]
    verifiers = {name: getattr(recipe, name) for name in ("orm", "parm", "parm_plus_plus")}
    return {
        "rows": table,
        "by_round": by_round,
        "comparisons": gains,
        "reasons": found_and_said(said, true),
        "problems": {kind: problems.count(kind) for kind in sorted(set(problems))},
        "rounds": {str(k): sum(len(row["said"]) == k for row in rows) for k in range(1, ROUNDS + 1)},
        "weights": {
            **weights_of("generator", recipe.correcting_generator),
            **{role: weights_of("verifier", name).get("verifier") for role, name in verifiers.items()},
        },
        "recipe": recipe.model_dump(mode="json"),
        "prompts": len(rows),
        "date": date.today().isoformat(),
    }


def run(recipe: SelfCorrectionStudy, console: Console | None = None) -> Row:
    """Observe what is missing, measure, analyse, and write summary and table into `recipe.output`."""
    console = console or Console(stderr=True)
    models = {"generator": recipe.correcting_generator}
    models |= {name: getattr(recipe, name) for name in ("orm", "parm", "parm_plus_plus")}
    weights = {name: weights_of("generator" if name == "generator" else "verifier", m) for name, m in models.items()}
    asked = {**recipe.model_dump(mode="json", exclude={"output"}), "weights": weights}
    claim(recipe.output / "study.json", asked, "study")
    rows = observe(recipe, console)
    result = analyse(rows, recipe, time_searches(recipe))
    result["command"] = f"imagecot study RECIPE  # {json.dumps(recipe.model_dump(mode='json'))}"
    text = json.dumps(result, indent=1) + "\n"
    write_atomically(recipe.output / "summary.json", lambda p: p.write_text(text))
    write_atomically(recipe.output / "table.md", lambda p: p.write_text(table_of(result) + "\n"))
    return result


def table_of(result: Row) -> str:
    """The rows as a Markdown table, then the score after each round."""
    rounds = range(ROUNDS + 1)
    out = [score_table(result["rows"], LABELS), ""]
    out += ["| after rounds | " + " | ".join(map(str, rounds)) + " |", "|---" * (ROUNDS + 2) + "|"]
    for name, scores in result["by_round"].items():
        out.append(f"| {LABELS[name]} | " + " | ".join(map(with_error, scores)) + " |")
    return "\n".join(out)
