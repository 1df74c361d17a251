"""Which settings are taken: the fastest of those that lose little, with what chance can do held against them.

Of many settings some are lucky. So a loss counts with its standard error, and what the rule itself loses is told as it
is measured on prompts by which it did not choose.
"""

import random
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from imagecot.calibration.compare import ALONE, Compared
from imagecot.statistics.clustered import mean_error

_SPLITS = 20


def chosen(found: Sequence[Compared], loss: float, column: int = ALONE) -> Compared:
    """The fastest of the settings whose loss, with a standard error on top, is at most so many points.

    Where there is none, the one that loses least by that measure.
    """
    prompts = np.arange(found[0].differences.shape[1])
    return found[_chosen(found, prompts, loss, column)]


def frontier(found: Sequence[Compared], column: int = ALONE) -> list[Compared]:
    """The settings that none beats in both score and seconds, the fastest first."""
    kept: list[Compared] = []
    for one in sorted(found, key=lambda each: (each.share(column), -each.difference())):
        if not kept or one.difference() > kept[-1].difference():
            kept.append(one)
    return kept


def checked(found: Sequence[Compared], loss: float, column: int = ALONE) -> tuple[float, float, float] | None:
    """What the rule gains and spends on prompts by which it did not choose; None for fewer than four prompts.

    Half of the prompts choose, the other half are scored, in many random splits. Returns points of difference to
    best-of-n, their standard error by prompt, and the share of its seconds.
    """
    count = found[0].differences.shape[1]
    if count < 4:
        return None
    gained: list[list[float]] = [[] for _ in range(count)]
    spent = whole = 0.0
    for split in range(_SPLITS):
        order = random.Random(split).sample(range(count), count)
        choosing, scored = np.array(order[: count // 2]), np.array(order[count // 2 :])
        taken = found[_chosen(found, choosing, loss, column)]
        for place in scored:
            gained[place].append(float(taken.differences[0][place]))
        spent += float(taken.tried.spent[column][scored].sum())
        whole += float(taken.best.spent[column][scored].sum())
    means = [sum(values) / len(values) for values in gained if values]
    return sum(means) / len(means), mean_error(means, range(len(means))) or 0.0, spent / whole


def _chosen(found: Sequence[Compared], prompts: NDArray[np.int64], loss: float, column: int) -> int:
    """The index of the settings that these prompts choose."""
    bounds, seconds = [], []
    for one in found:
        values = one.differences[0][prompts]
        error = mean_error(values.tolist(), range(len(values))) or 0.0
        bounds.append(error - float(values.mean()))
        seconds.append(float(one.tried.spent[column][prompts].sum()))
    fit = [k for k, bound in enumerate(bounds) if bound <= loss + 1e-9]
    if fit:
        return min(fit, key=lambda k: (seconds[k], bounds[k]))
    return min(range(len(found)), key=lambda k: (bounds[k], seconds[k]))
