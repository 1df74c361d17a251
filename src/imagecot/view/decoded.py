"""The images that kept codes stand for, by the very generator that drew them, where this machine has it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imagecot import models, registry
from imagecot.errors import ImagecotError

if TYPE_CHECKING:
    from PIL.Image import Image

Codes = Sequence[Sequence[int]]
Decode = Callable[[Codes], "list[Image]"]
_AT_ONCE = 64


def decoder(name: str, weights: Mapping[str, object], precision: str | None) -> Decode:
    """Return what decodes codes of a generator; ImagecotError, saying why, where that is not possible here.

    weights  its digests as the folder keeps them: another generator of that name would show other images

    Only checkpoints that are on disk are loaded: a folder that is looked at runs no code and fetches nothing.
    """
    if name not in models.shipped("generator") and not Path(name).is_dir():
        raise ImagecotError(f"{name} is no checkpoint on this machine")
    if {**weights} != registry.digests("generator", name):
        raise ImagecotError(f"{name} has other weights here")
    generator = registry.load("generator", name, dtype=precision)
    canvas = generator.canvas

    def decode(codes: Codes) -> "list[Image]":
        import torch

        from imagecot import guard
        from imagecot.images import to_pictures

        if any(len(row) != canvas.positions or max(row) >= canvas.codes for row in codes):
            raise ImagecotError(f"there are codes that {name} cannot draw")
        found: list[Image] = []
        with torch.no_grad():
            for first in range(0, len(codes), _AT_ONCE):
                part = torch.tensor([list(row) for row in codes[first : first + _AT_ONCE]])
                found += to_pictures(guard.decode(generator, part))
        return found

    return decode
