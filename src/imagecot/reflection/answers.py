"""How good yes/no answers are: balanced accuracy, AUROC, calibration; by task and by step."""

from collections.abc import Sequence

import torch
from torch import Tensor

from imagecot.reflection.discrepancies import Discrepancy

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


def calibration_bins(p_yes: Tensor, labels: Tensor) -> list[tuple[float, float, int]]:
    """Of ten bins of equal width those that are not empty: mean P(yes), share of yes, how many; arguments (N,)."""
    index = (p_yes * _BINS).long().clamp(max=_BINS - 1)
    bins = [index == k for k in range(_BINS)]
    return [
        (float(p_yes[here].mean()), float(labels[here].double().mean()), int(here.sum())) for here in bins if here.any()
    ]


def calibration_error(p_yes: Tensor, labels: Tensor) -> float:
    """Expected calibration error over ten bins of equal width; p_yes (N,), labels (N,) bool."""
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


def found_and_said(said: Sequence[Sequence[Discrepancy]], true: Sequence[Sequence[Discrepancy]]) -> dict[str, float]:
    """Precision and recall of the discrepancies that a verifier said of images, against those that are there.

    One counts as right where all of it is; `_of_kind` asks for kind and object only. NaN where there is nothing to
    divide by.
    """

    def scores(hits: int, of_said: int, of_true: int) -> tuple[float, float]:
        return hits / of_said if of_said else float("nan"), hits / of_true if of_true else float("nan")

    pairs = [(set(a), set(b)) for a, b in zip(said, true, strict=True)]
    loose = [({(d.kind, d.object) for d in a}, {(d.kind, d.object) for d in b}) for a, b in pairs]
    strict = scores(sum(len(a & b) for a, b in pairs), sum(len(a) for a, _ in pairs), sum(len(b) for _, b in pairs))
    kinds = scores(sum(len(a & b) for a, b in loose), sum(len(a) for a, _ in loose), sum(len(b) for _, b in loose))
    return {
        "precision": strict[0],
        "recall": strict[1],
        "precision_of_kind": kinds[0],
        "recall_of_kind": kinds[1],
    }
