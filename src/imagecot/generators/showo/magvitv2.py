"""MAGVIT-v2: a convolutional image tokenizer with lookup-free quantization (Yu et al., 2023).

State-dict names and shapes are those of the released `showlab/magvitv2`.
"""

from itertools import pairwise
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imagecot.generators.convolutions import AttentionBlock, Downsample, ResidualBlock, Upsample, normalised, silu
from imagecot.generators.showo.config import MagvitV2Config
from imagecot.weights import load_whole, save_checkpoint


class Middle(nn.Module):
    """Residual block, attention, residual block at the coarsest resolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block_1 = ResidualBlock(channels, channels)
        self.attn_1 = AttentionBlock(channels)
        self.block_2 = ResidualBlock(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W)."""
        return self.block_2(self.attn_1(self.block_1(x)))


class Level(nn.Module):
    """The residual blocks of one resolution and, at its end, the change to the next one."""

    def __init__(self, in_channels: int, out_channels: int, blocks: int) -> None:
        super().__init__()
        sizes = [in_channels] + [out_channels] * blocks
        self.block = nn.ModuleList([ResidualBlock(a, b) for a, b in pairwise(sizes)])
        self.downsample: Downsample | None = None
        self.upsample: Upsample | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, H', W'), H' being 2H, H or H/2."""
        for block in self.block:
            x = block(x)
        change = self.downsample or self.upsample
        return x if change is None else change(x)


class Encoder(nn.Module):
    """Image to code_bits real numbers per position."""

    def __init__(self, config: MagvitV2Config) -> None:
        super().__init__()
        self.patch_size = config.patch_size
        widths = [config.channels * mult for mult in config.encoder_mult]
        self.conv_in = nn.Conv2d(config.in_channels * config.patch_size**2, config.channels, 3, padding=1)
        self.down = nn.ModuleList()
        before = config.channels
        for index, (width, blocks) in enumerate(zip(widths, config.encoder_blocks, strict=True)):
            level = Level(before, width, blocks)
            if index < len(widths) - 1:
                level.downsample = Downsample(width)
            self.down.append(level)
            before = width
        self.mid = Middle(before)
        self.norm_out = normalised(before)
        self.conv_out = nn.Conv2d(before, config.code_bits, 3, padding=1)
        self.quant_conv = nn.Conv2d(config.code_bits, config.code_bits, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, 3, H, W) in [-1, 1] to (B, code_bits, h, w)."""
        h = self.conv_in(F.pixel_unshuffle(images, self.patch_size))
        for level in self.down:
            h = level(h)
        h = self.conv_out(silu(self.norm_out(self.mid(h))))
        return self.quant_conv(h)


class Decoder(nn.Module):
    """Quantized codes to an image."""

    def __init__(self, config: MagvitV2Config) -> None:
        super().__init__()
        self.patch_size = config.patch_size
        widths = [config.channels * mult for mult in config.decoder_mult]
        before = widths[-1]
        self.post_quant_conv = nn.Conv2d(config.code_bits, config.code_bits, 1)
        self.conv_in = nn.Conv2d(config.code_bits, before, 3, padding=1)
        self.mid = Middle(before)
        levels = []
        for index in reversed(range(len(widths))):
            level = Level(before, widths[index], config.decoder_blocks[index])
            if index > 0:
                level.upsample = Upsample(widths[index])
            levels.append(level)
            before = widths[index]
        self.up = nn.ModuleList(reversed(levels))
        self.norm_out = normalised(before)
        self.conv_out = nn.Conv2d(before, config.out_channels * config.patch_size**2, 3, padding=1)

    def forward(self, quantized: Tensor) -> Tensor:
        """Map (B, code_bits, h, w) of -1 and +1 to (B, 3, H, W) in about [-1, 1]."""
        h = self.mid(self.conv_in(self.post_quant_conv(quantized)))
        for level in reversed(self.up):
            h = level(h)
        h = self.conv_out(silu(self.norm_out(h)))
        return F.pixel_shuffle(h, self.patch_size)


class LookupFreeQuantizer(nn.Module):
    """The signs of the channels are the bits of the code, channel 0 the most significant; 0 counts as -1."""

    embedding: Tensor
    power_vals: Tensor

    def __init__(self, code_bits: int) -> None:
        super().__init__()
        # Real inside the meta device too, where ranges and powers make torch load its compiler.
        powers = 2 ** torch.arange(code_bits - 1, -1, -1, device="cpu")
        codes = torch.arange(2**code_bits, device="cpu")
        self.register_buffer("power_vals", powers)
        self.register_buffer("embedding", ((codes[:, None] & powers) != 0).float() * 2 - 1)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, bits, h, w) to the signs, whose gradient passes straight through, and indices (B, h, w)."""
        positive = z > 0
        signs = positive.to(z.dtype) * 2 - 1
        indices = (positive * self.power_vals.view(1, -1, 1, 1)).sum(1)
        return signs + (z - z.detach()), indices

    def entries(self, indices: Tensor) -> Tensor:
        """Map indices (B, h, w) to the signs (B, bits, h, w)."""
        return self.embedding[indices].permute(0, 3, 1, 2)


class MagvitV2(nn.Module):
    """Image tokenizer: encode to codes, decode codes to an image."""

    def __init__(self, config: MagvitV2Config) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quantize = LookupFreeQuantizer(config.code_bits)

    def encode(self, images: Tensor) -> Tensor:
        """Map images (B, 3, H, W) in [-1, 1] to z (B, bits, h, w)."""
        return self.encoder(images)

    def codes(self, images: Tensor) -> Tensor:
        """Map images (B, 3, H, W) in [0, 1] to codes (B, h*w) int64, row-major."""
        return self.quantize(self.encoder(images * 2 - 1))[1].flatten(1)

    def decode(self, quantized: Tensor) -> Tensor:
        """Map signs (B, bits, h, w) to images (B, 3, H, W) in about [-1, 1]."""
        return self.decoder(quantized)

    def decode_codes(self, codes: Tensor, shape: tuple[int, int] | None = None) -> Tensor:
        """Map codes (B, N) to images (B, 3, H, W) in [0, 1]; `shape` (h, w) defaults to a square grid."""
        height, width = shape or (round(codes.shape[1] ** 0.5),) * 2
        images = self.decoder(self.quantize.entries(codes.view(-1, height, width)))
        return (images * 0.5 + 0.5).clamp(0, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruct images (B, 3, H, W) in [-1, 1] with gradients; also return z (B, bits, h, w)."""
        z = self.encoder(images)
        return self.decoder(self.quantize(z)[0]), z

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> Self:
        """Load `config.json` and weights of a checkpoint folder; ImagecotError where they do not fit.

        By default the weights keep their stored type and stay on the CPU.
        """
        return load_whole(lambda: cls(MagvitV2Config.from_pretrained(folder)), folder, device, dtype)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `config.json` and `model.safetensors` into `folder`."""
        save_checkpoint(folder, self.config.to_dict(), self.state_dict())
