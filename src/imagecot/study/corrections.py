"""What a correction is worth by what the generator is told: many wrong images, each drawn again in every way.

Table 5 redraws only what a verifier chose and got wrong, a handful of images. Here images of held-out prompts are
redrawn that all judges call wrong, nobody chooses among what comes out, and all ways share their seeds, so that
comparisons are paired. How right the reasons are is counted on the same images.

    imagecot study recipes/study/corrections.yaml
"""

import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Protocol, Self

import numpy as np
import torch
from pydantic import BaseModel, Field, model_validator
from rich.console import Console
from rich.progress import track
from torch import Tensor

from imagecot import interruption
from imagecot.bounds import MOST_WORKERS, check_whole
from imagecot.contracts.correction import Correction
from imagecot.contracts.generator import Corrector, Generator
from imagecot.contracts.paths import finish
from imagecot.contracts.randomness import fork_seeds, path_seeds, prompt_seed
from imagecot.contracts.reflection import Reflector
from imagecot.contracts.verifier import Verifier
from imagecot.errors import UsageError
from imagecot.files import write_text
from imagecot.generators import load_generator
from imagecot.geneval.reading import read_prompt
from imagecot.identity import claim, refuse_occupied
from imagecot.precision import Precision
from imagecot.prompts import check_prompts
from imagecot.recipe_fields import RECIPE, Few, Name, Place, Seed
from imagecot.reflection.answers import found_and_said
from imagecot.reflection.by_asking import examine_image
from imagecot.reflection.discrepancies import Discrepancy, from_reason, to_text, understood
from imagecot.study.folder import STUDY, other_prompt
from imagecot.study.known import Known
from imagecot.study.pool import Judges
from imagecot.study.recipe import Metadata, Prompts, judge_in, prompts
from imagecot.study.rows import CorrectionsRow, Row
from imagecot.study.run import circumstances, write_summary
from imagecot.study.store import Store
from imagecot.verifiers import load_verifier
from imagecot.worlds.find import judges_of

FOUND = "found_by_asking"
LABELS = {
    FOUND: "image, and reasons found by asking",
    "scorer_reasons": "image, and the scorer's own reasons",
    "written_reasons": "image, and reasons as the verifier writes them",
    "shuffled_reasons": "image, and another prompt's reasons",
    "without_reasons": "image alone",
    "without_image": "reasons found by asking alone",
    "prompt_alone": "neither",
}


class CorrectionsRecipe(BaseModel):
    """A recipe of `imagecot study` about corrections."""

    model_config = RECIPE

    output: Place
    generator: Name = Field(description="whose wrong images are corrected")
    corrector: Name
    verifier: Name = Field(description="who finds and who writes reasons")
    precision: Precision | None = None
    prompts_per_task: Prompts = 20
    paths: Few = Field(6, description="of each prompt")
    wrong: Few = Field(2, description="of them that are corrected, at most")
    redraws: Few = Field(4, description="of each wrong image in each way")
    seed: Seed = 0
    detector: Name = Field("pictograms", description="who judges, as in `evaluate geneval`; by default as world says")
    world: Name | None = Field(
        None, description="whose prompts are drawn: by default those that the detector judges by"
    )

    @model_validator(mode="after")
    def _judged(self) -> Self:
        self.detector = judge_in(self.world, self.detector, "detector" in self.model_fields_set)
        return self


def run(recipe: CorrectionsRecipe, *, workers: int = 1, command: str = "", console: Console | None = None) -> Row:
    """Do what is missing, prompt by prompt, and return the summary, which is also written.

    UsageError for several workers, as each prompt is told the reasons of the one before in a control, and where
    `recipe.output` holds another study or a model cannot read a prompt; ImagecotError where a model cannot be used.
    """
    if check_whole(workers, "--workers", 1, MOST_WORKERS) > 1:
        raise UsageError("a study of corrections runs in one process; leave out --workers.")
    known = Known(recipe.precision)
    weights = {name: known.digests("generator", name) for name in (recipe.generator, recipe.corrector)}
    weights[recipe.verifier] = weights.get(recipe.verifier, {}) | known.digests("verifier", recipe.verifier)
    identity = {**recipe.model_dump(mode="json", exclude={"output"}), "weights": weights}
    refuse_occupied(recipe.output / STUDY, identity, "study")
    # In another order than by task, so that the reasons of the prompt before are about anything.
    every = [metadata for _, metadata in prompts(recipe.detector, recipe.prompts_per_task, recipe.world)]
    random.Random(recipe.seed).shuffle(every)
    store = Store(
        recipe.output,
        "corrections",
        CorrectionsRow,
        partial(misfit, recipe, dict(enumerate(every))),
        partial(claim, recipe.output / STUDY, identity, "study"),
    )
    correct(recipe, every, store, console or Console(stderr=True))
    store.fold()
    rows = store.rows()
    summary: Row = {
        **analyse(rows),
        "recipe": recipe.model_dump(mode="json"),
        "weights": weights,
        "seconds": sum(row["ended"] - row["began"] for row in rows),
        **circumstances(command),
    }
    write_summary(recipe.output, summary)
    write_text(recipe.output / "table.md", table(summary))
    return summary


