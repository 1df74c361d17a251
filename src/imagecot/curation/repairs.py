"""Accepted images that differ from a rejected one only in what is wrong: scenes of the drawn world, put right.

Two sources: rejected images of `curate orm`, of which the detected scene is put right and drawn; and pictures of
scenes, beside a prompt that they miss by a little. Both become rows of the question orm, so that `curate corrections`
finds them nearest to what they repair.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from imagecot.curation.dataset import Row, make_row
from imagecot.generators.randomness import prompt_seed
from imagecot.generators.showo.magvitv2 import MagvitV2
from imagecot.geneval.detection import judge
from imagecot.geneval.prompts import TASKS
from imagecot.images import from_picture, from_png
from imagecot.pictograms.captions import caption
from imagecot.pictograms.dataset import TASK_WEIGHTS, example
from imagecot.pictograms.detector import PictogramDetector
from imagecot.pictograms.questions import draw_question
from imagecot.pictograms.repair import Metadata, repaired, seen_scene
from imagecot.pictograms.scenes import Scene, draw

# What a row is called, its requirement, the scene, and whether it shall be right.
_Made = tuple[str, Metadata, Scene, bool]


@dataclass(frozen=True)
class Repairer:
    """Who sees what is in an image and judges its repair, and whose codes all images have; `steps` are its steps."""

    tokenizer: MagvitV2
    detector: PictogramDetector
    steps: int
    seed: int = 0

    def images(self, rows: Sequence[Row]) -> list[Row]:
        """Return a repair of each image (rows of the question orm), as far as the scorer confirms it."""
        images = torch.stack([from_png(row["image"]["bytes"]) for row in rows])
        made: list[_Made] = []
        for row, image, found in zip(rows, images, self.detector.detect(list(images)), strict=True):
            need = json.loads(row["metadata"])
            scene = repaired(seen_scene(image, found), need, random.Random(f"{self.seed}:{row['id']}"))
            made.append((f"repair of {row['id']}", need, scene, True))
        return self._rows(made)

    def scenes(self, numbers: Sequence[int]) -> list[Row]:
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

    def _rows(self, made: Sequence[_Made]) -> list[Row]:
        """Return the scenes as their codes show them, as far as the scorer agrees with the labels."""
        if not made:
            return []
        codes, images = self._coded(torch.stack([from_picture(draw(scene)) for _, _, scene, _ in made]))
        verdicts = judge(self.detector, list(images), [need for _, need, _, _ in made])
        return [
            make_row(need, "orm", image, self.steps, self.steps, prompt_seed(self.seed, name), label, None, own)
            for (name, need, _, label), image, own, verdict in zip(made, images, codes, verdicts, strict=True)
            if verdict.correct == label
        ]

    @torch.no_grad()
    def _coded(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        codes = self.tokenizer.codes(pictures)
        return codes, self.tokenizer.decode_codes(codes).float()


def missed(scene: Scene, rng: random.Random) -> Metadata | None:
    """Return a prompt that a scene misses by a little, in the words of training prompts; None where there is none."""
    task = rng.choices(TASKS, [TASK_WEIGHTS[task] for task in TASKS])[0]
    need = draw_question(scene, task, False, rng)
    return need and {**need, "prompt": caption(need, rng)}
