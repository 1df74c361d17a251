"""The image tokenizer of a Janus: its decoder as it is, and a lookup of codes that agrees with it.

The stock quantizer looks codes up as they are stored and decodes them normalised, so that its `encode` gives codes that
decode to something else. Here both sides of the lookup are normalised, as in the VQ-16 that Janus took over.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from imagecot.generators.janus.lean_vq import LeanVq

if TYPE_CHECKING:
    from transformers import JanusVQVAE


@dataclass(frozen=True, eq=False)
class JanusPictures:
    """What `raster.transformer.Pictures` asks for."""

    vq: "JanusVQVAE | LeanVq"

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of codes."""
        side = self.vq.config.num_patches
        return side, side

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of an image."""
        factor = 2 ** (len(self.vq.config.channel_multiplier) - 1)
        rows, columns = self.grid
        return rows * factor, columns * factor

    @property
    def bytes_per_image(self) -> int:
        """Memory that decoding an image takes, about: a few maps of the full size."""
        height, width = self.size
        return 8 * self.vq.config.base_channels * height * width * 4

    def decode(self, codes: Tensor) -> Tensor:
        """Return images (B, 3, H, W) in [0, 1] of complete codes (B, N)."""
        return self.vq.decode(cast(torch.LongTensor, codes)).float().add(1).div(2).clamp(0, 1)

    def encode(self, images: Tensor) -> Tensor:
        """Return codes (B, N) int64 of images (B, 3, H, W) in [0, 1]: the entries of largest cosine."""
        vectors = self.vq.quant_conv(self.vq.encoder((2 * images - 1).to(self.vq.quant_conv.weight.dtype)))
        vectors = F.normalize(vectors.flatten(2).transpose(1, 2), dim=-1)
        return (vectors @ F.normalize(self.vq.quantize.embedding.weight, dim=-1).T).argmax(-1)
