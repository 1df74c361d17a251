"""Which of several paths stop when a share of them is kept."""

import math
from collections.abc import Sequence


def worst(answers: Sequence[float], keep: float) -> list[int]:
    """The rows of all but the best share, worst first; of equal answers the later ones go."""
    worst_first = sorted(range(len(answers)), key=lambda row: (answers[row], -row))
    return worst_first[: len(answers) - math.ceil(keep * len(answers))]
