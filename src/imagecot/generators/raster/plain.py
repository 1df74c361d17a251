"""An image drawn row by row in the plainest way: the yardstick of speed, and an oracle of tests.

For every code prompt and codes before it are read anew by the stock forward pass, without any cache, one path at a
time; with guidance so is what it goes against.
"""

import torch
from torch import Tensor

from imagecot.contracts.randomness import Stream, uniforms
from imagecot.generators.raster.sampling import Sampling, filtered
from imagecot.generators.raster.transformer import CodeTransformer


@torch.no_grad()
def plain_decode(
    transformer: CodeTransformer, sampling: Sampling, grid: tuple[int, int], prompt: str, seed: int
) -> Tensor:
    """Return the codes (N,) of one path."""
    rows, columns = grid
    codes: list[int] = []
    for row in range(rows):
        uniform = uniforms(torch.tensor([seed]), row, Stream.CODES, columns)[0].tolist()
        for column in range(columns):
            before = torch.tensor([[*codes, 0]], device=transformer.device)  # the last one is not read
            logits = transformer.head(transformer.states([prompt], before, against=False)[:, -1]).float()
            if sampling.guides(len(codes)):
                against = transformer.head(transformer.states([prompt], before, against=True)[:, -1]).float()
                logits = against + sampling.guidance_scale * (logits - against)
            codes.append(_drawn(logits, uniform[column], sampling))
    return torch.tensor(codes)


def _drawn(logits: Tensor, uniform: float, sampling: Sampling) -> int:
    """The code at `uniform` in [0, 1) of the running sum of the probabilities of logits (1, codes)."""
    if not sampling.temperature:
        return int(logits.argmax())
    probabilities = filtered(logits / sampling.temperature, sampling).softmax(1)[0].cpu()
    below = int((probabilities.double().cumsum(0) <= uniform).sum())
    return min(below, int(probabilities.nonzero().max()))
