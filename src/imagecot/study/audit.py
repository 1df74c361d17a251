"""Which partial verdicts predict the final one: every preview of every path is judged, and nobody is stopped.

A search that stops paths early trusts what a verifier says of a preview. Here all paths of held-out prompts are drawn
to their end; on the way each question is asked about each preview, and of generators that have to complete their
previews (`Filling`), about each way to do so. What is said is compared with what the path became.

    imagecot study recipes/study/audit.yaml
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal, NoReturn, Self

import torch
from pydantic import BaseModel, Field, model_validator
from torch import Tensor

from imagecot import guard
from imagecot.contracts.generator import Adjustable, Filling, Generator, fill_of
from imagecot.contracts.metadata import Metadata
from imagecot.contracts.paths import Paths
from imagecot.contracts.questions import CLARITY, ORM, POTENTIAL, PRM, Question
from imagecot.contracts.randomness import path_seeds, prompt_seed
from imagecot.contracts.verifier import Verifier
from imagecot.errors import UsageError
from imagecot.generators import load_generator
from imagecot.judging import beside
from imagecot.precision import Precision
from imagecot.prompts import check_prompts
from imagecot.recipe_fields import RECIPE, Few, Name, Place, Seed
from imagecot.study.by_prompt import ByPrompt, claimed
from imagecot.study.counted import counted
from imagecot.study.folder import other_prompt
from imagecot.study.known import Known
from imagecot.study.models import Judges
from imagecot.study.recipe import Prompts, judge_in, judge_of, prompts
from imagecot.study.rows import AuditRow, Seen
from imagecot.study.store import Store, in_turn
from imagecot.verifiers import load_verifier
from imagecot.watch import Watch
from imagecot.worlds import find

ASKED: Mapping[str, Question] = {question.name: question for question in (CLARITY, POTENTIAL, ORM, PRM)}
Asked = Literal["clarity", "potential", "orm", "prm"]
Answers = dict[str, dict[str, list[float]]]  # by verifier and question, one a path


class AuditRecipe(BaseModel):
    """A recipe of `imagecot study` about what is said of previews."""

    model_config = RECIPE

    kind: Literal["audit"] = "audit"
    output: Place
    generator: Name
    verifiers: Annotated[list[Name], Field(min_length=1, max_length=20)] = Field(
        description="who is asked about previews, and about final images; self is the generator"
    )
    questions: Annotated[list[Asked], Field(min_length=1)] = Field(
        default=["clarity", "potential", "orm"], description="that are asked of every preview"
    )
    steps: Annotated[list[Few], Field(min_length=1)] | None = Field(
        None, description="after which previews are judged; by default all but the last"
    )
    fills: Annotated[list[Name], Field(min_length=1)] | None = Field(
        None, description="ways to complete previews, for generators in raster order; by default the generator's own"
    )
    precision: Precision | None = None
    prompts_per_task: Prompts = 20
    paths: Annotated[int, Field(strict=True, ge=2, le=256)] = Field(8, description="of each prompt")
    seed: Seed = 0
    detector: Name = Field("pictograms", description="who judges, as in `evaluate geneval`; by default as world says")
    world: Name | None = Field(
        None, description="whose prompts are drawn: by default those that the detector judges by"
    )

    @model_validator(mode="after")
    def _judged(self) -> Self:
        self.detector = judge_in(self.world, self.detector, "detector" in self.model_fields_set)
        self.verifiers = [judge_of(name, self.generator) for name in self.verifiers]
        for name, values in (("verifiers", self.verifiers), ("questions", self.questions), ("fills", self.fills or [])):
            twice = next((value for k, value in enumerate(values) if value in values[:k]), None)
            if twice is not None:
                raise ValueError(f"{name}: {twice} is there twice")
        return self

    def only(self, names: Sequence[str]) -> NoReturn:
        """UsageError: there are no rows."""
        raise UsageError("an audit has no rows to choose from; leave out --rows.")


@dataclass(frozen=True)
class Models:
    """Who draws, who is asked, by name, and who judges.

    views  the generator once for each way to complete previews
    steps  after which previews are judged
    """

    generator: Generator
    views: Sequence[Generator]
    verifiers: Mapping[str, Verifier]
    judges: Judges
    steps: frozenset[int]


def load(recipe: AuditRecipe) -> Models:
    """Load all models; UsageError for steps or fills that the generator has not."""
    generator = load_generator(recipe.generator, dtype=recipe.precision)
    steps = frozenset(recipe.steps or range(1, generator.steps))
    if not steps or max(steps) >= generator.steps:
        raise UsageError(
            f"paths of {recipe.generator} have {generator.steps} steps, so their previews are those of steps from 1 to "
            f"{generator.steps - 1}; say others in steps."
        )
    views = _views(recipe, generator)
    with beside(recipe.generator, generator, dtype=recipe.precision):
        verifiers = {name: load_verifier(name, dtype=recipe.precision) for name in recipe.verifiers}
    return Models(
        generator,
        views,
        verifiers,
        Judges.load(recipe.detector, recipe.world),
        steps,
    )


def _views(recipe: AuditRecipe, generator: Generator) -> list[Generator]:
    """The generator as it shows unfinished paths in each way that is asked for."""
    if recipe.fills is None:
        return [generator]
    if not isinstance(generator, Filling) or not isinstance(generator, Adjustable):
        raise UsageError(f"previews of {recipe.generator} cannot be completed in several ways; leave out fills.")
    return [generator.adjusted(fill=fill) for fill in recipe.fills]


Audit = ByPrompt[AuditRecipe, AuditRow]


def begin(recipe: AuditRecipe) -> Audit:
    """Look at everything but the models; UsageError where the output holds another study."""
    known = Known(recipe.precision)
    weights = {recipe.generator: known.digests("generator", recipe.generator)}
    for name in recipe.verifiers:
        weights[name] = weights.get(name, {}) | known.digests("verifier", name)
    for name in find.judges_of(recipe.detector, recipe.world):
        weights[name] = weights.get(name, {}) | dict(find.digests(name))
    claim = claimed(recipe, recipe.output, weights)
    every = [metadata for _, metadata in prompts(recipe.detector, recipe.prompts_per_task, recipe.world)]
    fits = partial(misfit, recipe, dict(enumerate(every)))
    return Audit(recipe, every, weights, Store(recipe.output, "previews", AuditRow, fits, claim))


def look(audit: Audit, watch: Watch) -> None:
    """Add the rows that are missing, one a prompt."""
    recipe, every = audit.recipe, audit.every
    left = audit.left
    if not left:
        return
    models = load(recipe)
    check_prompts([metadata.prompt for metadata in every], models.generator, *models.verifiers.values())
    with watch.progress("drawing and asking") as progress:
        make = partial(_row, recipe, every, models)
        in_turn(audit.store, len(every), make, counted(progress, left))


def misfit(recipe: AuditRecipe, asked: Mapping[int, Metadata], row: AuditRow) -> str | None:
    """Say why a stored row does not belong to this audit; None where it does."""
    other = other_prompt(row.number, row.metadata, asked)
    if other:
        return other
    judges = len(find.judges_of(recipe.detector, recipe.world))
    if (len(row.correct), len(row.correct[0])) != (judges, recipe.paths):
        return f"correct is not of {judges} judges and {recipe.paths} paths"
    if row.final.keys() != {*recipe.verifiers}:
        return f"final is not of {', '.join(recipe.verifiers)}"
    for k, seen in enumerate(row.seen):
        if seen.answers.keys() != {*recipe.verifiers}:
            return f"seen.{k}.answers is not of {', '.join(recipe.verifiers)}"
        if any(said.keys() != {*recipe.questions} for said in seen.answers.values()):
            return f"seen.{k}.answers is not of {', '.join(recipe.questions)}"
    return None


def _row(
    recipe: AuditRecipe, every: Sequence[Metadata], models: Models, number: int, rows: Mapping[int, AuditRow]
) -> AuditRow:
    return observe(recipe, number, every[number], models)


@torch.no_grad()
def observe(recipe: AuditRecipe, number: int, metadata: Metadata, models: Models) -> AuditRow:
    """Draw the paths of a prompt, ask about their previews on the way, and judge what they become."""
    began = time.time()
    prompt, generator = metadata.prompt, models.generator
    seen: list[Seen] = []
    paths = guard.start(generator, [prompt], path_seeds(prompt_seed(recipe.seed, prompt), recipe.paths))
    while not paths.finished:
        paths = guard.advance(generator, paths)
        if paths.step in models.steps:
            seen += [_seen(recipe, prompt, paths, view, models) for view in models.views]
    images = guard.decode(generator, paths.codes)
    verdicts = models.judges.look(images, metadata)
    final = {name: rounded(guard.ask(verifier, images, [prompt], ORM)) for name, verifier in models.verifiers.items()}
    return AuditRow(
        number=number,
        metadata=metadata,
        steps=generator.steps,
        correct=[[verdict.correct for verdict in found] for found in verdicts],
        final=final,
        seen=seen,
        began=began,
        ended=time.time(),
    )


def _seen(recipe: AuditRecipe, prompt: str, paths: Paths, view: Generator, models: Models) -> Seen:
    images = guard.preview(view, paths)
    answers = {name: answers_about(v, images, prompt, recipe.questions) for name, v in models.verifiers.items()}
    return Seen(step=paths.step, fill=fill_of(view, paths.step), answers=answers)


def answers_about(verifier: Verifier, images: Tensor, prompt: str, names: Sequence[str]) -> dict[str, list[float]]:
    """P(yes) to each question about images (B, 3, H, W), one an image; a follow-up is asked after the one it follows.

    It is asked of all images, whatever was said before, as only that lets all steps be compared.
    """
    asked = [ASKED[name] for name in names]
    found: dict[str, Tensor] = {}
    for question in asked:
        if question.follows is not None:
            found[question.follows.name], after = guard.begin(verifier, images, [prompt], question.follows)
            found[question.name] = guard.ask(verifier, images, [prompt], question, after)
    for question in asked:
        if question.name not in found:
            found[question.name] = guard.ask(verifier, images, [prompt], question)
    return {name: rounded(found[name]) for name in names}


def rounded(answers: Tensor) -> list[float]:
    """Answers (B,) as a study keeps them: six digits behind the point."""
    return [round(p, 6) for p in answers.tolist()]
