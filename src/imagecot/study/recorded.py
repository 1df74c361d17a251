"""A generator that replays paths which were drawn before, so that searches over them are paired and draw nothing.

Kept of a path is what it showed (`generators/shown.py`), its codes at every step; its caches are not. Whatever else a
search does with these paths (forks, corrections, going back) is drawn by the generator itself, which enters the path
again from its codes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from imagecot import guard
from imagecot.contracts.generator import (
    Adjustable,
    Canvas,
    Corrector,
    Doubting,
    Encoder,
    Filling,
    Generator,
    Predictor,
    Remasker,
)
from imagecot.contracts.paths import Paths
from imagecot.contracts.prompts import Reader
from imagecot.contracts.values import JSON
from imagecot.generators.shown import kept, shown


def record(generator: Generator, prompt: str, seeds: Tensor) -> "Recorded":
    """Draw the paths of seeds (B,) of a prompt to their end and keep what they showed at every step."""
    start = guard.start(generator, [prompt], seeds)
    states = [replace(start, shared=None, own=None)]
    paths = start
    while not paths.finished:
        paths = guard.advance(generator, paths)
        states.append(replace(paths, shared=None, own=kept(generator, paths)))
    return Recorded(generator, prompt, states)


@dataclass(eq=False)
class Recorded:
    """Stands for `generator` where it draws a prompt; its recorded paths are looked up by their seeds and codes.

    states  the recorded paths after each step, from step 0 on; `own` are the codes (B, N) by which they are shown then
    known   the row of each recorded path by the seed under which it is asked for; by default by its own
    looked  what recorded paths showed, by step and row, where that is kept for further searches
    drew    whether anything else was asked for, so that the generator had to draw

    Paths that are looked up have the recording itself in `shared`, all others what the generator puts there. What only
    some generators can do, the recording can where its generator can.
    """

    generator: Generator
    prompt: str
    states: list[Paths]
    known: Mapping[int, int] = field(default_factory=dict)
    looked: dict[tuple[int, int], Tensor] | None = None
    drew: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        generator = self.generator
        self._rows = self.known or {seed: row for row, seed in enumerate(self.states[0].seeds.tolist())}
        if isinstance(generator, Predictor):
            self.predicted = self._predicted
        if isinstance(generator, Remasker):
            self.remask = self._remask
        if isinstance(generator, Doubting):
            self.doubting_rows = generator.doubting_rows
            self.confidence = self._confidence
        if isinstance(generator, Corrector):
            self.correct = generator.correct
        if isinstance(generator, Encoder):
            self.encode = generator.encode
        if isinstance(generator, Filling):
            self.fill = generator.fill
        if isinstance(generator, Adjustable):
            self.adjusted = generator.adjusted
        if isinstance(generator, Reader):
            self.check_prompt = generator.check_prompt

    @property
    def steps(self) -> int:
        """Steps of a path."""
        return self.generator.steps

    @property
    def rows_per_path(self) -> int:
        """What one step of one path cost when it was drawn."""
        return self.generator.rows_per_path

    @property
    def paths_per_pass(self) -> int:
        """As of the generator, so that the groups of a search are the same."""
        return self.generator.paths_per_pass

    @property
    def settings(self) -> Mapping[str, JSON]:
        """As of the generator."""
        return self.generator.settings

    @property
    def canvas(self) -> Canvas:
        """As of the generator."""
        return self.generator.canvas

    @property
    def seeds(self) -> list[int]:
        """The seeds of the recorded paths."""
        return list(self._rows)

    def under(self, seeds: Sequence[int], rows: Sequence[int]) -> "Recorded":
        """The same recording, in which the path of each row is asked for under another seed."""
        known = dict(zip(seeds, rows, strict=True))
        return Recorded(self.generator, self.prompt, self.states, known, self.looked)

    def start(self, prompts: list[str], seeds: Tensor) -> Paths:
        """Paths at step 0, of any seeds: they are known by them from there on."""
        if prompts != [self.prompt]:
            self.drew = True
            return self.generator.start(prompts, seeds)
        return self._at(0, [0] * len(seeds), seeds)

    def resume(self, prompts: list[str], seeds: Tensor, codes: Tensor, step: int) -> Paths:
        """Enter recorded paths again, or any others of the generator."""
        rows = self._known(seeds, codes, step) if prompts == [self.prompt] else None
        if rows is None:
            self.drew = True
            return self.generator.resume(prompts, seeds, codes, step)
        return self._at(step, rows, seeds)

    def advance(self, paths: Paths) -> Paths:
        """Look up the next state of recorded paths; all others are drawn."""
        rows = self._known(paths.seeds, paths.codes, paths.step) if paths.shared is self else None
        if rows is None or paths.finished:
            return self.generator.advance(self._drawn(paths))
        return self._at(paths.step + 1, rows, paths.seeds)

    def preview(self, paths: Paths) -> Tensor:
        """The images (B, 3, H, W) in [0, 1] that the paths predict, decoded when asked for."""
        if paths.shared is not self or paths.own is None:
            return self.generator.preview(self._drawn(paths))
        if paths.finished:
            return self.decode(paths.codes)
        rows = self._known(paths.seeds, paths.codes, paths.step)
        if rows is None:
            return shown(self.generator, [self.prompt], paths.seeds, paths.own, paths.step)
        return self._shown(paths.step, rows)

    def decode(self, codes: Tensor) -> Tensor:
        """The images (B, 3, H, W) in [0, 1] of complete codes (B, N); those of the recorded paths are decoded once."""
        rows = [self._finals.get(tuple(row)) for row in codes.tolist()]
        known = [row for row in rows if row is not None]
        return self.images[known] if len(known) == len(rows) else self.generator.decode(codes)

    @cached_property
    def images(self) -> Tensor:
        """The final images (B, 3, H, W) of all recorded paths."""
        return self._shown(self.steps, list(range(len(self.states[0]))))

    @cached_property
    def _finals(self) -> dict[tuple[int, ...], int]:
        return {tuple(codes): row for row, codes in enumerate(self.states[-1].codes.tolist())}

    def _shown(self, step: int, rows: list[int]) -> Tensor:
        """What recorded paths showed after a step, looked up where it is kept."""
        if self.looked is None:
            return self._look(step, rows)
        new = [row for row in dict.fromkeys(rows) if (step, row) not in self.looked]
        if new:
            self.looked.update({(step, row): image for row, image in zip(new, self._look(step, new), strict=True)})
        return torch.stack([self.looked[step, row] for row in rows])

    @torch.no_grad()
    def _look(self, step: int, rows: list[int]) -> Tensor:
        paths = self.states[step].select(rows)
        if paths.finished:
            return self.generator.decode(paths.codes)
        return shown(self.generator, [self.prompt], paths.seeds, paths.own, step)

    def _known(self, seeds: Tensor, codes: Tensor, step: int) -> list[int] | None:
        """The rows of recorded paths; None where one of these is not recorded."""
        rows = [self._rows.get(seed, -1) for seed in seeds.tolist()]
        recorded = self.states[step].codes
        return rows if -1 not in rows and torch.equal(recorded[rows], codes.to(recorded)) else None

    def _at(self, step: int, rows: list[int], seeds: Tensor) -> Paths:
        return replace(self.states[step].select(rows, seeds), shared=self)

    def _drawn(self, paths: Paths) -> Paths:
        """The same paths as the generator's own."""
        self.drew = True
        if paths.shared is not self:
            return paths
        if paths.step == 0:
            return self.generator.start([self.prompt], paths.seeds)
        return self.generator.resume([self.prompt], paths.seeds, paths.codes, paths.step)

    def _predicted(self, paths: Paths) -> Tensor:
        if paths.shared is self and paths.own is not None:
            predicted: Tensor = paths.own
            return predicted
        assert isinstance(self.generator, Predictor)
        return self.generator.predicted(self._drawn(paths))

    def _confidence(self, paths: Paths) -> Tensor:
        assert isinstance(self.generator, Doubting)
        return self.generator.confidence(self._drawn(paths))

    def _remask(self, paths: Paths, undecided: Tensor) -> Paths:
        assert isinstance(self.generator, Remasker)
        return self.generator.remask(self._drawn(paths), undecided)
