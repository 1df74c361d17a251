"""The steps of generators in raster order, taken apart for `imagecot benchmark`."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from imagecot.contracts.paths import Paths
from imagecot.contracts.randomness import Stream, path_seeds, uniforms
from imagecot.contracts.scorer import Scorer
from imagecot.generators.bench import Piece, as_it_was, products
from imagecot.generators.raster.cache import Buffer
from imagecot.generators.raster.drawing import Started
from imagecot.generators.raster.generator import Raster
from imagecot.generators.raster.plain import plain_decode
from imagecot.generators.raster.sampling import draw


@dataclass(frozen=True, eq=False)
class RasterBench:
    """What `imagecot.generators.bench.Bench` asks for.

    raster    what draws
    model     all its weights, of which `scorer` trains some
    reading   the modules that every code passes when it is read, and `head` the one that gives logits
    attended  numbers of queries of all heads of all layers
    """

    raster: Raster
    scorer: Scorer
    model: nn.Module
    reading: nn.Module
    head: nn.Module
    attended: int

    @property
    def weights(self) -> nn.Module:
        """Layers and head."""
        return nn.ModuleList([self.reading, self.head])

    @property
    def _columns(self) -> int:
        return self.raster.canvas.grid[1]

    def halfway(self, batch: int, prompt: str) -> Paths:
        """Return paths of which half of the rows are drawn, with random codes."""
        return self._after(self.raster.canvas.grid[0] // 2, batch, prompt)

    def longer(self, prompt: str) -> Sequence[Paths]:
        """Return single paths before their first, their middle and their last row."""
        rows = self.raster.canvas.grid[0]
        return [self._after(step, 1, prompt) for step in sorted({0, rows // 2, rows - 1})]

    def _after(self, step: int, batch: int, prompt: str) -> Paths:
        canvas = self.raster.canvas
        codes = torch.randint(canvas.codes, (batch, canvas.positions), generator=torch.Generator().manual_seed(0))
        return self.raster.resume([prompt] * batch, path_seeds(0, batch), codes, step)

    def tokens(self, paths: Paths) -> tuple[int, int]:
        """Return the codes at the end of the next row, and the length of what stands for the prompt."""
        return (paths.step + 1) * self._columns, _prefix_lengths(paths)[0]

    def flop(self, paths: Paths) -> float:
        """Return the operations of the next row: of reading the code before each of its codes, and of their logits."""
        return self._read_flop(paths) + self._head_flop(paths)

    def _read_flop(self, paths: Paths) -> float:
        first, weights = paths.step * self._columns, products(self.reading)
        total = 0.0
        for position in range(max(1, first), first + self._columns):
            for length in self._lengths_at(position, paths):
                total += 2 * weights + 4 * self.attended * (length + position)
        return len(paths) * total

    def _head_flop(self, paths: Paths) -> float:
        first = paths.step * self._columns
        rows = sum(len(self._lengths_at(k, paths)) for k in range(first, first + self._columns))
        return 2.0 * len(paths) * rows * products(self.head)

    def _lengths_at(self, position: int, paths: Paths) -> list[int]:
        """The lengths of the prefixes that a code is drawn by: with guidance two."""
        guides = paths.shared.sampling.guides(position)
        return _prefix_lengths(paths)[: 2 if guides else 1]

    @torch.no_grad()
    def pieces(self, paths: Paths, prompt: str) -> Mapping[str, Piece]:
        """Return reading the prompt, and the layers, head and sampling of a whole row."""
        transformer, started, columns = self.raster.transformer, paths.shared, self._columns
        branches = 2 if started.sampling.guides(paths.step * columns) else 1
        before = paths.codes[:, max(0, paths.step * columns - 1), None].clamp(min=0).repeat(branches, 1)
        first = max(0, paths.step * columns - 1)
        reads = columns if paths.step else max(1, columns - 1)  # the first code follows the prompt

        def read() -> Tensor:
            buffer = Buffer(transformer, started.prefixes, paths.prompt_index, paths.own, branches, columns)
            for column in range(reads):
                states = transformer.read(before, first + column, buffer.attend)[:, -1]
                buffer.grow(1)
            return states

        states = read()
        logits = transformer.head(states).float()[: len(paths)]
        uniform = uniforms(paths.seeds, paths.step, Stream.CODES, columns)
        return {
            "prefix": Piece(lambda: transformer.prefixes([prompt], guided=branches == 2)),
            "trunk": Piece(read, self._read_flop(paths)),
            "head": Piece(lambda: [transformer.head(states).float() for _ in range(columns)], self._head_flop(paths)),
            "sampling": Piece(lambda: [draw(logits, uniform[:, k], started.sampling) for k in range(columns)]),
        }

    def plain(self, prompt: str, seed: int) -> Tensor:
        """Return the codes (N,) of a path, everything read anew for every code."""
        raster = self.raster
        return plain_decode(raster.transformer, raster.sampling, raster.canvas.grid, prompt, seed)

    @contextmanager
    def training(self) -> Iterator[nn.Module]:
        """Give the module that is trained; what requires gradients is afterwards what it was before."""
        with as_it_was(self.model):
            yield self.scorer.trainable()

    def scored(self, prompt: str, codes: Tensor, seeds: Tensor) -> tuple[Piece, float]:
        """Return nothing to do before the model, and the operations of reading prompt and codes in one pass."""
        start = self.raster.start([prompt], seeds[:1])
        length = _prefix_lengths(start)[0]
        read = length + codes.shape[1] - 1
        layers = 2 * read * products(self.reading) + 4 * self.attended * read * read
        return Piece(lambda: None), float(len(codes) * (layers + 2 * codes.shape[1] * products(self.head)))


def _prefix_lengths(paths: Paths) -> list[int]:
    """The lengths of the prefix of the first prompt, and of what guidance goes against."""
    started: Started = paths.shared
    return [prefix.keys.shape[2] for prefix in started.prefixes[0]]
