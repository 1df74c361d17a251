"""A generator that says nothing of its steps, as it is timed from outside: by what every generator has."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from imagecot.contracts.generator import Generator
from imagecot.contracts.paths import Paths
from imagecot.contracts.randomness import path_seeds
from imagecot.generators.bench import Piece


@dataclass(frozen=True, eq=False)
class Outside:
    """What is measured of any generator: whole steps, at their beginning, middle and end."""

    generator: Generator

    def halfway(self, batch: int, prompt: str) -> Paths:
        """Return paths that were drawn as far as the middle."""
        return self._after(self.generator.steps // 2, batch, prompt)

    def longer(self, prompt: str) -> Sequence[Paths]:
        """Return single paths before their first, their middle and their last step."""
        steps = self.generator.steps
        return [self._after(step, 1, prompt) for step in sorted({0, steps // 2, steps - 1})]

    def _after(self, step: int, batch: int, prompt: str) -> Paths:
        paths = self.generator.start([prompt], path_seeds(0, batch))
        while paths.step < step:
            paths = self.generator.advance(paths)
        return paths

    def tokens(self, paths: Paths) -> tuple[int, None]:
        """Return the codes of an image; nobody knows what stands for the prompt."""
        return paths.codes.shape[1], None

    def flop(self, paths: Paths) -> None:
        """Nobody knows."""

    @torch.no_grad()
    def pieces(self, paths: Paths, prompt: str) -> Mapping[str, Piece]:
        """Return starting one path, and a whole step."""
        generator, seeds = self.generator, path_seeds(0, 1)
        return {
            "start": Piece(lambda: generator.start([prompt], seeds)),
            "step": Piece(lambda: generator.advance(paths)),
        }
