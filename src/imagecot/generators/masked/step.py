"""One step of masked decoding: all codes are predicted, the surest are kept, the others masked again.

The sampling of MaskGIT (Chang et al., 2022) as Show-o does it.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from imagecot.contracts.paths import UNDECIDED


def draw_by_inverse(weights: Tensor, uniform: Tensor) -> Tensor:
    """Draw one category a row in proportion to weights (M, C), from one uniform in [0, 1) a row (M,)."""
    # Running sums are slow, plain ones are not: find the block of categories first, then the category in it.
    width = 1 << weights.shape[1].bit_length() // 2
    lacking = -weights.shape[1] % width
    blocks = (F.pad(weights, (0, lacking)) if lacking else weights).unflatten(1, (-1, width))
    totals = blocks.sum(dim=2).cumsum(dim=1)
    target = uniform[:, None] * totals[:, -1:]
    block = _first_above(totals, target)
    within = blocks.gather(1, block[:, :, None].expand(-1, -1, width))[:, 0].cumsum(dim=1)
    inside = _first_above(within, target - F.pad(totals, (1, 0)).gather(1, block))
    return (block * width + inside)[:, 0]


def _first_above(cumulative: Tensor, target: Tensor) -> Tensor:
    """Return (M, 1), where sums (M, C) first exceed target (M, 1): never an entry that added nothing."""
    first = torch.searchsorted(cumulative, target, right=True)
    # Rounding may have put the target at the end.
    return torch.minimum(first, torch.searchsorted(cumulative, cumulative[:, -1:].contiguous()))


def decode_step(
    logits: Tensor,
    codes: Tensor,
    places: Tensor,
    draw: Callable[[Tensor], Tensor],
    mask_uniform: Tensor,
    *,
    temperature: float,
    num_masked: int,
) -> tuple[Tensor, Tensor]:
    """Predict all codes and say which to mask again; nothing waits for what the tensors hold.

    logits        (B, K, C), guided, at `places`
    codes         (B, N), UNDECIDED where masked
    places        (B, K), all those where codes are UNDECIDED, and any others
    draw          maps probabilities (B * K, C) to the drawn codes (B * K,)
    mask_uniform  (B, N) uniforms in [0, 1) of the Gumbel noise on the confidences
    temperature   strength of that noise
    num_masked    the schedule's count; at least 1 stays masked and at least one position is decided

    Returns the complete codes (B, N) and the positions (B, N) to mask: those whose confidence is strictly
    below the cut-off, so that ties mask fewer.
    """
    known = codes.gather(1, places)
    unknown = known == UNDECIDED
    probabilities = logits.float().softmax(dim=2)
    drawn = draw(probabilities.flatten(0, 1)).view(places.shape)
    probability = probabilities.gather(2, drawn[..., None])[..., 0]
    proposed = codes.scatter(1, places, torch.where(unknown, drawn, known))

    noise = -(-mask_uniform.gather(1, places).clamp(min=1e-20).log()).clamp(min=1e-20).log()
    sure = probability.clamp(min=1e-20).log() + temperature * noise
    confidence = torch.full(codes.shape, torch.inf, device=codes.device)
    confidence = confidence.scatter(1, places, sure.masked_fill(~unknown, torch.inf))
    count = (unknown.sum(dim=1) - 1).clamp(max=num_masked).clamp(min=1)
    cut_off = confidence.sort(dim=1).values.gather(1, count[:, None])
    return proposed, confidence < cut_off
