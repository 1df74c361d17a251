"""Standard errors of what is alike within clusters, such as the images of one prompt."""

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

_GROUPS = 53  # a prime, so that clusters of several kinds in turn are in each group


def ratio_error(sums: Sequence[float], sizes: Sequence[float]) -> float | None:
    """Standard error of Σ sums / Σ sizes over G clusters, sqrt(G/(G−1) · Σ (sum − ratio · size)²) / Σ sizes.

    The usual linearisation of a ratio (Cochran, Sampling Techniques, §6.4 and 9A); None for one cluster.
    """
    clusters, total = len(sums), sum(sizes)
    if clusters < 2:
        return None
    ratio = sum(sums) / total
    squares = sum((s - ratio * m) ** 2 for s, m in zip(sums, sizes, strict=True))
    return math.sqrt(squares * clusters / (clusters - 1)) / total


def mean_error(values: Iterable[float], clusters: Iterable[Hashable]) -> float | None:
    """Standard error of the mean of values (N,), each of the cluster (N,) of its place; None for one cluster."""
    grouped: dict[Hashable, list[float]] = defaultdict(list)
    for value, cluster in zip(values, clusters, strict=True):
        grouped[cluster].append(float(value))
    return ratio_error([sum(group) for group in grouped.values()], [len(group) for group in grouped.values()])


def jackknife_error(statistic: Callable[[NDArray[np.bool_]], float], clusters: Sequence[Hashable]) -> float | None:
    """Standard error of any statistic: how it varies where each group of clusters in turn is left out.

    statistic  of the values at the places (N,) that are True; what it is of none may be NaN
    clusters   (N,) of each value; the clusters are the groups, or are dealt out to 53 (the delete-a-group jackknife)

    None for one cluster, and where the statistic of a part is NaN.
    """
    number = {cluster: k % _GROUPS for k, cluster in enumerate(dict.fromkeys(clusters))}
    group = np.array([number[cluster] for cluster in clusters])
    count = min(len(number), _GROUPS)
    if count < 2:
        return None
    parts = np.array([statistic(group != k) for k in range(count)])
    if np.isnan(parts).any():
        return None
    return float(np.sqrt((count - 1) / count * ((parts - parts.mean()) ** 2).sum()))
