"""Reflection and self-correction on held-out prompts: the paper's Table 5, and the controls that reflection must beat.

All rows draw with the self-correcting generator and from the same recorded paths, so that comparisons are paired. The
controls leave out the reasons, exchange them for those of another prompt, leave out the rejected image, or spend the
time on more paths of PARM. Finished prompts are kept on disk and never redone.
"""

import copy
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict

import numpy as np
from PIL import Image

from imagecot import interruption
from imagecot.contracts.correction import Correction
from imagecot.contracts.randomness import path_seeds, prompt_seed
from imagecot.contracts.reflection import Reflector
from imagecot.contracts.search import Candidate
from imagecot.errors import UsageError
from imagecot.geneval.rules import Judgment
from imagecot.geneval.summary import compare
from imagecot.images import from_picture
from imagecot.reflection.answers import found_and_said
from imagecot.reflection.discrepancies import Discrepancy, described, from_reason, to_text, understood
from imagecot.strategies.best_of_n import BestOfN
from imagecot.strategies.parm import Parm
from imagecot.strategies.parm_plus_plus import ROUNDS, ParmPlusPlus, Telling, codes_of, correct, everything
from imagecot.strategies.request import Request
from imagecot.strategies.run import Run
from imagecot.strategies.search import carry_out
from imagecot.strategies.single import Single
from imagecot.strategies.trace import ranked
from imagecot.study.analysis import both_judges, mean_cost
from imagecot.study.pool import Judges, Models, counts
from imagecot.study.recipe import Metadata, SelfCorrection, StudyRecipe, prompts
from imagecot.study.recorded import record
from imagecot.study.rows import Row
from imagecot.study.store import Store
from imagecot.study.timing import Timed, Timing

Look = Callable[[Image.Image], list[Judgment]]  # each judge's verdict on an image of the prompt at hand
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
    "prompt_alone": "control: neither image nor reasons",
    "written_reasons": "reasons as the verifier writes them",
    "scorer_reasons": "the scorer's own reasons",
}
ROUNDED = (
    *(WITH, "without_reasons", "shuffled_reasons", "without_image", "prompt_alone"),
    *("written_reasons", "scorer_reasons"),
)


def tellings(other: str, see: Callable[[Candidate], str], write: Callable[[Candidate], str]) -> dict[str, Telling]:
    """What the generator is told with reflection and in the controls.

    other  another prompt's reasons
    see    what the scorer finds wrong with a candidate, in words: with these the verifier's part plays no role
    write  what the verifier writes of a candidate, whether or not its prompt can be examined part by part
    """
    return {
        WITH: everything,
        "without_reasons": lambda rejected, _: Correction(codes_of(rejected)),
        "shuffled_reasons": lambda rejected, _: Correction(codes_of(rejected), other),
        "without_image": lambda _, reflection: Correction(None, reflection.reasons),
        "prompt_alone": lambda *_: Correction(None),
        "written_reasons": lambda rejected, _: Correction(codes_of(rejected), write(rejected)),
        "scorer_reasons": lambda rejected, _: Correction(codes_of(rejected), see(rejected)),
    }


def verifiers_of(part: SelfCorrection) -> set[str]:
    """The names of all verifiers of the study."""
    return {part.orm, part.parm, part.parm_plus_plus}


def shuffled_prompts(recipe: StudyRecipe) -> list[Metadata]:
    """The prompts in an order in which the one before, whose reasons a control is told, is of any task."""
    found = [metadata for _, metadata in prompts(recipe.detector, recipe.prompts_per_task, recipe.world)]
    random.Random(recipe.seed).shuffle(found)
    return found


def check(part: SelfCorrection, models: Models, prompts: Sequence[str]) -> None:
    """Raise UsageError for what the models cannot do."""
    verifier = models.verifiers[part.parm_plus_plus]
    if not isinstance(verifier, Reflector):
        raise UsageError(f"{part.parm_plus_plus} writes no reasons, which a row of Table 5 tells; name one that does.")
    for prompt in prompts[:1]:
        Request(prompt, models.generator, verifier, ParmPlusPlus(), 1, 0, part.options)


