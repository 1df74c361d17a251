"""VQ-16: LlamaGen's convolutional image tokenizer, a VQGAN whose codes lie on the unit sphere (Sun et al., 2024).

State-dict names and shapes are those of the released `vq_ds16_t2i.pt`.
"""

from collections.abc import MutableMapping
from itertools import pairwise
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imagecot.errors import UsageError
from imagecot.generators.convolutions import AttentionBlock, Downsample, ResidualBlock, Upsample, normalised, silu
from imagecot.generators.llamagen.config import USAGE, VQ16Config
from imagecot.generators.llamagen.released import load_released
from imagecot.weights import save_checkpoint


class Level(nn.Module):
    """The residual blocks of one resolution, each with attention where it is the coarsest, and what follows."""

    def __init__(self, in_channels: int, out_channels: int, blocks: int, *, attends: bool) -> None:
        super().__init__()
        sizes = [in_channels] + [out_channels] * blocks
        self.res = nn.ModuleList([ResidualBlock(a, b) for a, b in pairwise(sizes)])
        self.attn = nn.ModuleList([AttentionBlock(out_channels) for _ in range(blocks if attends else 0)])
        self.downsample: Downsample | None = None
        self.upsample: Upsample | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, H', W'), H' being 2H, H or H/2."""
        for index, block in enumerate(self.res):
            x = block(x)
            if self.attn:
                x = self.attn[index](x)
        change = self.downsample or self.upsample
        return x if change is None else change(x)


def _middle(channels: int) -> nn.ModuleList:
    """Residual block, attention, residual block at the coarsest resolution."""
    return nn.ModuleList(
        [ResidualBlock(channels, channels), AttentionBlock(channels), ResidualBlock(channels, channels)]
    )


class Encoder(nn.Module):
    """Image to z_channels numbers per position."""

    def __init__(self, config: VQ16Config) -> None:
        super().__init__()
        widths = [config.ch * mult for mult in config.encoder_ch_mult]
        self.conv_in = nn.Conv2d(3, config.ch, 3, padding=1)
        self.conv_blocks = nn.ModuleList()
        before, last = config.ch, len(widths) - 1
        for index, width in enumerate(widths):
            level = Level(before, width, config.num_res_blocks, attends=index == last)
            if index < last:
                level.downsample = Downsample(width)
            self.conv_blocks.append(level)
            before = width
        self.mid = _middle(before)
        self.norm_out = normalised(before)
        self.conv_out = nn.Conv2d(before, config.z_channels, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, 3, H, W) in [-1, 1] to (B, z_channels, h, w)."""
        h = self.conv_in(images)
        for part in (*self.conv_blocks, *self.mid):
            h = part(h)
        return self.conv_out(silu(self.norm_out(h)))


class Decoder(nn.Module):
    """What `Encoder` gives, back to an image; its blocks are numbered from the coarsest resolution."""

    def __init__(self, config: VQ16Config) -> None:
        super().__init__()
        widths = [config.ch * mult for mult in reversed(config.decoder_ch_mult)]
        self.conv_in = nn.Conv2d(config.z_channels, widths[0], 3, padding=1)
        self.mid = _middle(widths[0])
        self.conv_blocks = nn.ModuleList()
        before, last = widths[0], len(widths) - 1
        for index, width in enumerate(widths):
            level = Level(before, width, config.num_res_blocks + 1, attends=index == 0)
            if index < last:
                level.upsample = Upsample(width)
            self.conv_blocks.append(level)
            before = width
        self.norm_out = normalised(before)
        self.conv_out = nn.Conv2d(before, 3, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """Map (B, z_channels, h, w) to (B, 3, H, W) in about [-1, 1]."""
        h = self.conv_in(z)
        for part in (*self.mid, *self.conv_blocks):
            h = part(h)
        return self.conv_out(silu(self.norm_out(h)))


class Quantizer(nn.Module):
    """A table of codes; vectors and codes are compared, and decoded, with norm 1 where `l2_norm` says so."""

    codebook_used: Tensor

    def __init__(self, config: VQ16Config) -> None:
        super().__init__()
        self.l2_norm = config.codebook_l2_norm
        if config.codebook_show_usage:
            self.register_buffer("codebook_used", torch.zeros(USAGE))
            self.register_load_state_dict_pre_hook(_fill_usage)
        self.embedding = nn.Embedding(config.codebook_size, config.codebook_embed_dim)

    @property
    def entries(self) -> Tensor:
        """The vectors (codes, channels) that the codes stand for."""
        return self._scaled(self.embedding.weight)

    def _scaled(self, vectors: Tensor) -> Tensor:
        return F.normalize(vectors, dim=-1) if self.l2_norm else vectors

    def forward(self, z: Tensor) -> Tensor:
        """Return the nearest codes (B, h, w) int64 to vectors z (B, channels, h, w)."""
        vectors, entries = self._scaled(z.permute(0, 2, 3, 1).flatten(0, 2)), self.entries
        # The squares of the vectors do not change which code is the nearest.
        distance = torch.addmm(entries.square().sum(dim=1), vectors, entries.T, alpha=-2)
        return distance.argmin(dim=1).view(z.shape[0], *z.shape[2:])


def _fill_usage(quantizer: nn.Module, state: MutableMapping[str, Tensor], prefix: str, *_: object) -> None:
    """A statistic of training that weights lack starts from zero: nothing that is drawn depends on it."""
    state.setdefault(f"{prefix}codebook_used", torch.zeros(USAGE))


class VQ16(nn.Module):
    """Image tokenizer: encode images to codes, decode codes to images."""

    def __init__(self, config: VQ16Config) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quantize = Quantizer(config)
        self.quant_conv = nn.Conv2d(config.z_channels, config.codebook_embed_dim, 1)
        self.post_quant_conv = nn.Conv2d(config.codebook_embed_dim, config.z_channels, 1)

    def vectors(self, images: Tensor) -> Tensor:
        """Map images (B, 3, H, W) in [-1, 1] to what codes are looked up for, (B, channels, h, w)."""
        return self.quant_conv(self.encoder(images))

    def encode(self, images: Tensor) -> Tensor:
        """Map images (B, 3, H, W) in [-1, 1] to codes (B, h, w) int64."""
        return self.quantize(self.vectors(images))

    def decode(self, codes: Tensor) -> Tensor:
        """Map codes (B, h, w), or (B, N) of a square, to images (B, 3, H, W) in about [-1, 1], not clamped.

        UsageError for codes that there are not, or that make no square.
        """
        if codes.ndim == 2:
            side = round(codes.shape[1] ** 0.5)
            if side * side != codes.shape[1]:
                raise UsageError(f"{codes.shape[1]} codes make no square; give them as rows and columns (B, h, w).")
            codes = codes.unflatten(1, (side, side))
        codes = codes.long()
        if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < self.config.codebook_size:
            raise UsageError(f"codes are from 0 to {self.config.codebook_size - 1}; others cannot be decoded.")
        return self.decoder(self.post_quant_conv(self.quantize.entries[codes].permute(0, 3, 1, 2)))

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> Self:
        """Load `config.json` and weights, ours or released ones, of a checkpoint folder.

        By default the weights keep their stored type and stay on the CPU. ImagecotError where they do not fit.
        """
        config = VQ16Config.from_pretrained(folder)
        spare = {"quantize.codebook_used": torch.zeros(USAGE)} if config.codebook_show_usage else {}
        return load_released(lambda: cls(config), folder, device, dtype, spare=spare)[0]

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `config.json` and `model.safetensors` into `folder`."""
        save_checkpoint(folder, self.config.to_dict(), self.state_dict())
