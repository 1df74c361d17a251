"""Two of anything measured on the same things: how often they agree, and whether one is better."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest


def agreement(a: Iterable[bool], b: Iterable[bool]) -> float:
    """The share of places at which two rows of verdicts agree; NaN without any."""
    same = [left == right for left, right in zip(a, b, strict=True)]
    return sum(same) / len(same) if same else float("nan")


def mcnemar(only_a: int, only_b: int) -> float:
    """Exact two-sided McNemar test: P of a split at least this uneven of the pairs that differ; 1 without any."""
    differing = only_a + only_b
    return float(binomtest(min(only_a, only_b), differing).pvalue) if differing else 1.0


@dataclass(frozen=True)
class Interval:
    """An estimate, and the interval that holds it."""

    estimate: float
    low: float
    high: float


Stratum = tuple[Sequence[float], Sequence[float]]  # of its clusters: their sums, and how many are in each


def mean_of_ratios(
    strata: Sequence[Stratum], *, resamples: int = 10_000, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """The mean over strata of Σ sums / Σ sizes, with its percentile bootstrap: clusters resampled in their stratum.

    `scipy.stats.bootstrap` draws other numbers from a seed, by which every interval that was published would change.
    """
    rng = np.random.default_rng(seed)
    estimate, drawn = 0.0, np.zeros(resamples)
    for stratum in strata:
        sums, sizes = (np.array(part) for part in stratum)
        estimate += sums.sum() / sizes.sum() / len(strata)
        weights = rng.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), size=resamples)
        drawn += (weights @ sums) / (weights @ sizes) / len(strata)
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(estimate), float(low), float(high))
