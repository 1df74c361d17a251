"""Paths that are drawn to their end once, with what the verifier says of them on their way, and who is right.

A row a prompt, each written whole when it is made; so a run that was killed goes on with the next prompt.
"""

import hashlib
import time
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from imagecot import guard, registry
from imagecot.calibration.recipe import CalibrationRecipe
from imagecot.contracts.asking import Asking
from imagecot.contracts.generator import Generator
from imagecot.contracts.metadata import Metadata
from imagecot.contracts.questions import ORM, Question
from imagecot.contracts.randomness import path_seeds, prompt_seed
from imagecot.contracts.verifier import Verifier
from imagecot.errors import UsageError
from imagecot.geneval.metadata import read_prompts
from imagecot.geneval.prompts import refuse_overlap
from imagecot.identity import Identity, claim, refuse_occupied
from imagecot.judging import judge_named
from imagecot.reading import Schema, read_lines
from imagecot.strategies.replay import Recorded
from imagecot.study.audit import answers_about, rounded
from imagecot.study.kinds import Count, Seconds, Share
from imagecot.study.known import Known
from imagecot.study.models import Judges
from imagecot.study.rows import Numbered
from imagecot.study.searches import strategy_named
from imagecot.study.store import Store
from imagecot.worlds import find

IDENTITY = "calibration.json"


class Said(Schema):
    """P(yes) to a question about the previews after a step, one a path."""

    step: Annotated[Count, Field(ge=1)]
    question: str
    p_yes: list[Share]


class PoolRow(Numbered):
    """The paths of a prompt: P(yes) of the final images, what was said before, and what each judge says of them."""

    prompt: str
    steps: Annotated[Count, Field(ge=1)]
    final: Annotated[list[Share], Field(min_length=1)]
    seen: list[Said]
    right: Annotated[list[list[Share]], Field(min_length=1)]
    began: Seconds
    ended: Seconds

    @model_validator(mode="after")
    def _as_many_each(self) -> Self:
        if {len(said) for said in [*self.right, *(one.p_yes for one in self.seen)]} - {len(self.final)}:
            raise ValueError("answers and verdicts are not of equally many paths")
        return self

    @property
    def recorded(self) -> Recorded:
        """The same as a search replays it."""
        return Recorded(self.steps, self.final, {(one.step, one.question): one.p_yes for one in self.seen})


@dataclass(frozen=True)
class Judging:
    """Who says which images are right: detectors, or a verifier by its P(yes)."""

    detectors: Judges | None
    verifier: Verifier | None = None

    def look(self, images: Tensor, prompt: Metadata) -> list[list[float]]:
        """What each judge says of images (B, 3, H, W), from 0 to 1."""
        if self.detectors is not None:
            return [[float(one.correct) for one in found] for found in self.detectors.look(images, prompt)]
        assert self.verifier is not None
        return [rounded(guard.ask(self.verifier, images, [prompt.prompt], ORM))]


