"""What is hidden of an image: in the training of a masked generator, and where its log-probability is estimated.

Always a share cos(pi u / 2) of the positions, u uniform (MaskGIT, section 3.2), and at least one: the shares that
decoding with the cosine schedule meets, each as often.
"""

import torch
from torch import Tensor

from imagecot.contracts.randomness import Stream, uniforms


def random_mask(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Return masks (B, N), true where hidden, drawn from a random number generator."""
    u = torch.rand(shape[0], generator=generator)
    count = _hidden(u, shape[1])
    rank = torch.rand(shape, generator=generator).argsort(1).argsort(1)
    return rank < count[:, None]


def mask_draws(seeds: Tensor, draws: int, positions: int) -> Tensor:
    """Return masks (B, draws, positions), true where hidden: a pure function of seeds (B,) int64.

    The k-th and the k-th last draw are antithetic, and the ratios have one draw in each of `draws` equal strata of u.
    """
    masks = []
    for k in range(draws):
        mirrored = 2 * k >= draws and 2 * k + 1 != draws
        source = draws - 1 - k if mirrored else k
        u = (source + uniforms(seeds, source, Stream.RATIOS, 1)) / draws
        rank = uniforms(seeds, source, Stream.POSITIONS, positions).argsort(1).argsort(1)
        if mirrored:
            u, rank = 1 - u, positions - 1 - rank
        masks.append(rank < _hidden(u, positions))
    return torch.stack(masks, 1)


def independent_masks(seeds: Tensor, draws: int, positions: int) -> Tensor:
    """Return masks (B, draws, positions) as the paper's code draws them, each on its own."""
    u = uniforms(seeds, 0, Stream.RATIOS, draws)
    rank = uniforms(seeds, 0, Stream.POSITIONS, draws * positions).view(-1, draws, positions).argsort(2).argsort(2)
    return rank < _hidden(u, positions)[..., None]


def _hidden(u: Tensor, positions: int) -> Tensor:
    """How many of the positions are hidden, for uniforms of any shape."""
    return (torch.cos(u * torch.pi / 2) * positions).round().clamp(min=1)
