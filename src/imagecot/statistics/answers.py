"""How good yes/no answers are: balanced accuracy, AUROC, calibration; p_yes (N,) in [0, 1], labels (N,) bool."""

from collections.abc import Sequence

import torch
from scipy.stats import rankdata
from torch import Tensor

_BINS = 10


def balanced_accuracy(p_yes: Tensor, labels: Tensor) -> float:
    """Mean of the shares of right answers among yes and among no; NaN without both."""
    said = p_yes >= 0.5
    return float((said[labels].float().mean() + (~said[~labels]).float().mean()) / 2)


def auroc(p_yes: Tensor, labels: Tensor) -> float:
    """Probability that a yes gets more than a no, ties half; NaN without both."""
    yes = int(labels.sum())
    no = len(labels) - yes
    if not yes or not no:
        return float("nan")
    ranks = rankdata(p_yes.double().cpu().numpy())[labels.cpu().numpy()]
    return float((ranks.sum() - yes * (yes + 1) / 2) / yes / no)


def calibration_bins(p_yes: Tensor, labels: Tensor) -> list[tuple[float, float, int]]:
    """Of ten bins of equal width those that are not empty: mean P(yes), share of yes, how many."""
    index = (p_yes * _BINS).long().clamp(max=_BINS - 1)
    bins = [index == k for k in range(_BINS)]
    return [
        (float(p_yes[here].mean()), float(labels[here].double().mean()), int(here.sum())) for here in bins if here.any()
    ]


def calibration_error(p_yes: Tensor, labels: Tensor) -> float:
    """Expected calibration error over ten bins of equal width."""
    return sum(count / len(labels) * abs(p - right) for p, right, count in calibration_bins(p_yes, labels))


def answer_scores(p_yes: Tensor, labels: Tensor, groups: Sequence[str]) -> dict[str, float]:
    """All three over everything, and balanced accuracy and AUROC within each group that holds both labels."""
    scores = {
        "balanced": balanced_accuracy(p_yes, labels),
        "auroc": auroc(p_yes, labels),
        "calibration": calibration_error(p_yes, labels),
    }
    for group in sorted(set(groups)):
        here = torch.tensor([name == group for name in groups])
        if labels[here].any() and (~labels[here]).any():
            scores[f"balanced/{group}"] = balanced_accuracy(p_yes[here], labels[here])
            scores[f"auroc/{group}"] = auroc(p_yes[here], labels[here])
    return {name: value for name, value in scores.items() if value == value}
