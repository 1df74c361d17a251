"""What the eye of a verifier learns: what stands at each patch of a picture that was roughened a little."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imagecot.geneval.prompts import COLORS
from imagecot.training.loop import Part
from imagecot.training.optimization import Optimization, batch_indices, step_generator
from imagecot.training.scratch import Losses
from imagecot.worlds.drawn.dataset import Pool
from imagecot.worlds.drawn.scenes import KINDS, SIZE, Scene
from imagecot.worlds.drawn.training.tokenizer import to_tensor

PATCH_LOGITS = len(KINDS) + len(COLORS) + 3
"""How many numbers say what stands at a patch: kinds and colours, each with nothing, and whether it holds a centre."""


def patch_targets(scenes: Sequence[Scene], grid: int) -> Tensor:
    """What stands at each patch: kind, colour (0 = nothing) and whether it holds a centre, (B, grid², 3)."""
    targets = torch.zeros(len(scenes), grid, grid, 3, dtype=torch.long)
    side = SIZE / grid
    for target, scene in zip(targets, scenes, strict=True):
        for item, box in zip(scene.items, scene.boxes, strict=True):
            x0, y0, x1, y1 = (round(v / side) for v in box)
            label = torch.tensor([KINDS.index(item.kind) + 1, COLORS.index(item.color) + 1, 0])
            target[max(y0, 0) : max(y1, y0 + 1), max(x0, 0) : max(x1, x0 + 1)] = label
        for item in scene.items:
            target[min(int(item.y / side), grid - 1), min(int(item.x / side), grid - 1), 2] = 1
    return targets.flatten(1, 2)


def patch_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean negative log-likelihood of `patch_targets` (B, P, 3) under logits (B, P, kinds + colours + 3)."""
    predicted = predicted.float().flatten(0, 1)
    kinds, colors, centre = predicted.split([len(KINDS) + 1, len(COLORS) + 1, 1], 1)
    kind, color, middle = target.flatten(0, 1).unbind(1)
    weights = [torch.ones(n) for n in (kinds.shape[1], colors.shape[1])]
    for weight in weights:
        weight[0] = 0.25  # most patches show nothing
    return (
        F.cross_entropy(kinds, kind, weights[0])
        + F.cross_entropy(colors, color, weights[1])
        + F.binary_cross_entropy_with_logits(centre[:, 0], middle.float())
    )


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shift, blur, relight and roughen images (B, 3, H, W) in [0, 1] a little, each in its own way.

    Generated pictures are a little blurry and off in colour; a judge of clean renderings must not care.
    """
    n, _, height, width = images.shape
    draw = torch.rand(n, 6, generator=generator)
    shifts = torch.randint(-2, 3, (n, 2), generator=generator)
    padded = F.pad(images, (2, 2, 2, 2), mode="replicate")
    rows = torch.arange(height) + 2 + shifts[:, :1]
    columns = torch.arange(width) + 2 + shifts[:, 1:]
    index = torch.arange(n)
    images = padded[index[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    sigma = (draw[:, 0] * 2.4 - 1.2).clamp_min(0.05)  # half of the pictures stay sharp
    taps = torch.exp(-torch.arange(-2, 3).square() / (2 * sigma[:, None].square()))
    taps = taps / taps.sum(1, keepdim=True)
    flat = images.reshape(1, n * 3, height, width)
    kernel = taps.repeat_interleave(3, 0)
    flat = F.conv2d(F.pad(flat, (2, 2, 0, 0), mode="replicate"), kernel[:, None, None, :], groups=n * 3)
    flat = F.conv2d(F.pad(flat, (0, 0, 2, 2), mode="replicate"), kernel[:, None, :, None], groups=n * 3)
    images = flat.reshape(n, 3, height, width)
    scale, shift = 0.88 + 0.24 * draw[:, 1], 0.1 * draw[:, 2] - 0.05
    noise = torch.randn(images.shape, generator=generator) * (0.05 * draw[:, 3])[:, None, None, None]
    return ((images - 0.5) * scale[:, None, None, None] + 0.5 + shift[:, None, None, None] + noise).clamp(0, 1)


@dataclass(frozen=True)
class Shown:
    """The scenes of a training; `grid` patches lie along a side of a picture."""

    pool: Pool
    grid: int

    def at(self, opt: Optimization, part: Part) -> tuple[list[Scene], Tensor]:
        """Scenes of a part and their pictures (B, 3, S, S) in [-1, 1], each roughened in its own way."""
        indices = batch_indices(len(self.pool), opt, part.number)
        images = augment(to_tensor(self.pool.images(indices)), step_generator(opt.seed, part.number, 1))
        return [self.pool[i].scene for i in indices], images * 2 - 1


class Eye(Protocol):
    """What says of each patch what stands there."""

    def see(self, pixels: Tensor) -> Tensor:
        """Logits (B, P, kinds + colours + 3) of the patches of pixels (B, 3, S, S) in [-1, 1]."""
        ...


class Seeing(nn.Module):
    """The loss of the eye alone: what stands at each patch. `student` is a module that holds all weights."""

    def __init__(self, student: Eye, shown: Shown, opt: Optimization) -> None:
        super().__init__()
        self.student, self.shown, self.opt = student, shown, opt

    def forward(self, part: Part) -> Losses:
        """The loss of a part."""
        scenes, pixels = self.shown.at(self.opt, part)
        return {"loss": patch_loss(self.student.see(pixels), patch_targets(scenes, self.shown.grid))}
