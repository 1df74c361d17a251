"""The log-probability of an image given a prompt, under generators that draw by masks or in raster order.

A raster generator has it exactly: the sum over its codes. A masked generator draws an image in many orders; its
log-probability is estimated as

    log p(x | c) = N * mean over K masks of (mean over the masked positions of log p(x_i | codes not masked, c))

with the share of masked positions cos(pi u / 2), u uniform: N times the objective that the generator was trained by
(MaskGIT, section 3.2), and exactly the sum over all codes where everything is masked, that is where an image is drawn
in one step. Two things lower the variance of a difference of two such numbers: both sides see the same masks, and the
K ratios are stratified and antithetic (u and 1 - u, with the positions taken from opposite ends of one random order).
The paper's code draws one mask for each side and sums over what it happens to hide.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from imagecot.contracts.correction import Asked
from imagecot.contracts.randomness import Stream, uniforms



class RasterScores(Protocol):
    """What a raster generator offers: log p(code | prompt, codes before it) as (B, N) for codes (B, N)."""

    def __call__(self, prompts: Sequence[Asked], codes: Tensor) -> Tensor:
        """Score complete codes (B, N) int64 of B prompts."""
        ...


class MaskedScores(Protocol):
    """What a masked generator offers, see `ShowoScores`."""

    def __call__(self, prompts: Sequence[Asked], codes: Tensor, masked: Tensor) -> Tensor:
        """Log p(code | prompt, codes not masked) as (B, N), 0 at positions that are not masked (B, N)."""
        ...


def log_likelihood(
    scores: RasterScores | MaskedScores, prompts: Sequence[Asked], codes: Tensor, masks: Tensor | None = None
) -> Tensor:
    """Return log p(image | prompt) (B,) in nats, differentiable in the weights behind `scores`.

    codes  (B, N) int64
    masks  (B, K, N) bool of `mask_draws` for a masked generator; None for a raster generator, whose sum is exact
    """
    if masks is None:
        return scores(prompts, codes).sum(1)  # type: ignore[call-arg]
    draws, positions = masks.shape[1:]
    rows = masks.flatten(0, 1)
    each = scores([p for p in prompts for _ in range(draws)], codes.repeat_interleave(draws, 0), rows)  # type: ignore[call-arg]
    return positions * (each.sum(1) / rows.sum(1)).view(-1, draws).mean(1)


def mask_draws(seeds: Tensor, draws: int, positions: int) -> Tensor:
    """Return masks (B, draws, positions), true where hidden: a pure function of seeds (B,) int64.

    The k-th and the k-th last draw are antithetic, the ratios have one draw in each of `draws` equal strata of u, and
    every mask hides at least one position.
    """
    masks = []
    for k in range(draws):
        mirrored = 2 * k >= draws and 2 * k + 1 != draws
        source = draws - 1 - k if mirrored else k
        u = (source + uniforms(seeds, source, Stream.RATIOS, 1)) / draws
        rank = uniforms(seeds, source, Stream.POSITIONS, positions).argsort(1).argsort(1)
        if mirrored:
            u, rank = 1 - u, positions - 1 - rank
        count = (torch.cos(u * torch.pi / 2) * positions).round().clamp(min=1)
        masks.append(rank < count)
    return torch.stack(masks, 1)


def independent_masks(seeds: Tensor, draws: int, positions: int) -> Tensor:
    """Return masks (B, draws, positions) as the paper's code draws them, each on its own: what `variance` compares."""
    u = uniforms(seeds, 0, Stream.RATIOS, draws)
    count = (torch.cos(u * torch.pi / 2) * positions).round().clamp(min=1)
    rank = uniforms(seeds, 0, Stream.POSITIONS, draws * positions).view(-1, draws, positions).argsort(2).argsort(2)
    return rank < count[..., None]


@torch.no_grad()
def variance(
    margin: Callable[[Tensor, Tensor], Tensor], pairs: int, positions: int, draws: int, repeats: int, seed: int = 0
) -> dict[str, float]:
    """Measure how noisy the margin of a pair is, by masks of both kinds at equal cost.

    margin   maps masks of the chosen and of the rejected images, both (pairs, draws, positions), to margins (pairs,)
    repeats  how often each pair is measured anew

    Returns the mean variance of a pair's margin over the repeats, `shared` by `mask_draws` with the same masks on both
    sides, `independent` with each side's own; and `signal`, the variance over pairs of the mean of all.
    """
    found: dict[str, list[Tensor]] = {"shared": [], "independent": []}
    for repeat in range(repeats):
        seeds = seed + torch.arange(pairs) + 2 * repeat * pairs
        same = mask_draws(seeds, draws, positions)
        found["shared"].append(margin(same, same))
        own = [independent_masks(seeds + side * pairs, draws, positions) for side in (0, 1)]
        found["independent"].append(margin(*own))
    stacked = {name: torch.stack(values) for name, values in found.items()}
    result = {name: float(values.var(0).mean()) for name, values in stacked.items()}
    return result | {"signal": float(stacked["shared"].mean(0).var())}
