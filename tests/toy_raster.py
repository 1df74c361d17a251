"""A generator of another kind than those of the package: raster order, a grid that is no square, a cache in each path.

A code depends on the prompt and on the mean of the codes before. Named `toy_raster:ToyRaster`, it starts from random
weights, or from those in START where a test has set it.
"""

import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imagecot.contracts import Asked, Canvas, Draws, Paths, Terms, uniforms
from imagecot.contracts.paths import UNDECIDED
from imagecot.generators.raster import likelihood

START: Path | None = None
USER = 16  # the stream of its uniforms


class ToyRaster:
    canvas = Canvas(grid=(3, 2), codes=8, image=(6, 4))
    steps, rows_per_path, paths_per_pass = 3, 1, 1000
    settings = {"bias": 0.0}  # noqa: RUF012
    adapted_layers = "head"

    def __init__(self, dtype: torch.dtype | None = None) -> None:
        torch.manual_seed(0)
        self.model = nn.ModuleDict(
            {"codes": nn.Embedding(8, 16), "prompts": nn.Embedding(32, 16), "head": nn.Linear(16, 8)}
        )
        if START:
            self.model.load_state_dict(torch.load(START / "weights.pt", weights_only=True))
        self.model.to(dtype)

    def _prompts(self, asked: Sequence[Asked]) -> Tensor:
        texts = [one if isinstance(one, str) else one[0] for one in asked]
        return self.model["prompts"](torch.tensor([zlib.crc32(text.encode()) % 32 for text in texts]))

    def start(self, prompts: list[str], seeds: Tensor) -> Paths:
        texts = prompts * (len(seeds) // len(prompts))
        codes, cache = torch.full((len(seeds), 6), UNDECIDED), self.model["codes"].weight.new_zeros(len(seeds), 0, 16)
        return Paths(codes, seeds, torch.arange(len(seeds)), 0, self.steps, shared=texts, own=cache)

    def resume(self, prompts: list[str], seeds: Tensor, codes: Tensor, step: int) -> Paths:
        cache = self.model["codes"](codes[:, : 2 * step])
        return replace(self.start(prompts, seeds), codes=codes, step=step, own=cache)

    @torch.no_grad()
    def advance(self, paths: Paths) -> Paths:
        asked, codes, cache = [paths.shared[k] for k in paths.prompt_index.tolist()], paths.codes.clone(), paths.own
        uniform = uniforms(paths.seeds, paths.step, USER, 2)
        for column in range(2):
            before = cache.sum(1) / max(1, cache.shape[1])
            sums = self.model["head"](self._prompts(asked) + before).float().softmax(1).cumsum(1)
            drawn = torch.searchsorted(sums, uniform[:, column, None].contiguous()).clamp(max=7)
            codes[:, 2 * paths.step + column] = drawn[:, 0]
            cache = torch.cat([cache, self.model["codes"](drawn)], 1)
        return replace(paths, codes=codes, own=cache, step=paths.step + 1)

    def preview(self, paths: Paths) -> Tensor:
        return self.decode(paths.codes.clamp(min=0))

    def decode(self, codes: Tensor) -> Tensor:
        grey = (codes / 7).view(-1, 1, 3, 2).expand(-1, 3, -1, -1)
        return F.interpolate(grey, size=self.canvas.image)

    def encode(self, images: Tensor) -> Tensor:
        return (F.avg_pool2d(images.mean(1, keepdim=True), 2).flatten(1) * 7).round().long()

    def log_probs(self, asked: Sequence[Asked], codes: Tensor) -> Tensor:
        """Log p(code | asked, codes before) (B, N) of complete codes (B, N)."""
        before = F.pad(self.model["codes"](codes).cumsum(1)[:, :-1], (0, 0, 1, 0))
        mean = before / torch.arange(6).clamp(min=1)[:, None]
        logits = self.model["head"](self._prompts(asked)[:, None] + mean)
        return logits.float().log_softmax(-1).gather(2, codes[..., None])[..., 0]

    def log_likelihood(self, asked: Sequence[Asked], codes: Tensor, draws: Draws) -> Tensor:
        return likelihood.log_likelihood(self.log_probs(asked, codes))

    def step_terms(self, states: Sequence[Paths], draws: int) -> Terms:
        last = states[-1]
        asked = [last.shared[k] for k in last.prompt_index.tolist()]
        return likelihood.step_terms(self.log_probs(asked, last.codes), last.seeds, self.canvas.grid, draws)

    def trainable(self) -> nn.Module:
        return self.model

    def copy(self, dtype: torch.dtype) -> "ToyRaster":
        other = ToyRaster(dtype)
        other.model.load_state_dict(self.model.state_dict())
        return other

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(self.model.state_dict(), folder / "weights.pt")


class Blind(ToyRaster):
    """The same without an encoder."""

    encode = None
