"""Tensors that were recorded from the reference's code; and the random weights that it ran with, drawn anew.

The reference's small models were filled from one seeded generator, tensor by tensor. So their weights need not be kept:
`sums` of a recording has of each tensor the sum and the sum of absolute values, by which they are checked.
"""

import json
import lzma
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load
from torch import Tensor

DATA = Path(__file__).parent / "data"


def read(name: str) -> dict[str, Tensor]:
    """The tensors of `tests/data/NAME.safetensors.xz`."""
    return load(lzma.decompress((DATA / f"{name}.safetensors.xz").read_bytes()))


def picture(name: str) -> Tensor:
    """The picture `tests/data/NAME` (3, H, W), uint8."""
    return torch.from_numpy(np.array(Image.open(DATA / name))).permute(2, 0, 1)


def drawn(shapes: Iterable[tuple[str, torch.Size]], seed: int, gain: float, bias: float, others: Mapping[str, float]):
    """The weights that the reference drew with a seed, by the names and shapes of its tensors in their order.

    gain    of a matrix or kernel, over the root of its inputs
    bias    scale of a bias; norms have weights around 1 and biases of their own
    others  scales of tensors by their names
    """
    generator = torch.Generator().manual_seed(seed)
    weights: dict[str, Tensor] = {}
    for name, shape in shapes:
        r = torch.randn(shape, generator=generator)
        if "norm" in name:
            weights[name] = 1 + 0.2 * r if name.endswith("weight") else 0.15 * r
        elif name in others:
            weights[name] = others[name] * r
        else:
            weights[name] = bias * r if name.endswith("bias") else r * (gain / (r[0].numel() ** 0.5))
    return weights


def sums(weights: Mapping[str, Tensor]) -> Tensor:
    """Of each tensor (N, 2) the sum and the sum of absolute values."""
    return torch.stack([torch.stack([w.double().sum(), w.double().abs().sum()]) for w in weights.values()])


def noise(seed: int, steps: int, batch: int) -> tuple[list[Tensor], list[Tensor]]:
    """What the reference drew while it sampled with a seed: of each step exponentials (B, 16, 64), uniforms (B, 16)."""
    generator = torch.Generator().manual_seed(seed)
    exponentials, uniforms = [], []
    for _ in range(steps):
        exponentials.append(torch.empty(batch * 16, 64).exponential_(1, generator=generator).view(batch, 16, 64))
        uniforms.append(torch.zeros(batch, 16).uniform_(0, 1, generator=generator))
    return exponentials, uniforms


def llava() -> dict[str, Tensor]:
    """The recording of a small LLaVA-OneVision, its weights under `weights.`."""
    tensors = read("llava/recorded")
    shapes = json.loads((DATA / "llava" / "recorded.json").read_text())["weights"]
    scales = {
        "image_newline": 0.7,
        "language_model.model.embed_tokens.weight": 0.7,
        "vision_tower.vision_model.embeddings.position_embedding.weight": 0.5,
        "language_model.lm_head.weight": 0.3,
    }
    weights = drawn([(name, torch.Size(shape)) for name, shape in shapes], 77, 1.3, 0.15, scales)
    torch.testing.assert_close(sums(weights), tensors.pop("sums"), atol=1e-4, rtol=1e-6)
    return {**tensors, **{f"weights.{name}": weight for name, weight in weights.items()}}
