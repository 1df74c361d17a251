"""How noisy the margin of a preference pair is by the masks of `mask_draws` and by those of the paper's code.

from imagecot.alignment.mask_variance import measure
print(measure("runs/tiny/dpo", "tiny", "runs/tiny/pairs"))
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from imagecot.alignment.pair_data import load_pairs
from imagecot.contracts.correction import Asked
from imagecot.contracts.generator import Generator
from imagecot.errors import UsageError
from imagecot.generators import load_generator
from imagecot.generators.masked.likelihood import MaskedScorer, mean_estimate, variance

Estimate = Callable[[Tensor, Tensor], Tensor]  # of log-probabilities (B, K, N) under masks (B, K, N)


def measure(
    policy: str, reference: str, data: str | Path, *, pairs: int = 32, draws: int = 4, repeats: int = 8, seed: int = 0
) -> dict[str, float]:
    """Variances over mask draws, at equal cost, of the first `pairs` pairs' difference of log-ratios.

    `shared` and `independent` as `variance` says; `published` are independent masks whose masked codes are summed, as
    in the paper's code, scaled so that its margins differ between pairs as much as ours. `signal` is the variance of
    the margin between pairs. UsageError for generators that do not draw by masks.
    """
    generator = load_generator(policy)
    trained, fixed = _by_masks(generator, policy), _by_masks(load_generator(reference), reference)
    with tempfile.TemporaryDirectory() as cache:
        found = load_pairs(Path(data), generator, Path(cache))
    some = found.select(list(range(min(pairs, len(found)))))

    def margin(estimate: Estimate) -> Callable[[Tensor, Tensor], Tensor]:
        def by(chosen: Tensor, rejected: Tensor) -> Tensor:
            yes, no = (
                estimate(_log_probs(trained, some.asked, codes, masks), masks)
                - estimate(_log_probs(fixed, some.asked, codes, masks), masks)
                for codes, masks in ((some.chosen, chosen), (some.rejected, rejected))
            )
            return yes - no

        return by

    positions = some.chosen.shape[1]
    ours = variance(margin(mean_estimate), len(some), positions, draws, repeats, seed)
    theirs = variance(margin(_summed), len(some), positions, draws, repeats, seed)
    return ours | {"published": theirs["independent"] * ours["signal"] / theirs["signal"]}


def _by_masks(generator: Generator, name: str) -> MaskedScorer:
    """The generator, if it draws by masks."""
    if not isinstance(generator, MaskedScorer):
        raise UsageError(f"{name} tells no log-probabilities of masked codes, so there are no masks to compare.")
    return generator


@torch.no_grad()
def _log_probs(generator: MaskedScorer, asked: list[Asked], codes: Tensor, masks: Tensor) -> Tensor:
    """Log-probabilities (B, K, N) of codes (B, N) under each of their masks (B, K, N)."""
    draws = masks.shape[1]
    repeated = [one for one in asked for _ in range(draws)]
    rows = masks.flatten(0, 1)
    return generator.masked_log_probs(repeated, codes.repeat_interleave(draws, 0), rows).view(masks.shape)


def _summed(log_probs: Tensor, masks: Tensor) -> Tensor:
    """Sum over the masked codes, mean over the draws: the score of the paper's code."""
    return log_probs.sum(2).mean(1)
