"""At which rate a training learns: a linear warm-up, then a cosine to a floor (LLaVA's own recipe)."""

import math


def learning_rate(step: int, steps: int, peak: float, *, warmup: int, least: float = 0.0) -> float:
    """The rate of a step, counted from 0, of so many.

    peak    the highest rate, which parameter groups may have of their own
    warmup  in steps
    least   the rate of the end
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    t = (step - warmup) / max(1, steps - warmup)
    return least + (peak - least) * 0.5 * (1 + math.cos(math.pi * min(t, 1.0)))


def warmup_steps(steps: int, ratio: float) -> int:
    """How many of `steps` are a warm-up of this ratio, at least 1."""
    return max(1, round(steps * ratio))
