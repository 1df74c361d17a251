"""What a training computes once and keeps: tensors in parts, under a name that says what they were computed from."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from imagecot import interruption
from imagecot.errors import ImagecotError
from imagecot.files import make_folder, make_own_folder
from imagecot.peers import rank_and_world, said_by_main
from imagecot.training.state import read_state, refusing_damage, write_state
from imagecot.watch import SILENT, Watch

_A_PART = 256  # what a killed run computes again at most
_AGAIN = "delete it to compute it again"


def in_parts(
    folder: Path,
    count: int,
    compute: Callable[[int, int], Tensor],
    what: str,
    *,
    size: int = _A_PART,
    shared: bool = False,
    watch: Watch = SILENT,
) -> Tensor:
    """Compute a tensor of `count` rows by `compute(first, last)`, `size` rows at a time, each kept in `folder`.

    what    is done, for `watch`
    shared  whether all processes compute a part together, of which one keeps it; else this process is alone

    ImagecotError for a part that is damaged.
    """
    writes = not shared or rank_and_world()[0] == 0
    if writes:
        make_folder(folder.parent)
        make_own_folder(folder)
    parts: list[Tensor] = []
    with watch.progress(what) as progress:
        for first in range(0, count, size):
            interruption.check()
            file, last = folder / f"{first:07d}.pt", min(first + size, count)
            there = said_by_main(file.exists()) if shared else file.exists()
            part: object = read_state(file, _AGAIN) if there else compute(first, last).cpu()
            if writes and not there:
                write_state(file, part)
            with refusing_damage(file, _AGAIN):
                parts.append(_rows(part, last - first, parts))
            progress(last, count)
    return torch.cat(parts)


def _rows(part: object, count: int, before: Sequence[Tensor]) -> Tensor:
    """A part that has so many rows, each of the shape of those before; ValueError for anything else."""
    if not isinstance(part, Tensor) or part.ndim == 0 or len(part) != count:
        raise ValueError(f"it is no tensor of {count} rows")
    if before and part.shape[1:] != before[0].shape[1:]:
        raise ValueError(f"it is no tensor of {count} rows")
    return part


def check_codes(codes: Tensor, positions: int, codebook: int, kept: Path) -> None:
    """Raise ImagecotError where codes that were kept are not (B, positions), each below `codebook`."""
    if codes.shape[1:] != (positions,) or not 0 <= int(codes.min()) <= int(codes.max()) < codebook:
        raise ImagecotError(f"{kept} is damaged (its codes are not those of the image tokenizer); {_AGAIN}.")


def fingerprint(model: nn.Module) -> str:
    """SHA-256 of the weights of a model."""
    total = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        total.update(name.encode())
        total.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return total.hexdigest()


def digest(*parts: bytes | str) -> str:
    """A short name for what is computed from `parts`."""
    total = hashlib.sha256()
    for part in parts:
        total.update(part.encode() if isinstance(part, str) else part)
        total.update(b"\0")
    return total.hexdigest()[:16]
