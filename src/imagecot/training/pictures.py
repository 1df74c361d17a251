"""Pictures of fixed prompts and seeds while a generator is trained."""

from pathlib import Path

import torch
from torch import Tensor

from imagecot.figures import wrapped
from imagecot.files import write_atomically
from imagecot.images import to_pictures


def save_grid(file: Path, images: Tensor, prompts: list[str]) -> None:
    """Write images (P * G, 3, H, W) in [0, 1] as a PNG: a column for each of P prompts, which stands above it."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    lines = len(images) // len(prompts)
    figure, axes = plt.subplots(lines, len(prompts), figsize=(1.6 * len(prompts), 1.6 * lines + 0.6), squeeze=False)
    for axis, picture in zip(axes.T.flat, to_pictures(images), strict=True):
        axis.imshow(picture, interpolation="nearest")
        axis.axis("off")
    for axis, prompt in zip(axes[0], prompts, strict=True):
        axis.set_title(wrapped(prompt, 22, 6), fontsize=6)
    figure.tight_layout()
    write_atomically(file, lambda path: figure.savefig(path, format="png", dpi=110))
    plt.close(figure)


def spread_over(prompts: list[str], count: int) -> list[str]:
    """At most `count` different prompts, spread over the list."""
    different = list(dict.fromkeys(prompts))
    if not different or not count:
        return []
    places = torch.linspace(0, len(different) - 1, min(count, len(different))).round().long().tolist()
    return [different[k] for k in places]
