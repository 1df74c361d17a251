"""What the rules of generators share: the paths that they draw, and how two results are compared."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from imagecot.contracts.generator import Generator
from imagecot.contracts.paths import Paths, states
from imagecot.contracts.randomness import path_seeds

PROMPTS = ("a photo of a red apple", "a photo of a blue clock")
TOLERANCE = 1 / 255  # of an image: products of another batch size round otherwise


@dataclass(frozen=True)
class Subject:
    """A generator on trial, and two prompts that it can draw."""

    generator: Generator
    prompts: tuple[str, str] = PROMPTS

    @property
    def seeds(self) -> Tensor:
        """Three seeds (3,)."""
        return path_seeds(11, 3)

    def start(self, rows: Sequence[int] = (0, 1, 2)) -> Paths:
        """Paths of the first prompt at step 0, of some of the seeds."""
        return self.generator.start([self.prompts[0]], self.seeds[[*rows]])

    @cached_property
    def expected(self) -> list[Tensor]:
        """The codes (3, N) of the three paths of the first prompt at each step, as they were drawn once."""
        return self.codes(self.start())

    def codes(self, paths: Paths) -> list[Tensor]:
        """The codes of paths at each step from now to the end, copied, so that nobody can change them afterwards."""
        return [copied(paths), *map(copied, states(self.generator, paths))]

    def last(self, paths: Paths) -> Tensor:
        """The codes (B, N) at the end."""
        return self.codes(paths)[-1]


def copied(paths: Paths) -> Tensor:
    """A copy of the codes (B, N) on the CPU."""
    return paths.codes.detach().clone().cpu()


def differing(ours: Tensor, theirs: Tensor) -> list[int]:
    """The rows of two batches of codes that are not equal; all where they are not of the same shape."""
    if ours.shape != theirs.shape:
        return list(range(max(len(ours), len(theirs))))
    return [row for row, (one, other) in enumerate(zip(ours, theirs, strict=True)) if not torch.equal(one, other)]


def look_alike(ours: Tensor, theirs: Tensor) -> bool:
    """Whether two batches of images show the same, but for rounding."""
    if ours.shape != theirs.shape:
        return False
    return bool(((ours.float().cpu() - theirs.float().cpu()).abs() <= TOLERANCE).all())
