"""A generator that replays paths which were drawn before, so that searches over them are paired and draw nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from imagecot.contracts.correction import Correction
from imagecot.contracts.generator import Generator
from imagecot.contracts.paths import Paths, states
from imagecot.errors import ImagecotError


def record(generator: Generator, prompt: str, seeds: Tensor) -> "Recorded":
    """Draw the paths of seeds (B,) to their end and keep every state."""
    start = generator.start([prompt], seeds)
    return Recorded(generator, [start, *states(generator, start)])


@dataclass(frozen=True)
class Recorded:
    """Stands for `generator` where paths of recorded seeds advance; their previews are decoded when asked for."""

    generator: Generator
    states: list[Paths]

    @property
    def steps(self) -> int:
        """Steps of a path."""
        return self.generator.steps

    @property
    def rows_per_path(self) -> int:
        """What one step of one path cost when it was drawn."""
        return self.generator.rows_per_path

    def check_prompt(self, prompt: str) -> None:
        """As of the generator."""
        self.generator.check_prompt(prompt)

    def start(self, prompts: list[str], seeds: Tensor, *, history: Sequence[Correction] | None = None) -> Paths:
        """Paths at step 0; any seeds, for they are known by their seeds from there on. Corrections are drawn anew."""
        if history is not None:
            return self.generator.start(prompts, seeds, history=history)
        return self.states[0].select([0] * len(seeds), seeds=seeds)

    def advance(self, paths: Paths) -> Paths:
        """Look up the next state of each path; ImagecotError for a path that was not recorded."""
        if paths.context is not self.states[0].context:
            return self.generator.advance(paths)
        after = self.states[paths.step + 1]
        match = paths.seeds[:, None] == after.seeds[None]
        if not bool(match.any(1).all()):
            raise ImagecotError("a path was asked for that was not recorded; this search cannot be replayed.")
        rows = match.int().argmax(1)
        return replace(after.select(rows), context=paths.context)

    def preview(self, paths: Paths) -> Tensor:
        """The images (B, 3, H, W) in [0, 1] that the paths predict."""
        match = paths.seeds[:, None] == self.states[-1].seeds[None]
        known = paths.context is self.states[0].context and bool(match.any(1).all())
        if not paths.finished or not known:
            return self.generator.preview(paths)
        return self.images[match.int().argmax(1).to(self.images.device)]

    @cached_property
    def images(self) -> Tensor:
        """The final images (B, 3, H, W) of all recorded paths, decoded once."""
        with torch.no_grad():
            return self.generator.preview(self.states[-1])
