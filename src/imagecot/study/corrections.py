"""What a correction is worth by what the generator is told: many wrong images, each drawn again in every way.

Table 5 redraws only what a verifier chose and got wrong, a handful of images. Here images of held-out prompts are
redrawn that all judges call wrong, nobody chooses among what comes out, and all ways share their seeds, so that
comparisons are paired. How right the reasons are is counted on the same images.

    imagecot study recipes/study/corrections.yaml
"""

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, NoReturn, Protocol, Self

import numpy as np
import torch
from pydantic import BaseModel, Field, model_validator
from torch import Tensor

from imagecot.contracts.correction import Correction
from imagecot.contracts.generator import Corrector, Generator
from imagecot.contracts.metadata import Metadata
from imagecot.contracts.paths import finish
from imagecot.contracts.randomness import fork_seeds, path_seeds, prompt_seed
from imagecot.contracts.reflection import Reflector
from imagecot.contracts.verifier import Verifier
from imagecot.errors import UsageError
from imagecot.generators import load_generator
from imagecot.geneval.reading import read_prompt
from imagecot.judging import beside
from imagecot.precision import Precision
from imagecot.prompts import check_prompts
from imagecot.recipe_fields import RECIPE, Few, Name, Place, Seed
from imagecot.reflection.by_asking import examine_image
from imagecot.reflection.discrepancies import from_reason, to_text, understood
from imagecot.study.by_prompt import ByPrompt, claimed
from imagecot.study.counted import counted
from imagecot.study.folder import other_prompt
from imagecot.study.known import Known
from imagecot.study.models import Judges, Verdict
from imagecot.study.recipe import Prompts, judge_in, judge_of, prompts, shuffled
from imagecot.study.rows import Corrected, CorrectionsRow
from imagecot.study.store import Store, in_turn
from imagecot.study.ways import CONTROLS, Rejected, Way, everything, in_words
from imagecot.verifiers import load_verifier
from imagecot.watch import Watch
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
WAYS: Mapping[str, Way] = {name: CONTROLS.get(name, everything) for name in LABELS}


class CorrectionsRecipe(BaseModel):
    """A recipe of `imagecot study` about corrections."""

    model_config = RECIPE

    kind: Literal["corrections-study"] = "corrections-study"
    output: Place
    generator: Name = Field(description="whose wrong images are corrected")
    corrector: Name
    verifier: Name = Field(description="who finds and who writes reasons; self is the generator")
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
        self.verifier = judge_of(self.verifier, self.generator)
        return self

    def only(self, names: Sequence[str]) -> NoReturn:
        """UsageError: there are no rows."""
        raise UsageError("a study of corrections has no rows to choose from; leave out --rows.")


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
    with beside(recipe.generator, generator, dtype=recipe.precision):
        verifier = load_verifier(recipe.verifier, dtype=recipe.precision)
    if not isinstance(corrector, Corrector):
        raise UsageError(f"{recipe.corrector} cannot draw again what is wrong; name a generator that can.")
    if corrector.canvas != generator.canvas:
        raise UsageError(f"{recipe.corrector} has other image codes than {recipe.generator}; name one with the same.")
    if not isinstance(verifier, Reflector):
        raise UsageError(f"{recipe.verifier} writes no reasons; name a verifier that does.")
    return Models(generator, corrector, verifier, Judges.load(recipe.detector, recipe.world))


Corrections = ByPrompt[CorrectionsRecipe, CorrectionsRow]


def begin(recipe: CorrectionsRecipe) -> Corrections:
    """Look at everything but the models; UsageError where the output holds another study."""
    known = Known(recipe.precision)
    weights = {name: known.digests("generator", name) for name in (recipe.generator, recipe.corrector)}
    weights[recipe.verifier] = weights.get(recipe.verifier, {}) | known.digests("verifier", recipe.verifier)
    claim = claimed(recipe, recipe.output, weights)
    every = shuffled(prompts(recipe.detector, recipe.prompts_per_task, recipe.world), recipe.seed)
    fits = partial(misfit, recipe, dict(enumerate(every)))
    store = Store(recipe.output, "corrections", CorrectionsRow, fits, claim)
    return Corrections(recipe, every, weights, store)


