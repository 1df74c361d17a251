"""Attention, rotary positions and their cache, number by number as models of transformers compute them.

A model that is only drawn with or asked is made of these: the model classes of transformers take seconds to import.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class KeysAndValues:
    """Keys and values (B, heads, L, D) of each layer, which grow by those of the tokens that are read."""

    def __init__(self, layers: Iterable[tuple[Tensor, Tensor]] = ()) -> None:
        self._layers = [*layers]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(self._layers)

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """Keep keys and values (B, heads, n, D) of a layer behind those that are there; all of them."""
        if layer == len(self._layers):
            self._layers.append((keys, values))
        else:
            before = self._layers[layer]
            self._layers[layer] = (torch.cat([before[0], keys], dim=-2), torch.cat([before[1], values], dim=-2))
        return self._layers[layer]


def frequencies(channels: int, theta: float) -> Tensor:
    """The angle (channels / 2,) float32 of each pair of channels from one position to the next."""
    # Real inside the meta device too, where the quotient would make torch load its compiler.
    exponent = torch.arange(0, channels, 2, dtype=torch.float, device="cpu") / channels
    return 1.0 / (theta**exponent)


class Rotary(nn.Module):
    """The rotary embedding of positions, in `channels` of each head, with frequencies of base `theta`."""

    inv_freq: Tensor

    def __init__(self, channels: int, theta: float) -> None:
        super().__init__()
        self.register_buffer("inv_freq", frequencies(channels, theta), persistent=False)

    def forward(self, position: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return cosines and sines (B, 1, L, channels) of positions (B, L)."""
        angles = position[..., None].float() * self.inv_freq.to(position.device, torch.float)
        both = torch.cat((angles, angles), dim=-1)[:, None]
        return both.cos().to(dtype), both.sin().to(dtype)


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the first channels of heads (B, heads, L, D) by their positions; the others stay."""
    channels = cos.shape[-1]
    turned, still = x[..., :channels], x[..., channels:]
    half = torch.cat((-turned[..., channels // 2 :], turned[..., : channels // 2]), dim=-1)
    turned = (turned * cos) + (half * sin)
    return torch.cat((turned, still), dim=-1) if still.shape[-1] else turned


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, *, fused: bool = True, causal: bool = False) -> Tensor:
    """Return (B, L, heads * D) of queries, keys and values (B, heads, L, D).

    mask    added to the scores, or boolean and true where a key is seen (of the fused kernel only); None for all keys
    fused   by the kernel of torch, which is slower backwards on a CPU
    causal  where there is no mask, a query sees the keys up to its own; as many as there are queries
    """
    scale = q.shape[-1] ** -0.5
    if k.shape[1] != q.shape[1]:
        k, v = (one.repeat_interleave(q.shape[1] // one.shape[1], dim=1) for one in (k, v))
    if fused:
        causal = causal and mask is None and q.shape[2] > 1
        attended = F.scaled_dot_product_attention(q, k, v, mask, scale=scale, is_causal=causal)
    else:
        scores = torch.matmul(q, k.transpose(2, 3)) * scale
        if mask is not None:
            scores = scores + mask
        elif causal:
            later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
            scores = scores.masked_fill(later, torch.finfo(scores.dtype).min)
        attended = torch.matmul(F.softmax(scores, dim=-1, dtype=torch.float32).to(q.dtype), v)
    return attended.transpose(1, 2).flatten(2)
