"""Wall clocks, and the rate of a matrix product that they are compared with."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch

FORMATS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
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


class Yardstick:
    """What the machine gives: a square matrix product, timed in turns with whatever is compared with it.

    found  all rates in GFLOP/s so far, by the name of the number format

    A processor without bfloat16 takes fifty times as long for it as for float32; there the product is a small one.
    """

    def __init__(self, device: torch.device, size: int = 2048) -> None:
        self._device, self._size = device, size
        self._products: dict[str, tuple[Callable[[], object], float]] = {}
        self.found: dict[str, list[float]] = {name: [] for name in FORMATS}

    def beside(
        self, works: Mapping[str, Callable[[], object]], repeats: int, kind: str
    ) -> tuple[dict[str, list[float]], list[float]]:
        """Return the seconds of each work in its turns, and the GFLOP/s of the product of a kind between them."""
        product, flop = self._product(kind)
        times = in_turns({**works, "": product}, repeats)
        rates = [flop / taken / 1e9 for taken in times.pop("")]
        self.found[kind] += rates
        return times, rates

    def rates(self) -> dict[str, float]:
        """The median of all rates by number format; what was not needed so far is measured now."""
        for kind, found in self.found.items():
            if not found:
                self.beside({}, 3, kind)
        return {kind: statistics.median(found) for kind, found in self.found.items()}

    def _product(self, kind: str) -> tuple[Callable[[], object], float]:
        if kind not in self._products:
            small = self._of_size(kind, self._size // 4)
            hopeless = small[1] / seconds(small[0]) / 1e9 < _HOPELESS
            self._products[kind] = small if hopeless else self._of_size(kind, self._size)
        return self._products[kind]

    def _of_size(self, kind: str, size: int) -> tuple[Callable[[], object], float]:
        a, b = (torch.randn(size, size, device=self._device).to(FORMATS[kind]) for _ in range(2))
        return lambda: a @ b, 2.0 * size**3


def share(flop: float, times: Sequence[float], rates: Sequence[float]) -> float:
    """The share of the product's rate that work of so many operations reaches: the median over its turns."""
    return statistics.median(flop / taken / 1e9 / rate for taken, rate in zip(times, rates, strict=True))
