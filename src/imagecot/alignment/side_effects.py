"""What an alignment did beside what it was trained for: to clean pictures, and to the variety of images of one prompt.

from imagecot.alignment.side_effects import measure
from imagecot.worlds.drawn.captions import held_out_prompts
from imagecot.worlds.drawn.clean import captioned_scenes

captions, images = captioned_scenes(120)
prompts = [metadata.prompt for metadata in held_out_prompts(4)]
print(measure("tiny", captions, images, prompts), measure("tiny-dpo", captions, images, prompts))
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from imagecot.alignment.scores import Aligned
from imagecot.contracts.generator import Encoder, Generator
from imagecot.contracts.paths import finish
from imagecot.contracts.randomness import path_seeds, prompt_seed
from imagecot.contracts.scorer import Draws
from imagecot.errors import UsageError
from imagecot.generators import load_generator


@torch.no_grad()
def measure(
    name: str,
    captions: Sequence[str],
    images: Tensor,
    prompts: Sequence[str],
    *,
    draws: int = 4,
    paths: int = 8,
    seed: int = 0,
) -> dict[str, float]:
    """Measure a generator, by its name.

    captions, images  clean pictures (B, 3, H, W) in [0, 1] of the canvas' size, and what they show
    prompts           of which the variety is measured
    draws             masks of each picture, where its log-probability is estimated

    Returns `clean`, the log-probability of the clean pictures in nats a code (of masked generators, their
    reconstruction under masks), and `variety`, the root mean square difference of two images of one prompt, in [0, 1],
    each with `_se`, the standard error over pictures or prompts.

    UsageError for a generator that gives no log-probabilities, or finds no codes of pictures.
    """
    generator = load_generator(name)
    if not isinstance(generator, Aligned) or not isinstance(generator, Encoder):
        raise UsageError(f"{name} gives no log-probabilities of pictures (it is no Scorer, or no Encoder).")
    clean = _log_probs(generator, captions, generator.encode(images), Draws(torch.arange(len(images)) + seed, draws))
    varied = torch.tensor([variety(generator, prompt, paths, seed) for prompt in prompts])
    return {
        "clean": float(clean.mean()),
        "clean_se": float(clean.std() / len(clean) ** 0.5),
        "variety": float(varied.mean()),
        "variety_se": float(varied.std() / len(varied) ** 0.5),
    }


def _log_probs(generator: Aligned, captions: Sequence[str], codes: Tensor, draws: Draws, batch: int = 128) -> Tensor:
    """Log-probabilities (B,) of complete codes (B, N), in nats a code."""
    parts = []
    for first in range(0, len(codes), batch):
        part = slice(first, first + batch)
        some = Draws(draws.seeds[part], draws.count)
        parts.append(generator.log_likelihood(captions[part], codes[part], some))
    return torch.cat(parts) / codes.shape[1]


def variety(generator: Generator, prompt: str, paths: int, seed: int) -> float:
    """Root mean square difference of two images of a prompt, over all pairs of `paths` of them."""
    ends = finish(generator, generator.start([prompt], path_seeds(prompt_seed(seed, prompt), paths)))
    images = generator.preview(ends).float().flatten(1)
    return float(torch.pdist(images).square().mean().div(images.shape[1]).sqrt())
