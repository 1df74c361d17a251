"""What an alignment did beside what it was trained for: to clean scenes, and to the variety of images of one prompt.

from imagecot.alignment.side_effects import measure
print(measure("tiny"), measure("tiny-dpo"))
"""

import random
from pathlib import Path

import torch

from imagecot.alignment.likelihood import log_likelihood, mask_draws
from imagecot.contracts.generator import Generator
from imagecot.contracts.paths import finish
from imagecot.contracts.randomness import path_seeds, prompt_seed
from imagecot.generators import load_generator
from imagecot.generators.showo.scoring import ShowoScores
from imagecot.worlds.drawn.captions import caption, held_out_prompts
from imagecot.worlds.drawn.dataset import Pool
from imagecot.worlds.drawn.training.tokenizer import to_tensor


@torch.no_grad()
def measure(
    name: str, *, scenes: int = 120, draws: int = 4, per_task: int = 4, paths: int = 8, data: Path = Path("runs/data"),
    seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Measure a Show-o of the drawn world.

    Returns `clean`, the log-probability of clean scenes in nats a code (their reconstruction under masks), and
    `variety`, the root mean square difference of two images of one held-out prompt, in [0, 1], each with `_se`, the
    standard error over scenes or prompts.
    """
    generator = load_generator(name)
    pool = Pool(data, scenes, 9003)
    codes = generator.image_tokenizer.codes(to_tensor(pool.images(range(scenes)))).long()
    texts = [caption(pool[k].metadata, random.Random(k)) for k in range(scenes)]
    masks = mask_draws(torch.arange(scenes) + seed, draws, codes.shape[1])
    clean = log_likelihood(ShowoScores(generator.model, generator.prompting), texts, codes, masks) / codes.shape[1]
    varied = torch.tensor([variety(generator, m["prompt"], paths, seed) for m in held_out_prompts(per_task)])
    return {
        "clean": float(clean.mean()),
        "clean_se": float(clean.std() / len(clean) ** 0.5),
        "variety": float(varied.mean()),
        "variety_se": float(varied.std() / len(varied) ** 0.5),
    }


def variety(generator: Generator, prompt: str, paths: int, seed: int) -> float:
    """Root mean square difference of two images of a prompt, over all pairs of `paths` of them."""
    ends = finish(generator, generator.start([prompt], path_seeds(prompt_seed(seed, prompt), paths)))
    images = generator.preview(ends).float().flatten(1)
    return float(torch.pdist(images).square().mean().div(images.shape[1]).sqrt())