def observe(
    recipe: StudyRecipe, part: SelfCorrection, store: Store, models: Models, judges: Judges, done: Callable[[], object]
) -> None:
    """Add the rows that `store` lacks, one a prompt: the judges' verdicts on what every row of the table chose."""
    rows = {row["number"]: row for row in store.rows()}
    for number, metadata in enumerate(shuffled_prompts(recipe)):
        if number in rows:
            continue
        interruption.check()
        began = time.time()

        def look(image: Image.Image, metadata: Metadata = metadata) -> list[Judgment]:
            return [verdict for (verdict,) in judges.look(from_picture(image)[None], metadata)]

        other = rows[number - 1]["reasons"] if number else ""
        row = observe_prompt(recipe, part, metadata, models, look, other)
        rows[number] = {"number": number, **row, "began": began, "ended": time.time()}
        store.keep(rows[number])
        done()


def observe_prompt(
    recipe: StudyRecipe, part: SelfCorrection, metadata: Metadata, models: Models, look: Look, other: str
) -> Row:
    """Draw one prompt's paths once and let every row of the table choose; `other` are another prompt's reasons."""
    prompt, seed = metadata["prompt"], prompt_seed(recipe.seed, metadata["prompt"])
    recorded = record(models.generator, prompt, path_seeds(seed, max(recipe.n, part.more_paths)))

    def verdicts(image: Image.Image) -> list[bool]:
        return [verdict.correct for verdict in look(image)]

    arms: dict[str, Row] = {}
    for one in searches(recipe, part):
        verifier = models.verifier(one.verifier)
        trace = carry_out(Request(prompt, recorded, verifier, one.search, one.sizes[0], seed, one.options))
        arms[one.name] = {"correct": verdicts(trace.image), "cost": counts(trace.cost)}
    # The rounds start from the choice without reflection; each control redraws from the same candidates.
    reflecting = models.verifiers[part.parm_plus_plus]
    assert isinstance(reflecting, Reflector)  # as was checked before
    request = Request(prompt, recorded, reflecting, ParmPlusPlus(), recipe.n, seed, part.options)
    first = Run(request)
    choice = Parm().choose(first)
    candidates, best = [*choice.candidates], choice.index
    truth = look(_image(candidates[best]))[0].reason
    said: list[Row] = []

    def see(rejected: Candidate) -> str:
        wrong = from_reason(metadata, look(_image(rejected))[0].reason)
        return to_text(wrong, random.Random(rejected.seed))

    def write(rejected: Candidate) -> str:
        return reflecting.reflect(from_picture(_image(rejected))[None], [prompt])[0].reasons

    for name, tell in tellings(other, see, write).items():
        run = Run(request)
        found = copy.deepcopy(candidates)
        correct(run, found, best, tell)
        by_round = [verdicts(_best(found, number)) for number in range(ROUNDS + 1)]
        arms[name] = {
            "correct": by_round[-1],
            "cost": counts(first.cost + run.cost),
            "by_round": by_round,
            "redrawn": [verdicts(_image(c)) for c in found if c.round == 1],
        }
        if name == WITH:
            said = [described(c.reflection) for c in found if c.reflection is not None]
            reflection = found[best].reflection
    assert reflection is not None
    return {
        "metadata": metadata,
        "arms": arms,
        "said": said,
        "reasons": reflection.reasons or other,
        "understood": [asdict(d) for d in understood(reflection)],
        "true": [asdict(d) for d in from_reason(metadata, truth)],
    }


def misfit(row: Row, judges: int) -> str | None:
    """Say what a stored prompt lacks that the table needs; None where nothing is missing."""
    if row["arms"].keys() != LABELS.keys():
        return f"arms are not {', '.join(LABELS)}"
    if not row["said"]:
        return "said is empty"
    for name, arm in row["arms"].items():
        if len(arm["correct"]) != judges:
            return f"arms.{name}: correct is not of {judges} judges"
        if name in ROUNDED and (len(arm.get("by_round") or []) != ROUNDS + 1 or arm.get("redrawn") is None):
            return f"arms.{name}: by_round is not of {ROUNDS} rounds, or redrawn is missing"
    return None


