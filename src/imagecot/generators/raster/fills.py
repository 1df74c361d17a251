"""Previews of unfinished images: image tokenizers decode complete grids only, so codes not drawn yet are filled.

blank   the part of the image that is not drawn has the mean colour of the part that is
repeat  the rows of codes that are drawn are repeated below, as a block
draft   the rest is drawn to the end by the most probable codes, without guidance: the preview costs the rows that are
        left, each at most half of what a row with guidance costs

An image of which nothing is drawn is grey, but for `draft`.
"""

from dataclasses import replace

import torch
from torch import Tensor

from imagecot.contracts.paths import Paths
from imagecot.generators.raster.drawing import Started
from imagecot.generators.raster.sampling import Sampling

GREEDY = Sampling(temperature=0.0)


def repeated(paths: Paths) -> Tensor:
    """Return complete codes (B, N) of paths whose first rows are drawn: these, over and over."""
    rows = paths.codes.unflatten(1, (paths.steps, -1))
    return rows[:, torch.arange(paths.steps, device=rows.device) % paths.step].flatten(1)


def blanked(images: Tensor, drawn: int) -> Tensor:
    """Return images (B, 3, H, W) of which all but the first `drawn` lines have the mean colour of these."""
    images = images.clone()
    images[:, :, drawn:] = images[:, :, :drawn].mean((2, 3), keepdim=True)
    return images


def unguided(paths: Paths) -> Paths:
    """The same paths as if they had been started without guidance."""
    started: Started = paths.shared
    plain = [both[:1] for both in started.prefixes]
    own = tuple(row[:, :1] for row in paths.own)
    return replace(paths, shared=replace(started, prefixes=plain, sampling=GREEDY), own=own)
