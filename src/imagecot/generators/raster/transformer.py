"""What a transformer has to do so that `raster` draws with it: read prompts once, then codes behind them.

A family (Janus, LlamaGen) writes the two protocols here. Everything else is done once for all families: what paths keep
(`cache`), how a code is drawn (`sampling`), rows of codes (`drawing`), previews (`fills`) and log-probabilities
(`likelihood`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

# Maps the number of a layer with queries (R, n, heads, head_dim), keys and values (R, n, kv_heads, head_dim) of n new
# codes, both rotated, to what they attend to: (R, n, heads * head_dim). The keys and values are remembered.
Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Prefix:
    """What all codes of an image attend to beside each other: a prompt, or what guidance goes against.

    keys, values  (layers, kv_heads, length, head_dim), rotated
    state         (width,), the normalised state of the last position, which predicts the first code
    bias          (length,) float32, added to the scores of attention (after their scaling); None for zeros
    """

    keys: Tensor
    values: Tensor
    state: Tensor
    bias: Tensor | None = None


class CodeTransformer(Protocol):
    """A transformer that predicts each code of an image from a prompt and the codes before it.

    A code is predicted by the state at the code before it, and the first one by the state at the end of the prompt.
    Rows are independent of each other. `prefixes`, `read` and `head` are called without gradients, `states` and `head`
    with them.
    """

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        ...

    @property
    def cache_shape(self) -> tuple[int, int, int]:
        """Layers, heads of keys and values, and head_dim."""
        ...

    @property
    def cache_dtype(self) -> torch.dtype:
        """Type of keys and values."""
        ...

    @property
    def prefix_length(self) -> int:
        """About how many positions a prefix has, for an estimate of memory."""
        ...

    def prefixes(self, prompts: Sequence[str], *, guided: bool) -> list[tuple[Prefix, ...]]:
        """Read P prompts, all different: for each its prefix and, if guided, the one that guidance goes against.

        Equal ones that guidance goes against are read once.
        """
        ...

    def read(self, codes: Tensor, first: int, attend: Attend) -> Tensor:
        """Read codes (R, n), which stand at positions first, ..., first + n - 1 of the image.

        Returns normalised states (R, n, width), of which the i-th predicts code first + i + 1. Calls `attend` once a
        layer, in order; `attend` knows the prefix and the codes before, and sees to causality.
        """
        ...

    def head(self, states: Tensor) -> Tensor:
        """Return logits (..., codes) of states (..., width)."""
        ...

    def states(self, prompts: Sequence[str], codes: Tensor, *, against: bool) -> Tensor:
        """Read R prompts with their complete codes (R, N) in one pass, with gradients (teacher forcing).

        against  whether what guidance goes against takes the place of the prompts

        Returns normalised states (R, N, width), of which the i-th predicts code i.
        """
        ...


class Pictures(Protocol):
    """The image tokenizer of a generator."""

    @property
    def bytes_per_image(self) -> int:
        """Memory that decoding an image takes, about."""
        ...

    def decode(self, codes: Tensor) -> Tensor:
        """Return images (B, 3, H, W) in [0, 1] of complete codes (B, N); float32."""
        ...

    def encode(self, images: Tensor) -> Tensor:
        """Return codes (B, N) int64 of images (B, 3, H, W) in [0, 1] of the canvas' size."""
        ...