class Drawer(Generator, Corrector, Protocol):
    """A generator that corrects."""


class Judge(Verifier, Reflector, Protocol):
    """A verifier that writes reasons."""


@dataclass(frozen=True)
class Models:
    """What draws, draws again, says what is wrong, and says whether it is right then."""

    generator: Generator
    corrector: Drawer
    verifier: Judge
    judges: Judges


def load(recipe: CorrectionsRecipe) -> Models:
    """Load all models; UsageError where one cannot do what is asked of it."""
    generator, corrector = (
        load_generator(name, dtype=recipe.precision) for name in (recipe.generator, recipe.corrector)
    )
    verifier = load_verifier(recipe.verifier, dtype=recipe.precision)
    if not isinstance(corrector, Corrector):
        raise UsageError(f"{recipe.corrector} cannot draw again what is wrong; name a generator that can.")
    if corrector.canvas != generator.canvas:
        raise UsageError(f"{recipe.corrector} has other image codes than {recipe.generator}; name one with the same.")
    if not isinstance(verifier, Reflector):
        raise UsageError(f"{recipe.verifier} writes no reasons; name a verifier that does.")
    return Models(generator, corrector, verifier, Judges.load(recipe.detector, recipe.world))


def correct(recipe: CorrectionsRecipe, every: Sequence[Metadata], store: Store, console: Console) -> None:
    """Add the rows that `store` lacks, one a prompt of `every`."""
    rows = {row["number"]: row for row in store.rows()}
    left = [number for number in range(len(every)) if number not in rows]
    if not left:
        return
    models = load(recipe)
    check_prompts([metadata["prompt"] for metadata in every], models.generator, models.corrector, models.verifier)
    for number in track(left, "correcting", console=console, disable=not console.is_terminal):
        interruption.check()
        began = time.time()
        told = next((rows[before]["told"] for before in reversed(range(number)) if rows[before]["told"]), "")
        row = observe(recipe, every[number], models, told)
        rows[number] = {"number": number, **row, "began": began, "ended": time.time()}
        store.keep(rows[number])


def misfit(recipe: CorrectionsRecipe, asked: dict[int, Row], row: Row) -> str | None:
    """Say why a stored row does not belong to this study; None where it does."""
    judges = len(judges_of(recipe.detector, recipe.world))
    if len(row["corrected"]) > recipe.wrong:
        return f"{len(row['corrected'])} images are corrected, more than {recipe.wrong}"
    for number, image in enumerate(row["corrected"]):
        if image["right"].keys() != LABELS.keys():
            return f"corrected.{number}.right: the ways are not {', '.join(LABELS)}"
        if any(len(shares) != judges for shares in image["right"].values()):
            return f"corrected.{number}.right: shares are not of {judges} judges"
    return other_prompt(row, asked)


@torch.no_grad()
def observe(recipe: CorrectionsRecipe, metadata: Metadata, models: Models, other: str) -> Row:
    """Draw a prompt's images and correct the wrong ones in every way; `other` are another prompt's reasons."""
    prompt, generator = metadata["prompt"], models.generator
    requirement = read_prompt(prompt)
    paths = finish(generator, generator.start([prompt], path_seeds(prompt_seed(recipe.seed, prompt), recipe.paths)))
    images = generator.decode(paths.codes).float()
    verdicts = models.judges.look(images, metadata)
    wrong = [k for k in range(len(images)) if not any(found[k].correct for found in verdicts)][: recipe.wrong]
    corrected, told = [], ""
    for k in wrong:
        seed = int(paths.seeds[k])
        true = from_reason(metadata, verdicts[0][k].reason)
        written = models.verifier.reflect(images[k : k + 1], [prompt])[0]
        asked = examine_image(models.verifier, images[k : k + 1], requirement) if requirement else None
        found = understood(written) if asked is None else asked
        ours = written.reasons if asked is None else to_text(asked, random.Random(seed))
        told = to_text(true, random.Random(seed))
        codes = paths.codes[k]
        ways = {
            FOUND: Correction(codes, ours),
            "scorer_reasons": Correction(codes, told),
            "written_reasons": Correction(codes, written.reasons),
            "shuffled_reasons": Correction(codes, other),
            "without_reasons": Correction(codes),
            "without_image": Correction(None, ours),
            "prompt_alone": Correction(None),
        }
        seeds = fork_seeds(paths.seeds[k : k + 1], recipe.redraws)
        corrected.append(
            {
                "right": _right(models, metadata, seeds, ways),
                "true": [asdict(d) for d in true],
                "found": [asdict(d) for d in found],
                "written": [asdict(d) for d in understood(written)],
            }
        )
    return {"metadata": metadata, "corrected": corrected, "told": told}


