"""Which steps of a path are scored, where not all of them are."""

import torch
from torch import Tensor

from imagecot.contracts.randomness import Stream, uniforms


def stratified_steps(seeds: Tensor, steps: int, draws: int) -> Tensor:
    """Return steps (B, K) of paths of `steps` steps, K = min(draws, steps): a pure function of seeds (B,) int64.

    One in each of K equal strata, so that every step is chosen K / steps times on average.
    """
    count = min(draws, steps)
    u = uniforms(seeds, 0, Stream.STEPS, count)
    return ((torch.arange(count, device=u.device) + u) * steps / count).long().clamp(max=steps - 1)
