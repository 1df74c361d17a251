"""The image tokenizer of a Janus, number by number as transformers computes it, with its names of tensors.

The blocks of `generators.convolutions` round otherwise, which can move a pixel by a level.
"""

from typing import Annotated, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from imagecot.generators.convolutions import Downsample, Upsample, added, normalised
from imagecot.reading import Foreign

Size = Annotated[int, Field(ge=1, le=100_000)]


class VqConfig(Foreign):
    """What config.json says of an image tokenizer, all of which has to be said."""

    model_type: Literal["janus_vqgan"]
    embed_dim: Size
    num_embeddings: Size
    double_latent: Literal[False]
    latent_channels: Size
    in_channels: Literal[3]
    base_channels: Size
    channel_multiplier: Annotated[list[Annotated[int, Field(ge=1, le=64)]], Field(min_length=1, max_length=16)]
    num_res_blocks: Annotated[int, Field(ge=1, le=64)]
    dropout: Annotated[float, Field(ge=0, le=0)]
    num_patches: Size
    out_channels: Literal[3]
    projection_dim: Size
    num_hidden_layers: Annotated[int, Field(ge=1, le=64)]
    hidden_act: Literal["gelu"]
    image_token_embed_dim: Size

    @property
    def widths(self) -> list[int]:
        """Channels at each resolution, the finest first."""
        return [self.base_channels * factor for factor in self.channel_multiplier]


def _swish(fresh: Tensor) -> Tensor:
    """SiLU, by two operations, of a tensor that nobody else holds."""
    return fresh * fresh.sigmoid() if torch.is_grad_enabled() else fresh.mul_(fresh.sigmoid())


class _Residual(nn.Module):
    """Two normalised convolutions around a shortcut."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = normalised(before), nn.Conv2d(before, after, 3, padding=1)
        self.norm2, self.conv2 = normalised(after), nn.Conv2d(after, after, 3, padding=1)
        self.nin_shortcut = nn.Conv2d(before, after, 1) if before != after else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, before, H, W) to (B, after, H, W)."""
        h = self.conv2(_swish(self.norm2(self.conv1(_swish(self.norm1(x))))))
        return added(h, x if self.nin_shortcut is None else self.nin_shortcut(x))


class _Attention(nn.Module):
    """Attention of all places to each other, in one head."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = normalised(channels)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W)."""
        h = self.norm(x)
        q, k, v = (layer(h).flatten(2) for layer in (self.q, self.k, self.v))
        shares = F.softmax(q.transpose(1, 2).bmm(k) * x.shape[1] ** -0.5, dim=2)
        made: Tensor = x + self.proj_out(v.bmm(shares.transpose(1, 2)).view(x.shape))
        return made


class _Middle(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block_1, self.attn_1, self.block_2 = (
            _Residual(channels, channels), _Attention(channels), _Residual(channels, channels)
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W)."""
        made: Tensor = self.block_2(self.attn_1(self.block_1(x)))
        return made


class _Level(nn.Module):
    """The blocks of one resolution, with attention at the coarsest, and what leads to the next."""

    def __init__(self, before: int, after: int, blocks: int, *, attends: bool) -> None:
        super().__init__()
        self.block = nn.ModuleList([_Residual(before if k == 0 else after, after) for k in range(blocks)])
        self.attn = nn.ModuleList([_Attention(after) for _ in range(blocks if attends else 0)])
        self.downsample: Downsample | None = None
        self.upsample: Upsample | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, before, H, W) to (B, after, H', W'), H' being 2H, H or H/2."""
        for number, block in enumerate(self.block):
            x = block(x)
            if len(self.attn):
                x = self.attn[number](x)
        change = self.downsample or self.upsample
        return x if change is None else cast(Tensor, change(x))


class _Encoder(nn.Module):
    def __init__(self, config: VqConfig) -> None:
        super().__init__()
        widths, blocks, before = config.widths, config.num_res_blocks, config.base_channels
        self.conv_in = nn.Conv2d(3, before, 3, padding=1)
        self.down = nn.ModuleList()
        for number, width in enumerate(widths, 1):
            level = _Level(before, width, blocks, attends=number == len(widths))
            level.downsample = Downsample(width) if number < len(widths) else None
            self.down.append(level)
            before = width
        self.mid, self.norm_out = _Middle(before), normalised(before)
        self.conv_out = nn.Conv2d(before, config.latent_channels, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, 3, H, W) in [-1, 1] to (B, latent_channels, h, w)."""
        h = self.conv_in(images)
        for part in (*self.down, self.mid):
            h = part(h)
        made: Tensor = self.conv_out(_swish(self.norm_out(h)))
        return made


class _Decoder(nn.Module):
    def __init__(self, config: VqConfig) -> None:
        super().__init__()
        widths, blocks = config.widths[::-1], config.num_res_blocks + 1
        before = widths[0]
        self.conv_in, self.mid = nn.Conv2d(config.latent_channels, before, 3, padding=1), _Middle(before)
        self.up = nn.ModuleList()
        for number, width in enumerate(widths, 1):
            level = _Level(before, width, blocks, attends=number == 1)
            level.upsample = Upsample(width) if number < len(widths) else None
            self.up.append(level)
            before = width
        self.norm_out, self.conv_out = normalised(before), nn.Conv2d(before, 3, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """Map (B, latent_channels, h, w) to (B, 3, H, W) in about [-1, 1]."""
        h = self.mid(self.conv_in(z))
        for level in self.up:
            h = level(h)
        made: Tensor = self.conv_out(_swish(self.norm_out(h)))
        return made


class _Codes(nn.Module):
    def __init__(self, config: VqConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.num_embeddings, config.embed_dim)


class LeanVq(nn.Module):
    """The image tokenizer: its decoder, and the parts that `janus.pictures` encodes by."""

    def __init__(self, config: VqConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder, self.decoder, self.quantize = _Encoder(config), _Decoder(config), _Codes(config)
        self.quant_conv = nn.Conv2d(config.latent_channels, config.embed_dim, 1)
        self.post_quant_conv = nn.Conv2d(config.embed_dim, config.latent_channels, 1)

    def decode(self, image_tokens: Tensor) -> Tensor:
        """Return images (B, 3, H, W) in about [-1, 1] of codes (B, N), which are normalised before."""
        side = self.config.num_patches
        entries = F.normalize(self.quantize.embedding(image_tokens), p=2, dim=-1)
        entries = entries.unflatten(1, (side, side)).permute(0, 3, 1, 2).contiguous()
        images: Tensor = self.decoder(self.post_quant_conv(entries))
        return images
