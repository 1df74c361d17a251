"""In which order a training sees its examples, and which it keeps for evaluation."""

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
