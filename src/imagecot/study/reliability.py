"""How a verifier's answers fit the truth, path by path: its reliability, and what a search made of its steps."""

from typing import Any

import torch

from imagecot.reflection.answers import auroc, balanced_accuracy, calibration_bins, calibration_error
from imagecot.study.rows import Row


def reliability(rows: list[Row], name: str) -> dict[str, Any]:
    """For a row that chooses among whole paths: their P(yes) against the first judge.

    `bins` are those of ten equal widths that are not empty: the mean P(yes), the share of right images and how many.
    AUROC, balanced accuracy at .5 and expected calibration error are NaN where there are not both kinds of image.
    """
    paths = [
        (path["score"], correct)
        for row in rows
        if name in row["searches"]
        for path, correct in zip(row["searches"][name]["paths"], row["correct"][0], strict=False)
    ]
    p_yes = torch.tensor([score for score, _ in paths], dtype=torch.float64)
    labels = torch.tensor([correct for _, correct in paths], dtype=torch.bool)
    return {
        "bins": [{"mean_p": p, "right": right, "count": count} for p, right, count in calibration_bins(p_yes, labels)],
        "auroc": auroc(p_yes, labels),
        "balanced_accuracy": balanced_accuracy(p_yes, labels),
        "ece": calibration_error(p_yes, labels),
        "paths": len(paths),
    }


def steps_used(rows: list[Row], name: str) -> dict[str, Any]:
    """For a row that stops paths: how many were first clear, and how many stopped, at each step, and how rightly."""
    paths = [
        (path, right)
        for row in rows
        if name in row["searches"]
        for path, right in zip(row["searches"][name]["paths"], row["correct"][0], strict=False)
    ]
    counts: dict[str, dict[str, int]] = {"first_clear": {}, "stopped": {}}
    for path, _ in paths:
        for key, found in counts.items():
            step = str(path[key]) if path[key] is not None else "never"
            found[step] = found.get(step, 0) + 1
    given_up = [right for path, right in paths if path["stopped"] is not None]
    kept = [right for path, right in paths if path["stopped"] is None]
    return {
        "paths": len(paths),
        **counts,
        "right_of_stopped": sum(given_up) / max(1, len(given_up)),
        "right_of_kept": sum(kept) / max(1, len(kept)),
    }
