"""Pictures of fixed prompts and seeds while a generator is trained."""

from pathlib import Path

import torch
from torch import Tensor

from imagecot import figures
from imagecot.images import to_pictures


def save_grid(file: Path, images: Tensor, prompts: list[str]) -> None:
    """Write images (P * G, 3, H, W) in [0, 1] as a PNG: a column for each of P prompts, which stands above it."""
    from matplotlib.figure import Figure

    lines = len(images) // len(prompts)
    figure = Figure(figsize=(1.6 * len(prompts), 1.6 * lines + 0.6))
    axes = figure.subplots(lines, len(prompts), squeeze=False)
    for axis, picture in zip(axes.T.flat, to_pictures(images), strict=True):
        axis.imshow(picture, interpolation="nearest")
        axis.axis("off")
    for axis, prompt in zip(axes[0], prompts, strict=True):
        axis.set_title(figures.wrapped(prompt, 22, 6), fontsize=6)
    figures.save(figure, file, dpi=110)


def spread_over(prompts: list[str], count: int) -> list[str]:
    """At most `count` different prompts, spread over the list."""
    different = list(dict.fromkeys(prompts))
    if not different or not count:
        return []
    places = torch.linspace(0, len(different) - 1, min(count, len(different))).round().long().tolist()
    return [different[k] for k in places]
