"""How good yes/no answers are: balanced accuracy, AUROC, calibration; by task and by step."""

from collections.abc import Sequence

import torch
from torch import Tensor

_BINS = 10


def balanced_accuracy(p_yes: Tensor, labels: Tensor) -> float:
    """Mean of the shares of right answers among yes and among no; p_yes (N,), labels (N,) bool. NaN without both."""
    said = p_yes >= 0.5
    return float((said[labels].float().mean() + (~said[~labels]).float().mean()) / 2)


def auroc(p_yes: Tensor, labels: Tensor) -> float:
    """Probability that a yes gets more than a no, ties half; p_yes (N,), labels (N,) bool. NaN without both."""
    yes, no = p_yes[labels].double(), p_yes[~labels].double()
    if not len(yes) or not len(no):
        return float("nan")
    ordered = no.sort().values
    below = torch.searchsorted(ordered, yes)
    upto = torch.searchsorted(ordered, yes, right=True)
    return float((below + upto).double().mean() / 2 / len(no))


def calibration_error(p_yes: Tensor, labels: Tensor) -> float:
    """Expected calibration error over ten bins of equal width; p_yes (N,), labels (N,) bool."""
    index = (p_yes * _BINS).long().clamp(max=_BINS - 1)
    error = 0.0
    for k in range(_BINS):
        here = index == k
        if here.any():
            error += float(here.float().mean() * (p_yes[here].mean() - labels[here].float().mean()).abs())
    return error


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
