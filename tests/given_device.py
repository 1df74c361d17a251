"""A work that says which process did it, for workers that import little."""

from pathlib import Path


def note(folder: str, rank: int, workers: int) -> None:
    """Write down the rank of a worker process, and the GPU that it was given, if there are any."""
    import torch

    gpu = torch.cuda.current_device() if torch.cuda.is_available() else None
    (Path(folder) / f"{rank}.txt").write_text(f"{rank} of {workers}, {gpu}")
