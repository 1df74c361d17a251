"""In which order a training sees its examples, which it keeps for evaluation, and at which rate it learns."""

import math
import random
import zlib
from collections.abc import Sequence


def is_held_out(prompt: str, share: float) -> bool:
    """Whether a prompt is kept for evaluation: a function of its text, so that no prompt is on both sides."""
    return zlib.crc32(prompt.encode()) / 2**32 < share


def epoch_order(weights: Sequence[float], seed: int, epoch: int) -> list[int]:
    """The rows of an epoch in order: each as often as its weight says, a fraction by chance."""
    rng = random.Random(f"{seed}:{epoch}")
    order = [k for k, weight in enumerate(weights) for _ in range(int(weight) + (rng.random() < weight % 1))]
    rng.shuffle(order)
    return order


def schedule(step: int, steps: int, warmup_ratio: float) -> float:
    """Linear warm-up, then a cosine to 0, as a factor of the learning rate (LLaVA's own recipe)."""
    warmup = max(1, round(steps * warmup_ratio))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup))))
