"""The convolutional blocks of image tokenizers, with the names that taming-transformers gave their weights.

Where there is no gradient, what nobody else holds is changed in its place: a tenth of decoding was to get new memory.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

GROUPS = 32  # of channels that are normalised together


def normalised(channels: int) -> nn.GroupNorm:
    """Return the normalisation of channels (a multiple of GROUPS), in GROUPS groups."""
    return nn.GroupNorm(GROUPS, channels, eps=1e-6)


def silu(fresh: Tensor) -> Tensor:
    """SiLU of a tensor that nobody else holds."""
    return F.silu(fresh, inplace=not torch.is_grad_enabled())


def added(fresh: Tensor, x: Tensor) -> Tensor:
    """The sum of a tensor that nobody else holds and another one."""
    return fresh + x if torch.is_grad_enabled() or fresh.dtype != x.dtype else fresh.add_(x)


class ResidualBlock(nn.Module):
    """Two normalised 3x3 convolutions around a shortcut, which is 1x1 where the channel count changes."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm1 = normalised(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = normalised(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.nin_shortcut = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, H, W)."""
        h = self.conv1(silu(self.norm1(x)))
        h = self.conv2(silu(self.norm2(h)))
        return added(h, x if self.nin_shortcut is None else self.nin_shortcut(x))


class AttentionBlock(nn.Module):
    """Single-head self-attention over all positions, with a residual connection."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = normalised(channels)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W)."""
        h = self.norm(x)
        q, k, v = (layer(h).flatten(2).transpose(1, 2) for layer in (self.q, self.k, self.v))
        attended = F.scaled_dot_product_attention(q, k, v)
        return x + self.proj_out(attended.transpose(1, 2).reshape(x.shape))


class Downsample(nn.Module):
    """Halve the resolution by a strided convolution, padded on the right and at the bottom only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H/2, W/2)."""
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Double the resolution by nearest neighbours and a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, 2H, 2W)."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