def correct(study: Corrections, watch: Watch) -> None:
    """Add the rows that are missing, one a prompt; each is told the last reasons of those before it in a control."""
    recipe, every = study.recipe, study.every
    left = study.left
    if not left:
        return
    models = load(recipe)
    check_prompts([metadata.prompt for metadata in every], models.generator, models.corrector, models.verifier)

    def make(number: int, rows: Mapping[int, CorrectionsRow]) -> CorrectionsRow:
        told = next((rows[before].told for before in reversed(range(number)) if rows[before].told), "")
        return observe(recipe, number, every[number], models, told)

    with watch.progress("correcting") as progress:
        in_turn(study.store, len(every), make, counted(progress, left))


def misfit(recipe: CorrectionsRecipe, asked: Mapping[int, Metadata], row: CorrectionsRow) -> str | None:
    """Say why a stored row does not belong to this study; None where it does."""
    judges = len(judges_of(recipe.detector, recipe.world))
    if len(row.corrected) > recipe.wrong:
        return f"{len(row.corrected)} images are corrected, more than {recipe.wrong}"
    for number, image in enumerate(row.corrected):
        if image.right.keys() != LABELS.keys():
            return f"corrected.{number}.right: the ways are not {', '.join(LABELS)}"
        if any(len(shares) != judges for shares in image.right.values()):
            return f"corrected.{number}.right: shares are not of {judges} judges"
    return other_prompt(row.number, row.metadata, asked)


@torch.no_grad()
def observe(recipe: CorrectionsRecipe, number: int, metadata: Metadata, models: Models, other: str) -> CorrectionsRow:
    """Draw a prompt's images and correct the wrong ones in every way; `other` are another prompt's reasons."""
    began = time.time()
    prompt, generator = metadata.prompt, models.generator
    paths = finish(generator, generator.start([prompt], path_seeds(prompt_seed(recipe.seed, prompt), recipe.paths)))
    images = generator.decode(paths.codes).float()
    verdicts = models.judges.look(images, metadata)
    wrong = [k for k in range(len(images)) if not any(found[k].correct for found in verdicts)][: recipe.wrong]
    corrected, told = [], ""
    for k in wrong:
        rejected = Wrong(metadata, images[k : k + 1], paths.codes[k], paths.seeds[k : k + 1], verdicts[0][k])
        corrected.append(_corrected(rejected, recipe.redraws, models, other))
        told = rejected.scorer
    return CorrectionsRow(
        number=number, metadata=metadata, corrected=corrected, told=told, began=began, ended=time.time()
    )


@dataclass(frozen=True, eq=False)
class Wrong:
    """An image (1, 3, H, W) of a prompt that all judges call wrong, its codes (N,), its seed (1,), and the verdict."""

    metadata: Metadata
    image: Tensor
    codes: Tensor
    seed: Tensor
    verdict: Verdict

    @property
    def scorer(self) -> str:
        """The scorer's reasons in words."""
        return in_words(self.metadata, self.verdict.reason, int(self.seed))


def _corrected(wrong: Wrong, redraws: int, models: Models, other: str) -> Corrected:
    """One image drawn again so often in every way."""
    prompt = wrong.metadata.prompt
    requirement = read_prompt(prompt)
    written = models.verifier.reflect(wrong.image, [prompt])[0]
    asked = examine_image(models.verifier, wrong.image, requirement) if requirement else None
    found = understood(written) if asked is None else asked
    ours = written.reasons if asked is None else to_text(asked, random.Random(int(wrong.seed)))
    image = Rejected(wrong.codes, ours, lambda: wrong.scorer, lambda: written.reasons, other)
    ways = {name: way(image) for name, way in WAYS.items()}
    return Corrected(
        right=_right(models, wrong.metadata, fork_seeds(wrong.seed, redraws), ways),
        true=from_reason(wrong.metadata, wrong.verdict.reason),
        found=found,
        written=understood(written),
    )


def _right(models: Models, metadata: Metadata, seeds: Tensor, ways: Mapping[str, Correction]) -> dict[str, list[float]]:
    """The share of right images, by each judge, of those of seeds (k,) that are drawn in each way."""
    corrections = [way for way in ways.values() for _ in seeds]
    start = models.corrector.correct([metadata.prompt], seeds.repeat(len(ways)), corrections)
    images = models.corrector.decode(finish(models.corrector, start).codes).float()
    right = np.array([[verdict.correct for verdict in found] for found in models.judges.look(images, metadata)])
    return dict(zip(ways, right.reshape(len(right), len(ways), -1).mean(2).T.tolist(), strict=True))
