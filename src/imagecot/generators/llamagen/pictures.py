"""VQ-16 as `raster` decodes and encodes with it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from imagecot.errors import UsageError
from imagecot.generators.llamagen.vq16 import VQ16


@dataclass(frozen=True, eq=False)
class VQ16Pictures:
    """What `raster.transformer.Pictures` asks for, of VQ-16 and a square grid of codes."""

    image_tokenizer: VQ16
    grid: int

    @property
    def side(self) -> int:
        """Pixels along each side of an image."""
        return self.grid * self.image_tokenizer.config.downsample_factor

    @property
    def bytes_per_image(self) -> int:
        """Memory that decoding an image takes, about."""
        return 8 * self.image_tokenizer.config.ch * self.side**2 * torch.float32.itemsize

    def decode(self, codes: Tensor) -> Tensor:
        """Return images (B, 3, H, W) in [0, 1] of complete codes (B, N); float32."""
        return (self.image_tokenizer.decode(codes).float() * 0.5 + 0.5).clamp(0, 1)

    def encode(self, images: Tensor) -> Tensor:
        """Return codes (B, N) int64 of images (B, 3, H, W) in [0, 1]; UsageError for those of another size."""
        if images.shape[2:] != (self.side, self.side):
            height, width = images.shape[2:]
            raise UsageError(f"images are {height} x {width} pixels, but this generator has {self.side} x {self.side}.")
        return self.image_tokenizer.encode(images * 2 - 1).flatten(1)
