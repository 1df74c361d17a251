"""Batches within the memory that there is: how much is free, and work that is halved where it did not fit."""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


def available_bytes(device: "torch.device") -> int:
    """Return the memory in bytes that is free now: the GPU's, or what the system says it could give."""
    if device.type == "cuda":
        import torch

        # What torch holds and nothing is in is as good as free.
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + held
    import psutil

    return int(psutil.virtual_memory().available)


def half_of_free(device: "torch.device", most: int) -> int:
    """Return half of the memory in bytes that is free now; off GPUs at most so much, as more is no faster there."""
    half = available_bytes(device) // 2
    return half if device.type == "cuda" else min(half, most)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: torch and what it builds on say so in words, whatever the device."""
    if isinstance(error, MemoryError):
        return True
    told = (
        *("allocate memory", "out of memory", "not enough memory", "could not create a primitive"),
        *("failed to map segment", "std::bad_alloc"),
    )
    return isinstance(error, (RuntimeError, ImportError, OSError)) and any(text in str(error) for text in told)


def in_parts(work: Callable[[slice], T], count: int, at_once: int) -> list[T]:
    """Return the results of `work` on consecutive slices of `count` rows, `at_once` rows each.

    Where memory runs out the slice is halved, and so are those after it; the error of a single row is raised.
    """
    done: list[T] = []
    first = 0
    while first < count:
        part = slice(first, min(first + at_once, count))
        try:
            done.append(work(part))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or part.stop - first == 1:
                raise
            at_once = (part.stop - first) // 2
            continue
        first = part.stop
    return done
