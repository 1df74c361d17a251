"""Standard errors of what is alike within clusters, such as the images of one prompt."""

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence


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
