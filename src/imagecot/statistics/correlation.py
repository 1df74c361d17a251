"""How two measurements of the same things go together; NaN where one of them is the same for all."""

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata


def correlation(a: ArrayLike, b: ArrayLike) -> float:
    """Pearson's correlation of a (N,) and b (N,); the point-biserial one where b is true or false."""
    x, y = (np.asarray(values, dtype=np.float64) for values in (a, b))
    if len(x) < 2 or not np.ptp(x) or not np.ptp(y):
        return float("nan")
    return float(np.clip(np.corrcoef(x, y)[0, 1], -1, 1))


def rank_correlation(a: ArrayLike, b: ArrayLike) -> float:
    """Spearman's correlation: Pearson's of the ranks, equal values sharing their mean rank."""
    return correlation(rankdata(a), rankdata(b))


def pairs_in_order(
    values: Sequence[float], labels: Sequence[bool], clusters: Sequence[Hashable]
) -> list[tuple[float, int]]:
    """Of each cluster that has both labels: in how many pairs the yes has the higher value, ties half, and of how many.

    values, labels, clusters  (N,)

    Σ / Σ is AUROC among things of one cluster alone, such as the paths of a prompt, between which a search chooses.
    """
    found: dict[Hashable, tuple[list[float], list[float]]] = {}
    for value, label, cluster in zip(values, labels, clusters, strict=True):
        found.setdefault(cluster, ([], []))[label].append(value)
    counted = []
    for no, yes in found.values():
        if no and yes:
            ahead = np.subtract.outer(yes, no)
            counted.append((float((ahead > 0).sum() + (ahead == 0).sum() / 2), len(no) * len(yes)))
    return counted
