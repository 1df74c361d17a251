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
from typing import Any

import torch
from torch import Tensor

from imagecot import guard, registry
from imagecot.bounds import check_seed, check_whole
from imagecot.contracts.generator import Encoder, Generator
from imagecot.contracts.metadata import Metadata
from imagecot.contracts.randomness import prompt_seed
from imagecot.curation.dataset import RankingData, Row, content, make_row, read_rows
from imagecot.curation.job import Job, Make
from imagecot.curation.judging import requirements
from imagecot.errors import ImagecotError, UsageError
from imagecot.geneval.detection import judge
from imagecot.geneval.prompts import TASKS
from imagecot.images import from_picture, from_png
from imagecot.worlds.drawn.captions import caption
from imagecot.worlds.drawn.dataset import TASK_WEIGHTS, example
from imagecot.worlds.drawn.detector import PictogramDetector, load_detector
from imagecot.worlds.drawn.questions import draw_question
from imagecot.worlds.drawn.repair import lack_of_room, repaired, seen_scene
from imagecot.worlds.drawn.scenes import SIZE, Scene, draw
from imagecot.worlds.find import digests

MOST_SCENES = 10_000_000
_DETECTOR = "pictograms"
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

    def images(self, rows: Sequence[Row]) -> list[Row]:
        """Return a repair of each image (rows of the question orm), as far as the scorer confirms it."""
        images = [from_png(row["image"]["bytes"]) for row in rows]
        made: list[_Made] = []
        for row, image, found in zip(rows, images, guard.detect(self.detector, images), strict=True):
            need = Metadata.of(json.loads(row["metadata"]))
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
        steps = self.generator.steps
        verdicts = judge(self.detector, list(images), [need for _, need, _, _ in made])
        return [
            make_row(need, "orm", image, steps, steps, prompt_seed(self.seed, name), label, None, own)
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


def repair_job(data: Path | None, scenes: int, out: Path, generator: str, seed: int) -> Job:
    """Repairs of the rejected images of `data`, or of that many scenes beside prompts that they miss.

    UsageError where neither or both are given, or where `data` has no rejected images; ImagecotError naming a row whose
    prompt asks for what the drawn world cannot show.
    """
    check_seed(seed)
    check_whole(scenes, "scenes", 0, MOST_SCENES)
    if (data is None) == (scenes == 0):
        raise UsageError("give either --data, a folder of curate orm, or --scenes, a number of at least 1.")
    work: Any = range(scenes)
    source: Row = {"scenes": scenes}
    if data is not None:
        work = [row for row in read_rows(data) if row["question"] == "orm" and row["label"] == "no"]
        if not work:
            raise UsageError(f"{data} has no rejected images; run imagecot curate orm first.")
        for row, need in zip(work, requirements(work, _DETECTOR, data), strict=True):
            if problem := lack_of_room(need):
                raise ImagecotError(f"the row {row['id'][:80]!r} of {data} cannot be put right: {problem}.")
        source = {"data_sha256": content(data)}

    def weights() -> Row:
        return {"weights": registry.digests("generator", generator), "detector_weights": digests(_DETECTOR)}

    def load(under_way: RankingData) -> Make:
        repairer = Repairer(registry.load("generator", generator), load_detector(_DETECTOR), seed)
        under_way.identity |= weights()
        return repairer.scenes if data is None else repairer.images

    return Job(
        out=out,
        identity={"kind": "repairs", **source, "generator": generator, **weights(), "seed": seed},
        work=work,
        load=load,
        title="Repairs",
        how=f"The rejected images of {data}, put right." if data else "Scenes, put right.",
        nothing=lambda: "the scorer confirms none of the repairs; take other images, or more scenes.",
    )
