"""The log-probability of an image, and of the path that drew it, under a generator that draws by masks.

Such a generator draws an image in many orders. Its log-probability is estimated as

    log p(x | c) = N * mean over K masks of (mean over the hidden positions of log p(x_i | codes not hidden, c))

N times the objective that the generator was trained by (MaskGIT, section 3.2), and exactly the sum over all codes
where everything is hidden, that is where an image is drawn in one step. Two things lower the variance of a difference
of two such numbers: both sides see the same masks, and the K ratios are stratified and antithetic (`mask_draws`). The
paper's code draws one mask for each side and sums over what it happens to hide.

Of a path it is known what each step decided. Given the codes before, its log-probability is

    sum over steps t, sum over positions i decided in t of log p(x_i | codes decided before t, c)

under the guidance that the image was drawn with. Which positions are decided follows from the drawn confidences and is
taken as given. Some of the steps are scored, stratified and weighted so that the sum is unbiased.
"""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from imagecot.contracts.correction import Asked
from imagecot.contracts.paths import UNDECIDED, Paths
from imagecot.contracts.scorer import Draws, Terms
from imagecot.generators.masked.masks import independent_masks, mask_draws
from imagecot.generators.steps import stratified_steps

# Maps what R rows are asked for, their complete codes (R, N), what is hidden and what of that is scored (both (R, N)
# bool) to log p(code | asked, codes not hidden) (R, N), 0 where nothing is scored.
Scores = Callable[[Sequence[Asked], Tensor, Tensor, Tensor], Tensor]


@runtime_checkable
class MaskedScorer(Protocol):
    """A generator that tells the log-probabilities of hidden codes themselves, of which the others are made."""

    def masked_log_probs(self, asked: Sequence[Asked], codes: Tensor, hidden: Tensor) -> Tensor:
        """Return log p(code | asked, codes not hidden) (R, N), 0 where nothing is hidden (R, N) bool."""
        ...


def log_likelihood(scores: Scores, asked: Sequence[Asked], codes: Tensor, draws: Draws) -> Tensor:
    """Return the estimate of log p(image | asked) (B,) in nats of complete codes (B, N), differentiable as `scores`."""
    masks = mask_draws(draws.seeds.to(codes.device), draws.count, codes.shape[1])
    return mean_estimate(_of_each(scores, asked, codes, masks), masks)


def mean_estimate(log_probs: Tensor, masks: Tensor) -> Tensor:
    """N times the mean over masks (B, K, N) of the mean over hidden positions of log-probabilities (B, K, N); (B,)."""
    return masks.shape[2] * (log_probs.sum(2) / masks.sum(2)).mean(1)


def _of_each(scores: Scores, asked: Sequence[Asked], codes: Tensor, masks: Tensor) -> Tensor:
    """Log-probabilities (B, K, N) of complete codes (B, N) under each of their masks (B, K, N)."""
    draws, rows = masks.shape[1], masks.flatten(0, 1)
    repeated = [one for one in asked for _ in range(draws)]
    return scores(repeated, codes.repeat_interleave(draws, 0), rows, rows).view(masks.shape)


def step_rows(states: Sequence[Paths], draws: int) -> tuple[Tensor, Tensor]:
    """What is hidden, and what of that is scored, in K = min(draws, steps) steps of B paths: both (B, K, N) bool.

    states  from step 0 to the end. A row of step t sees what was decided before t and scores what t decided.
    """
    final = states[-1]
    chosen = stratified_steps(final.seeds, final.steps, draws)
    codes = torch.stack([state.codes for state in states], 1)  # (B, T + 1, N)
    path = torch.arange(len(codes), device=codes.device)[:, None]
    hidden = codes[path, chosen] == UNDECIDED
    return hidden, hidden & (codes[path, chosen + 1] != UNDECIDED)


def step_terms(scores: Scores, asked: Sequence[Asked], states: Sequence[Paths], draws: int) -> Terms:
    """Return the terms of B paths that were asked for `asked`; states and draws as of `Scorer.step_terms`.

    scores  under the guidance that the paths were drawn with
    """
    final = states[-1]
    hidden, wanted = step_rows(states, draws)
    paths, count, positions = hidden.shape
    repeated = [one for one in asked for _ in range(count)]
    codes = final.codes.repeat_interleave(count, 0)
    log_probs = scores(repeated, codes, hidden.flatten(0, 1), wanted.flatten(0, 1)).view(paths, -1)
    return Terms(log_probs, torch.full((paths,), final.steps / count / positions, device=codes.device))


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
