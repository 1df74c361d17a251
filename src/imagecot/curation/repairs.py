"""Accepted images that differ from a rejected one only in what is wrong: scenes of the drawn world, put right.

Two sources: rejected images of `curate orm`, of which the detected scene is put right and drawn; and pictures of
scenes, beside a prompt that they miss by a little. Both become rows of the question orm, so that `curate corrections`
finds them nearest to what they repair.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from imagecot import guard, registry
from imagecot.contracts.generator import Encoder, Generator
from imagecot.contracts.metadata import Metadata
from imagecot.contracts.randomness import prompt_seed
from imagecot.curation.dataset import RankingData, ranking_row, read_rows
from imagecot.curation.job import Job
from imagecot.curation.judging import requirements
from imagecot.curation.recipes import CurateRepairs
from imagecot.curation.schema import RankingRow
from imagecot.curation.shards import content
from imagecot.errors import ImagecotError, UsageError
from imagecot.geneval.detection import judge
from imagecot.geneval.prompts import TASKS
from imagecot.identity import Identity
from imagecot.images import from_picture, from_png
from imagecot.worlds.drawn.captions import caption
from imagecot.worlds.drawn.dataset import TASK_WEIGHTS, example
from imagecot.worlds.drawn.detector import PictogramDetector, load_detector
from imagecot.worlds.drawn.questions import draw_question
from imagecot.worlds.drawn.repair import lack_of_room, repaired, seen_scene
from imagecot.worlds.drawn.scenes import SIZE, Scene, draw
from imagecot.worlds.find import digests

_DETECTOR = "pictograms"
_NOTHING = "the scorer confirms none of the repairs; take other images, or more scenes."
# What a row is called, its requirement, the scene, and whether it shall be right.
_Made = tuple[str, Metadata, Scene, bool]


@dataclass(frozen=True)
class Repairer:
    """Whose codes all images have, and who sees what is in one and judges its repair.

    UsageError for a generator that finds no codes of pictures, or draws images of another size.
    """

    generator: Generator
    detector: PictogramDetector
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.generator, Encoder):
            raise UsageError(
                "repairs are pictures whose codes the generator finds, and this one finds none; name another."
            )
        if self.generator.canvas.image != (SIZE, SIZE):
            height, width = self.generator.canvas.image
            raise UsageError(
                f"repairs are pictures of {SIZE} x {SIZE} pixels, and the generator's images have {height} x {width}; "
                "name one of the drawn world."
            )

    def images(self, rows: Sequence[RankingRow]) -> list[RankingRow]:
        """Return a repair of each image (rows of the question orm), as far as the scorer confirms it."""
        images = [from_png(row.image) for row in rows]
        made: list[_Made] = []
        for row, image, found in zip(rows, images, guard.detect(self.detector, images), strict=True):
            need = Metadata.of(json.loads(row.metadata))
            scene = repaired(seen_scene(image, found), need, random.Random(f"{self.seed}:{row.id}"))
            made.append((f"repair of {row.id}", need, scene, True))
        return self._rows(made)

    def scenes(self, numbers: Sequence[int]) -> list[RankingRow]:
        """Return the scenes of these numbers with a prompt that they miss, and their repairs."""
        made: list[_Made] = []
        for number in numbers:
            rng = random.Random(f"{self.seed}:{number}")
            scene = example(self.seed, number).scene
            need = missed(scene, rng)
            if need is not None:
                right = repaired(scene, need, rng)
                made += [(f"scene {number}", need, scene, False), (f"repair of scene {number}", need, right, True)]
        return self._rows(made)

    def _rows(self, made: Sequence[_Made]) -> list[RankingRow]:
        """Return the scenes as their codes show them, as far as the scorer agrees with the labels."""
        if not made:
            return []
        codes, images = self._coded(torch.stack([from_picture(draw(scene)) for _, _, scene, _ in made]))
        steps = self.generator.steps
        verdicts = judge(self.detector, list(images), [need for _, need, _, _ in made])
        return [
            ranking_row(
                need,
                "orm",
                image,
                step=steps,
                steps=steps,
                seed=prompt_seed(self.seed, name),
                label=label,
                codes=own,
            )
            for (name, need, _, label), image, own, verdict in zip(made, images, codes, verdicts, strict=True)
            if verdict.correct == label
        ]

    def _coded(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        assert isinstance(self.generator, Encoder)
        codes = self.generator.encode(pictures)
        return codes, self.generator.decode(codes).float().cpu()


def missed(scene: Scene, rng: random.Random) -> Metadata | None:
    """Return a prompt that a scene misses by a little, in the words of training prompts; None where there is none."""
    task = rng.choices(TASKS, [TASK_WEIGHTS[task] for task in TASKS])[0]
    need = draw_question(scene, task, False, rng)
    return need and Metadata(need.tag, caption(need, rng), need.include, need.exclude)


def image_job(recipe: CurateRepairs, data: Path) -> Job[RankingRow]:
    """Repairs of the rejected images of `data`.

    UsageError where it has none; ImagecotError naming a row whose prompt asks for what the drawn world cannot show.
    """
    rows = [row for row in read_rows(data) if row.question == "orm" and row.label == "no"]
    if not rows:
        raise UsageError(f"{data} has no rejected images; run imagecot curate orm first.")
    for row, need in zip(rows, requirements(rows, _DETECTOR, data), strict=True):
        if problem := lack_of_room(need):
            raise ImagecotError(f"the row {row.id[:80]!r} of {data} cannot be put right: {problem}.")
    return Job(
        out=recipe.output,
        identity=_identity(recipe, {"data_sha256": content(data)}),
        work=rows,
        load=lambda under_way: _repairer(recipe, under_way).images,
        doing="repairing",
        title="Repairs",
        how=f"The rejected images of {data}, put right.",
        nothing=lambda: _NOTHING,
    )


def scene_job(recipe: CurateRepairs) -> Job[int]:
    """Scenes beside prompts that they miss, and their repairs."""
    return Job(
        out=recipe.output,
        identity=_identity(recipe, {"scenes": recipe.scenes}),
        work=range(recipe.scenes),
        load=lambda under_way: _repairer(recipe, under_way).scenes,
        doing="repairing",
        title="Repairs",
        how="Scenes, put right.",
        nothing=lambda: _NOTHING,
    )


def _identity(recipe: CurateRepairs, source: Identity) -> Identity:
    return {"kind": "repairs", **source, "generator": recipe.generator, **_weights(recipe), "seed": recipe.seed}


def _weights(recipe: CurateRepairs) -> Identity:
    return {"weights": registry.digests("generator", recipe.generator), "detector_weights": digests(_DETECTOR)}


def _repairer(recipe: CurateRepairs, under_way: RankingData) -> Repairer:
    repairer = Repairer(registry.load("generator", recipe.generator), load_detector(_DETECTOR), recipe.seed)
    under_way.identity |= _weights(recipe)
    return repairer
