"""Wall clocks, and the rate of a matrix product that they are compared with."""

import statistics
import time
from collections.abc import Callable, Mapping

import torch

_HOPELESS = 3.0  # GFLOP/s


def seconds(work: Callable[[], object]) -> float:
    """Return the wall clock of one call."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    began = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def in_turns(works: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Return the seconds of each work, all in turn `repeats` times, after one unmeasured call of each."""
    for work in works.values():
        work()
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            found[name].append(seconds(work))
    return found


def matrix_rate(dtype: torch.dtype, device: torch.device, size: int = 2048, repeats: int = 5) -> float:
    """Return the GFLOP/s of a square matrix product: what the machine gives.

    A processor without bfloat16 takes fifty times as long for it as for float32; there a small product tells enough.
    """

    def rate(n: int, times: int) -> float:
        a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
        return 2 * n**3 / statistics.median(in_turns({"": lambda: a @ b}, times)[""]) / 1e9

    small = rate(size // 4, 1)
    return small if small < _HOPELESS else rate(size, repeats)
