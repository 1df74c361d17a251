"""How noisy the margin of a preference pair is by the masks of `likelihood` and by those of the paper's code.

from imagecot.alignment.mask_variance import measure
print(measure("runs/tiny/dpo", "tiny", "runs/tiny/pairs"))
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from imagecot.alignment.likelihood import log_likelihood, variance
from imagecot.alignment.pair_data import load_pairs
from imagecot.generators import load_generator
from imagecot.generators.showo.scoring import ShowoScores

Likelihood = Callable[[ShowoScores, list[str], Tensor, Tensor], Tensor]


def measure(
    policy: str, reference: str, data: str | Path, *, pairs: int = 32, draws: int = 4, repeats: int = 8, seed: int = 0
) -> dict[str, float]:
    """Variances over mask draws, at equal cost, of the first `pairs` pairs' difference of log-ratios.

    `shared` and `independent` as `likelihood.variance` says; `published` are independent masks whose masked codes are
    summed, as in the paper's code, scaled so that its margins differ between pairs as much as ours. `signal` is the
    variance of the margin between pairs.
    """
    trained, fixed = load_generator(policy), load_generator(reference)
    with tempfile.TemporaryDirectory() as cache:
        found = load_pairs(Path(data), trained.image_tokenizer, Path(cache))
    some = found.select(list(range(min(pairs, len(found)))))
    models = [ShowoScores(generator.model, generator.prompting) for generator in (trained, fixed)]

    def margin(likelihood: Likelihood) -> Callable[[Tensor, Tensor], Tensor]:
        def by(chosen: Tensor, rejected: Tensor) -> Tensor:
            sides = [(some.chosen, chosen), (some.rejected, rejected)]
            yes, no = (
                likelihood(models[0], some.prompts, codes, masks) - likelihood(models[1], some.prompts, codes, masks)
                for codes, masks in sides
            )
            return yes - no

        return by

    positions = some.chosen.shape[1]
    ours = variance(margin(log_likelihood), len(some), positions, draws, repeats, seed)
    theirs = variance(margin(_summed), len(some), positions, draws, repeats, seed)
    return ours | {"published": theirs["independent"] * ours["signal"] / theirs["signal"]}


@torch.no_grad()
def _summed(scores: ShowoScores, prompts: list[str], codes: Tensor, masks: Tensor) -> Tensor:
    """Sum over the masked codes, mean over the draws: the score of the paper's code."""
    draws = masks.shape[1]
    each = scores([p for p in prompts for _ in range(draws)], codes.repeat_interleave(draws, 0), masks.flatten(0, 1))
    return each.sum(1).view(-1, draws).mean(1)