def searches(recipe: StudyRecipe, part: SelfCorrection) -> list[Timed]:
    """The rows without rounds."""
    return [
        Timed("no_verifier", Single(), None, [1]),
        Timed("orm_fine_tuned", BestOfN(), part.orm, [recipe.n]),
        Timed("parm", Parm(), part.parm, [recipe.n], part.options),
        Timed(WITHOUT, Parm(), part.parm_plus_plus, [recipe.n], part.options),
        Timed("more_paths", Parm(), part.parm_plus_plus, [part.more_paths], part.options),
    ]


def timed(recipe: StudyRecipe, part: SelfCorrection) -> list[Timed]:
    """The rows whose seconds are measured: the controls take as long as reflection does."""
    rounds = Timed(WITH, ParmPlusPlus(), part.parm_plus_plus, [recipe.n], part.options)
    return [*searches(recipe, part), rounds]


def _best(candidates: list[Candidate], rounds: int) -> Image.Image:
    """The image that would have been returned after so many rounds."""
    return _image(next(candidates[i] for i in ranked(candidates) if candidates[i].round <= rounds))


def _image(candidate: Candidate) -> Image.Image:
    assert candidate.image is not None
    return candidate.image


def judged(rows: list[Row], name: str, judge: int = 0, rounds: int | None = None) -> list[Row]:
    """One judge's verdict a prompt on what a row of the table chose, or would have chosen after so many rounds."""
    found = []
    for row in rows:
        arm = row["arms"][name]
        verdicts = arm["correct"] if rounds is None else arm["by_round"][rounds]
        found.append({"tag": row["metadata"]["tag"], "metadata": row["metadata"], "correct": verdicts[judge]})
    return found


def _scores(rows: list[Row], name: str, rounds: int | None = None) -> Row:
    judges = range(len(rows[0]["arms"][name]["correct"]))
    return both_judges([judged(rows, name, judge, rounds) for judge in judges])


def _redrawn(rows: list[Row], name: str) -> Row:
    """The share of right ones among the images of the first round, where the image that they replace was wrong.

    All rows redraw the same images, and nobody chooses: what a correction is worth, by each judge, with its standard
    error over prompts.
    """
    drawn = [row["arms"][name]["redrawn"] for row in rows if row["true"] and row["arms"][name]["redrawn"]]
    if not drawn:
        return {"prompts": 0, "right": [], "standard_error": []}
    shares = np.array([np.mean(images, axis=0) for images in drawn])  # prompts x judges
    errors = shares.std(axis=0, ddof=1) / len(shares) ** 0.5 if len(shares) > 1 else np.zeros(shares.shape[1])
    return {"prompts": len(shares), "right": shares.mean(axis=0).tolist(), "standard_error": errors.tolist()}


def analyse(rows: list[Row], recipe: StudyRecipe, part: SelfCorrection, timing: Timing) -> Row:
    """The table, the score by rounds, paired comparisons with every control, and how right the reasons are."""
    sizes = {one.name: one.sizes[0] for one in searches(recipe, part)}
    table = {}
    for name in LABELS:
        n = sizes.get(name, recipe.n)
        table[name] = {
            "label": LABELS[name],
            "n": n,
            **_scores(rows, name),
            "seconds_per_image": timing.get(name, {}).get(n),
            "cost": mean_cost([row["arms"][name]["cost"] for row in rows]),
            "prompts": len(rows),
        }
    gains = [
        {"a": WITH, "b": name, **asdict(compare(judged(rows, WITH), judged(rows, name)))}
        for name in LABELS
        if name != WITH
    ]
    said, true = ([[Discrepancy(**d) for d in row[key]] for row in rows] for key in ("understood", "true"))
    problems = [reflection["problem"] for row in rows for reflection in row["said"] if reflection["problem"]]
    return {
        "rows": table,
        "by_round": {name: [_scores(rows, name, k) for k in range(ROUNDS + 1)] for name in ROUNDED},
        "redrawn": {name: _redrawn(rows, name) for name in ROUNDED},
        "comparisons": gains,
        "reasons": found_and_said(said, true),
        "problems": {kind: problems.count(kind) for kind in sorted(set(problems))},
        "rounds": {str(k): sum(len(row["said"]) == k for row in rows) for k in range(1, ROUNDS + 1)},
        "prompts": len(rows),
    }
