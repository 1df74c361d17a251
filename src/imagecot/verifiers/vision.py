"""The image side of LLaVA-OneVision: one view, encoded once."""

from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from imagecot.contracts.devices import sent

if TYPE_CHECKING:
    from transformers import LlavaOnevisionForConditionalGeneration

    from imagecot.verifiers.lean import Lean

# What the reference pads with: int(255 * SigLIP's mean of 0.5).
_GREY = 127 / 255
# Pillow's weights are whole multiples of 2^-22.
_ONE = 1 << 22


def prepare(images: Tensor, size: int) -> Tensor:
    """Pad images (B, 3, H, W) in [0, 1] to a square, resize them to `size` and normalise to [-1, 1].

    The 'pad' view of the released verifiers: grey beside the shorter dimension, half of it on either side, then
    Pillow's bicubic on whole grey levels. An image of `size` x `size` is only normalised.
    """
    height, width = images.shape[-2:]
    side = max(height, width)
    if height != width:
        left, top = (side - width) // 2, (side - height) // 2
        images = F.pad(images, (left, side - width - left, top, side - height - top), value=_GREY)
    if side != size:
        images = resize(images, size, size)
    return images * 2 - 1


def resize(images: Tensor, height: int, width: int) -> Tensor:
    """Resize images (B, C, H, W) in [0, 1] as Pillow resizes their 8-bit form, bit for bit.

    Pillow goes across, then down, and each time rounds and clips to grey levels. `interpolate` with antialias
    does so at most once, at the end: it is off by 1 level on smooth images and by more than 20 on noise.
    """
    levels = (images.double() * 255).round().clamp(0, 255)
    levels = _to_levels(levels @ _bicubic_weights(images.shape[-1], width, images.device).T)
    levels = _to_levels(_bicubic_weights(images.shape[-2], height, images.device) @ levels)
    return (levels / 255).to(images.dtype)


@lru_cache(maxsize=16)
def _bicubic_weights(n: int, size: int, device: torch.device) -> Tensor:
    """Weights (size, n) of n pixels in each of `size`, in units of 2^-22 (float64, so that sums are exact).

    The kernel is Catmull-Rom's, widened where the image shrinks (`precompute_coeffs` in Pillow's Resample.c).
    """
    scale = n / size
    centres = (torch.arange(size, dtype=torch.float64)[:, None] + 0.5) * scale
    x = ((torch.arange(n, dtype=torch.float64) - centres + 0.5) / max(scale, 1.0)).abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    weights = torch.where(x < 1, near, torch.where(x < 2, far, 0.0))
    weights = weights / weights.sum(1, keepdim=True) * _ONE
    return sent((weights.abs() + 0.5).floor() * weights.sign(), device)


def _to_levels(sums: Tensor) -> Tensor:
    return ((sums + _ONE / 2) / _ONE).floor().clamp(0, 255)


def encode(model: "LlavaOnevisionForConditionalGeneration | Lean", pixels: Tensor) -> Tensor:
    """Turn pixels (B, 3, S, S) in [-1, 1] into rows (B, (S / patch)² + 1, D) of the language model.

    The features are those of `vision_feature_layer` before the last layer norm (layers behind it do not run),
    projected, with the newline row appended once.
    """
    core = model.model
    tower, layer = core.vision_tower, core.config.vision_feature_layer
    depth = len(tower.encoder.layers)
    hidden = tower.embeddings(pixels)
    for block in tower.encoder.layers[: layer if layer >= 0 else depth + 1 + layer]:
        hidden = block(hidden, None)
    rows = core.multi_modal_projector(hidden)
    newline = core.image_newline.to(rows.dtype).expand(len(rows), 1, -1)
    return torch.cat([rows, newline], 1)
