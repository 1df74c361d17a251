"""Errors, paired comparisons and the quality of answers, by numbers worked out by hand or by their definition."""

import math
import random

import numpy as np
import pytest
import torch

from imagecot.statistics.answers import auroc, balanced_accuracy, calibration_bins, calibration_error
from imagecot.statistics.clustered import mean_error, ratio_error
from imagecot.statistics.paired import agreement, mcnemar, mean_of_ratios


def test_equal_clusters_give_the_error_of_the_mean_of_cluster_means() -> None:
    # shares 1, 1/2, 0, 1/2: sample variance (0.25 + 0 + 0.25 + 0) / 3, over 4 clusters
    assert ratio_error([4, 2, 0, 2], [4, 4, 4, 4]) == pytest.approx(math.sqrt(0.5 / 3 / 4), rel=1e-12)


def test_one_image_a_prompt_gives_the_error_of_a_share() -> None:
    # 3 of 10: sqrt(p (1 - p) / (n - 1))
    assert ratio_error([1] * 3 + [0] * 7, [1] * 10) == pytest.approx(math.sqrt(0.3 * 0.7 / 9), rel=1e-12)


def test_error_of_a_mean_comes_from_the_residuals_of_its_clusters() -> None:
    # mean 3/4; residuals by cluster -3/4 + 1/4 and 1/4 + 1/4: sqrt(2 · (1/4 + 1/4)) / 4
    assert mean_error([0, 1, 1, 1], [7, 7, 9, 9]) == pytest.approx(0.25)
    alone = [0.1, 0.7, 0.4, 0.9, 0.3]
    assert mean_error(alone, range(5)) == pytest.approx(np.std(alone, ddof=1) / 5**0.5)
    assert mean_error([0, 1], ["a", "a"]) is None
    assert ratio_error([3], [4]) is None
    with pytest.raises(ValueError, match="shorter"):
        mean_error([0, 1], [1])


def test_mcnemar_by_hand() -> None:
    # 1 against 5: 2 · (C(6,0) + C(6,1)) / 64 = 14 / 64
    assert mcnemar(1, 5) == mcnemar(5, 1) == pytest.approx(14 / 64, rel=1e-14)
    # 0 against 10: 2 / 1024
    assert mcnemar(0, 10) == pytest.approx(2 / 1024, rel=1e-14)
    assert mcnemar(3, 3) == 1.0
    assert mcnemar(0, 0) == 1.0
    assert 0 < mcnemar(900, 1300) < 1e-15


@pytest.mark.parametrize(("a", "b"), [(1, 2), (0, 1), (4, 17), (40, 61), (300, 250)])
def test_mcnemar_is_the_share_of_splits_that_are_at_least_as_uneven(a: int, b: int) -> None:
    ways = sum(math.comb(a + b, k) for k in range(a + b + 1) if abs(2 * k - a - b) >= abs(a - b))
    assert mcnemar(a, b) == pytest.approx(ways / 2 ** (a + b), rel=1e-13)


def test_agreement_is_a_share_of_places() -> None:
    assert agreement([True, False, True, True], [True, True, True, False]) == 0.5
    assert math.isnan(agreement([], []))
    with pytest.raises(ValueError, match="shorter"):
        agreement([True], [])


def test_mean_of_ratios_by_hand() -> None:
    # 1 of 4 and 3 of 6, a half of each; a stratum of one cluster never varies
    found = mean_of_ratios([([1], [4]), ([3], [6])], resamples=50)
    assert (found.estimate, found.low, found.high) == (0.375, 0.375, 0.375)
    # two clusters, 0 or 1 of one each: means 0, 1/2 and 1 with 1/4, 1/2, 1/4
    found = mean_of_ratios([([0, 1], [1, 1])])
    assert (found.estimate, found.low, found.high) == (0.5, 0.0, 1.0)
    narrow = mean_of_ratios([([0, 1], [1, 1])], confidence=0.4)
    assert (narrow.low, narrow.high) == (0.5, 0.5)


def test_an_interval_is_as_wide_as_its_standard_error_says() -> None:
    rng = random.Random(0)
    sums, sizes = [rng.randint(0, 4) for _ in range(200)], [4] * 200
    found, error = mean_of_ratios([(sums, sizes)]), ratio_error(sums, sizes)
    assert error is not None
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.05)
    assert found == mean_of_ratios([(sums, sizes)])
    assert found != mean_of_ratios([(sums, sizes)], seed=1)


def test_auroc_is_the_share_of_pairs_in_order_with_ties_half() -> None:
    rng = torch.Generator().manual_seed(0)
    for size in (2, 5, 40):
        p = torch.randint(0, 6, (size,), generator=rng) / 5
        labels = torch.rand(size, generator=rng) < 0.5
        labels[0], labels[1] = True, False
        pairs = [(a > b) + (a == b) / 2 for a in p[labels].tolist() for b in p[~labels].tolist()]
        assert auroc(p, labels) == pytest.approx(sum(pairs) / len(pairs), rel=1e-12)
    assert auroc(torch.tensor([0.5, 0.5]), torch.tensor([True, False])) == 0.5
    assert math.isnan(auroc(torch.tensor([0.5, 0.7]), torch.tensor([True, True])))


def test_calibration_and_balance_by_hand() -> None:
    p, labels = torch.tensor([0.9, 0.6, 0.4, 0.2, 1.0]), torch.tensor([True, False, True, False, True])
    # .9 and 1.0 share the last bin: |.95 - 1| of two; .6, .4 and .2 stand alone
    assert [(round(mean, 3), right, count) for mean, right, count in calibration_bins(p, labels)] == [
        (0.2, 0, 1), (0.4, 1, 1), (0.6, 0, 1), (0.95, 1, 2)
    ]  # fmt: skip
    assert calibration_error(p, labels) == pytest.approx((0.2 + 0.6 + 0.6 + 2 * 0.05) / 5)
    assert balanced_accuracy(p, labels) == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert math.isnan(balanced_accuracy(p, torch.ones(5, dtype=torch.bool)))