@dataclass(frozen=True)
class Pools:
    """The pools of a calibration: what they depend on, and where they are kept."""

    recipe: CalibrationRecipe

    @cached_property
    def verifier(self) -> str:
        """The name of the verifier."""
        return judge_named(self.recipe.verifier, self.recipe.generator)

    @cached_property
    def home(self) -> str:
        """The name of the generator's world."""
        return registry.world_of(self.recipe.generator)

    @cached_property
    def detector(self) -> str | None:
        """The name of the first detector that judges; None where a verifier does."""
        if self.recipe.judge is not None:
            return None
        return self.recipe.detector or find.world(self.home).judges[0]

    @cached_property
    def judge(self) -> str | None:
        """The name of the verifier that judges instead of a detector."""
        return self.recipe.judge and judge_named(self.recipe.judge, self.recipe.generator)

    @cached_property
    def questions(self) -> list[Question]:
        """What is asked about previews: what any of the searches asks."""
        found = {ORM}
        for name in self.recipe.searches:
            search = strategy_named(name)
            found |= search.questions if isinstance(search, Asking) else set()
        return sorted(found, key=lambda question: question.name)

    @cached_property
    def prompts(self) -> list[Metadata]:
        """The prompts; UsageError where they cannot be read, or a world is tested by one of them."""
        asked, recipe = self.recipe.prompts, self.recipe
        if asked is None or find.is_world(asked):
            name = asked or self.home
            return find.training_prompts_of(find.world(name), recipe.per_task, recipe.seed, name)
        file = Path(asked)
        found = read_prompts(file, find.classes_of(self.detector, self.home)) if self.detector else _plain_prompts(file)
        texts = [metadata.prompt for metadata in found]
        refuse_overlap(texts, [metadata.prompt for metadata in find.prompts_of(find.world(self.home), self.home)])
        if self.detector:
            refuse_overlap(texts, find.held_out_of(self.detector))
        twice = next((text for k, text in enumerate(texts) if text in texts[:k]), None)
        if twice is not None:
            raise UsageError(f"{file} holds the prompt {twice[:60]!r} twice, with the same paths; leave one out.")
        return found

    @property
    def identity(self) -> Identity:
        """What the pools depend on."""
        recipe, texts = self.recipe, "\n".join(metadata.text for metadata in self.prompts)
        known = Known(recipe.precision)
        weights = known.digests("generator", recipe.generator) | known.digests("verifier", self.verifier)
        for name in find.judges_of(self.detector, self.home) if self.detector else ():
            weights |= {f"{role} of {name}": digest for role, digest in find.digests(name).items()}
        if self.judge:
            weights |= {f"{role} of judge": digest for role, digest in known.digests("verifier", self.judge).items()}
        return {
            "generator": recipe.generator,
            "verifier": self.verifier,
            "judge": self.judge or self.detector,
            "n": recipe.n,
            "seed": recipe.seed,
            "first_step": recipe.first_step,
            "questions": [question.name for question in self.questions],
            "precision": recipe.precision,
            "prompts_sha256": hashlib.sha256(texts.encode()).hexdigest(),
            "weights": weights,
        }

    def store(self) -> Store[PoolRow]:
        """Where the rows are; UsageError where the folder holds anything else."""
        folder, identity = self.recipe.output, self.identity
        refuse_occupied(folder / IDENTITY, identity, "calibration")
        write = partial(claim, folder / IDENTITY, identity, "calibration")
        return Store(folder, "pools", PoolRow, self._misfit, write)

    def _misfit(self, row: PoolRow) -> str | None:
        """Say why a row is not of these pools; None where it is."""
        if row.number >= len(self.prompts) or row.prompt != self.prompts[row.number].prompt:
            return f"prompt is not the {row.number + 1}th"
        return None if len(row.final) == self.recipe.n else f"there are {len(row.final)} paths, not {self.recipe.n}"


def looked_at(steps: int, first: int | None) -> range:
    """The steps after which previews are judged."""
    return range(first or max(1, steps // 4), steps)


def _plain_prompts(file: Path) -> list[Metadata]:
    """The prompts of a text file with one a line."""
    advice = "give a file with a prompt a line"
    lines = read_lines(file, failure=UsageError, advice=advice)
    found = [Metadata("", line.strip(), ()) for _, line in lines]
    if not found:
        raise UsageError(f"{file} holds no prompts; {advice}.")
    return found


@torch.no_grad()
def observe(pools: Pools, generator: Generator, verifier: Verifier, judging: Judging, number: int) -> PoolRow:
    """Draw the paths of a prompt, ask about them on the way, and let the judges look at what they become."""
    began, metadata, recipe = time.time(), pools.prompts[number], pools.recipe
    prompt, names = metadata.prompt, [question.name for question in pools.questions]
    steps, seen = looked_at(generator.steps, recipe.first_step), []
    paths = guard.start(generator, [prompt], path_seeds(prompt_seed(recipe.seed, prompt), recipe.n))
    while not paths.finished:
        paths = guard.advance(generator, paths)
        if paths.step in steps and not paths.finished:
            said = answers_about(verifier, guard.preview(generator, paths), prompt, names)
            seen += [Said(step=paths.step, question=name, p_yes=answers) for name, answers in said.items()]
    images = guard.decode(generator, paths.codes)
    return PoolRow(
        number=number,
        prompt=prompt,
        steps=generator.steps,
        final=rounded(guard.ask(verifier, images, [prompt], ORM)),
        seen=seen,
        right=judging.look(images, metadata),
        began=began,
        ended=time.time(),
    )
