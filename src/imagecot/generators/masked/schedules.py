"""Mask schedules: the fraction of tokens still masked after a fraction of the steps.

All arithmetic is float32, as in the reference: cos(pi/3) is 0.49999997 there, and its floor matters.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from imagecot.errors import UsageError

Schedule = Callable[[Tensor], Tensor]


def cosine(ratio: Tensor) -> Tensor:
    """Return cos(ratio * pi / 2)."""
    return torch.cos(ratio * math.pi * 0.5)


def linear(ratio: Tensor) -> Tensor:
    """Return 1 - ratio, kept within [1e-6, 1]."""
    return (1 - ratio).clamp(1e-6, 1.0)


def power(exponent: float) -> Schedule:
    """Return the schedule 1 - ratio^exponent, kept within [1e-6, 1]."""
    return lambda ratio: (1.0 - ratio**exponent).clamp(1e-6, 1.0)


def sigmoid(start: float = -3.0, end: float = 3.0, tau: float = 1.0) -> Schedule:
    """Return the falling sigmoid between `start` and `end` at temperature `tau`, kept within [1e-6, 1]."""
    low, high = (torch.sigmoid(torch.tensor(bound / tau)) for bound in (start, end))

    def schedule(ratio: Tensor) -> Tensor:
        value = torch.sigmoid((ratio * (end - start) + start) / tau)
        return ((high - value) / (high - low)).clamp(1e-6, 1.0)

    return schedule


def get_schedule(name: str) -> Schedule:
    """Return the schedule called `cosine`, `linear`, `sigmoid` or `pow<exponent>` (`pow2`, `pow0.5`)."""
    named: dict[str, Schedule] = {"cosine": cosine, "linear": linear, "sigmoid": sigmoid()}
    if isinstance(name, str) and name in named:
        return named[name]
    try:
        exponent = float(name.removeprefix("pow")) if name.startswith("pow") else 0.0
        if 0 < exponent < math.inf:
            return power(exponent)
    except (ValueError, AttributeError):
        pass
    raise UsageError(f"there is no mask schedule {name!r}; use cosine, linear, sigmoid or pow<exponent>.")


def masked_count(schedule: Schedule, step: int, steps: int, num_tokens: int) -> int:
    """Return how many of `num_tokens` tokens the schedule leaves masked after `step` (from 0) of `steps`.

    The floor of a float32 product; the cosine's last value is slightly negative and gives -1, which the
    decoding raises to its least count.
    """
    ratio = schedule(torch.tensor((step + 1) / steps, dtype=torch.float32))
    return int((num_tokens * ratio).floor())


def noise_temperature(start: float, step: int, steps: int, cumulative: bool = False) -> float:
    """Return the temperature of the confidence noise at `step` (from 0), which falls from `start` to 0.

    `start * (1 - (step + 1) / steps)`, or, with `cumulative`, the running product of these factors, to which
    the published sampling loop amounts.
    """
    if not cumulative:
        return start * (1.0 - (step + 1) / steps)
    temperature = start
    for done in range(1, step + 2):
        temperature *= 1.0 - done / steps
    return temperature
