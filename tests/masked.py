"""Steps of masked generators by rows: logits and draws at the masked places alone, as references record them."""

from collections.abc import Callable

import torch
from torch import Tensor

from imagecot.contracts.paths import UNDECIDED
from imagecot.generators.amused.generator import AmusedGenerator
from imagecot.generators.masked import step
from imagecot.generators.showo import ShowoGenerator


def logits_of(generator: ShowoGenerator | AmusedGenerator, codes: Tensor, prompt_index: Tensor, shared) -> Tensor:
    """Guided logits (M, C) at the M masked places of codes (B, N), row by row."""
    everywhere = torch.arange(codes.shape[1]).expand_as(codes)
    return generator.guided_logits(codes, everywhere, prompt_index, shared)[codes == UNDECIDED]


def decode_step(
    logits: Tensor,
    codes: Tensor,
    draw: Callable[[Tensor], Tensor],
    mask_uniform: Tensor,
    temperature: float,
    num_masked: int,
) -> tuple[Tensor, Tensor]:
    """`step.decode_step` at all places of codes (B, N), of logits (M, C) and draws (M,) at the masked ones."""
    unknown = codes == UNDECIDED
    everywhere = torch.arange(codes.shape[1]).expand_as(codes)
    whole = torch.randn(*codes.shape, logits.shape[1])
    whole[unknown] = logits

    def drawn(weights: Tensor) -> Tensor:
        found = torch.zeros(codes.numel(), dtype=torch.int64)
        found[unknown.flatten()] = draw(weights[unknown.flatten()])
        return found

    return step.decode_step(
        whole, codes, everywhere, drawn, mask_uniform, temperature=temperature, num_masked=num_masked
    )
