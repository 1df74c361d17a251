"""The share of its machine that a worker has, beside others on it: a GPU as far as there are enough, and threads."""

import os

from imagecot.launch import launched, use_device

_share: tuple[int, int] | None = None  # which process of how many of this machine this is


def share(rank: int, workers: int) -> None:
    """Say that this process is one of so many on its machine; `settle` does what follows from it."""
    global _share
    _share = rank, workers


def settle() -> None:
    """Take this process's share, before it loads models; under a launcher that is the launcher's."""
    if _share is not None:
        import torch

        rank, workers = _share
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
        use_device(rank)
    elif launched()[1] > 1:
        use_device(int(os.environ["LOCAL_RANK"]))
