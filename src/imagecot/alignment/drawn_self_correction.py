"""Self-correction with the plain pictures of the drawn world, scored on its held-out prompts."""

import random
from pathlib import Path

import torch
from torch import Tensor

from imagecot.alignment import self_correction
from imagecot.alignment.self_correction import Plain, PlainPool, SelfCorrectionRecipe
from imagecot.generators.showo import ShowoGenerator
from imagecot.watch import SILENT, Watch
from imagecot.worlds.drawn.dataset import Pool
from imagecot.worlds.drawn.detector import load_detector
from imagecot.worlds.drawn.training.generator import encode_pool, scene_caption, task_scores


def train_self_correction(recipe: SelfCorrectionRecipe, *, watch: Watch = SILENT) -> ShowoGenerator:
    """Train by a recipe; see `alignment.self_correction`."""
    return self_correction.train_self_correction(recipe, pictures, scores, watch=watch)


def pictures(generator: ShowoGenerator, plain: PlainPool, cache: Path, watch: Watch = SILENT) -> Plain:
    """Scenes of the drawn world with captions; their codes are computed once and kept in `cache`."""
    pool = Pool(plain.data, plain.examples, plain.seed, watch=watch)
    codes = encode_pool(generator.image_tokenizer, pool, cache, watch=watch)

    def some(count: int, draw: torch.Generator, rng: random.Random) -> tuple[list[str], Tensor]:
        index = torch.randint(len(pool), (count,), generator=draw).tolist()
        return [scene_caption(pool[k], rng) for k in index], codes[index].long()

    return some


def scores(generator: ShowoGenerator, per_task: int) -> dict[str, float]:
    """Scores on the first `per_task` held-out prompts a task."""
    return task_scores(generator, load_detector(), per_task)
