"""How a verifier's answers fit the truth, path by path: its reliability, and what a search made of its steps."""

from collections import Counter
from collections.abc import Iterator, Sequence

import torch

from imagecot.statistics.answers import auroc, balanced_accuracy, calibration_bins, calibration_error
from imagecot.study.rows import PathRow, PoolRow
from imagecot.study.summary import Bin, Reliability, Steps, known

NEVER = "never"


def reliability(rows: Sequence[PoolRow], name: str, verifier: str) -> Reliability:
    """For a row that chooses among whole paths: their P(yes) against the first judge.

    `bins` are those of ten equal widths that are not empty: the mean P(yes), the share of right images and how many.
    AUROC, balanced accuracy at .5 and expected calibration error are None where there are not both kinds of image.
    """
    paths = list(_paths(rows, name))
    p_yes = torch.tensor([path.score for path, _ in paths], dtype=torch.float64)
    labels = torch.tensor([correct for _, correct in paths], dtype=torch.bool)
    return Reliability(
        verifier=verifier,
        bins=[Bin(mean_p=p, right=right, count=count) for p, right, count in calibration_bins(p_yes, labels)],
        auroc=known(auroc(p_yes, labels)),
        balanced_accuracy=known(balanced_accuracy(p_yes, labels)),
        ece=known(calibration_error(p_yes, labels)),
        paths=len(paths),
    )


def steps_used(rows: Sequence[PoolRow], name: str) -> Steps:
    """For a row that stops paths: how many were first clear, and how many stopped, at each step, and how rightly."""
    paths = list(_paths(rows, name))
    given_up = [right for path, right in paths if path.stopped is not None]
    kept = [right for path, right in paths if path.stopped is None]
    return Steps(
        paths=len(paths),
        first_clear=_counted([path.first_clear for path, _ in paths]),
        stopped=_counted([path.stopped for path, _ in paths]),
        right_of_stopped=sum(given_up) / max(1, len(given_up)),
        right_of_kept=sum(kept) / max(1, len(kept)),
    )


def _paths(rows: Sequence[PoolRow], name: str) -> Iterator[tuple[PathRow, bool]]:
    """What a row said of each path of each prompt, with the first judge's verdict."""
    for row in rows:
        if name in row.searches:
            yield from zip(row.searches[name].paths, row.correct[0], strict=False)


def _counted(steps: Sequence[int | None]) -> dict[str, int]:
    return dict(Counter(NEVER if step is None else str(step) for step in steps))
