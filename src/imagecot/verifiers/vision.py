"""The image side of LLaVA-OneVision: one view, encoded once."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def prepare(images: Tensor, size: int) -> Tensor:
    """Resize images (B, 3, H, W) in [0, 1] to `size` (bicubic, antialiased) and normalise to [-1, 1].

    The released verifiers pad to a square first; generated images are square, and others are stretched.
    """
    if images.shape[-2:] != (size, size):
        images = F.interpolate(images, (size, size), mode="bicubic", antialias=True).clamp(0, 1)
    return images * 2 - 1


def encode(model: Any, pixels: Tensor) -> Tensor:
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