def _right(models: Models, metadata: Metadata, seeds: Tensor, ways: dict[str, Correction]) -> dict[str, list[float]]:
    """The share of right images, by each judge, of those of seeds (k,) that are drawn in each way."""
    corrections = [way for way in ways.values() for _ in seeds]
    start = models.corrector.correct([metadata["prompt"]], seeds.repeat(len(ways)), corrections)
    images = models.corrector.decode(finish(models.corrector, start).codes).float()
    right = np.array([[verdict.correct for verdict in found] for found in models.judges.look(images, metadata)])
    return dict(zip(ways, right.reshape(len(right), len(ways), -1).mean(2).T.tolist(), strict=True))


def analyse(rows: Sequence[Row]) -> Row:
    """How often each way ends right by each judge, what found reasons gain on it, and how right reasons are.

    Standard errors are clustered by prompt, as its images are alike.
    """
    images = [(number, image) for number, row in enumerate(rows) for image in row["corrected"]]
    clusters = [number for number, _ in images]
    shares = {way: np.array([image["right"][way] for _, image in images]) for way in LABELS}  # images x judges
    result: dict[str, Any] = {"images": len(images), "prompts": len(set(clusters)), "ways": {}, "reasons": {}}
    if not images:
        return result
    for way, label in LABELS.items():
        gain = (shares[FOUND] - shares[way]).mean(1)
        result["ways"][way] = {
            "label": label,
            "right": shares[way].mean(0).tolist(),
            "standard_error": [clustered_error(column, clusters) for column in shares[way].T],
            "found_minus_this": float(gain.mean()),
            "its_standard_error": clustered_error(gain, clusters),
        }
    true = [[Discrepancy(**d) for d in image["true"]] for _, image in images]
    for name in ("found", "written"):
        result["reasons"][name] = found_and_said([[Discrepancy(**d) for d in image[name]] for _, image in images], true)
    return result


def clustered_error(values: Sequence[float] | np.ndarray, clusters: Sequence[int]) -> float:
    """The standard error of the mean of values that are alike within clusters: from the sums of their residuals."""
    residuals = np.asarray(values, dtype=float) - np.mean(values)
    sums = np.array([residuals[np.asarray(clusters) == cluster].sum() for cluster in sorted(set(clusters))])
    if len(sums) < 2:
        return float("nan")
    return float(np.sqrt((sums**2).sum() * len(sums) / (len(sums) - 1)) / len(residuals))


def table(summary: Row) -> str:
    """The summary as Markdown."""
    lines = [
        f"{summary['images']} wrong images of {summary['prompts']} prompts; share of right corrections by each judge, "
        "with its standard error.",
        "",
        "| told | right | found by asking minus this, points |",
        "|---|---|--:|",
    ]
    for name, way in summary["ways"].items():
        pairs = zip(way["right"], way["standard_error"], strict=True)
        right = " / ".join(f"{share:.3f} ({error:.3f})" for share, error in pairs)
        gain = f"{100 * way['found_minus_this']:+.1f} ({100 * way['its_standard_error']:.1f})" if name != FOUND else ""
        lines.append(f"| {way['label']} | {right} | {gain} |")
    lines += ["", "| reasons | precision | recall | of kind and object: precision | recall |", "|---|--:|--:|--:|--:|"]
    for name, found in summary["reasons"].items():
        keys = ("precision", "recall", "precision_of_kind", "recall_of_kind")
        lines.append(f"| {name} | " + " | ".join(f"{found[key]:.2f}" for key in keys) + " |")
    return "\n".join(lines) + "\n"
