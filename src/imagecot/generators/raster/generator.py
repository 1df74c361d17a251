"""All that generators in raster order do alike: a family's generator is a `Raster` under its own name and settings."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from imagecot.contracts.correction import Asked
from imagecot.contracts.generator import Canvas
from imagecot.contracts.paths import Paths
from imagecot.contracts.scorer import Terms
from imagecot.errors import UsageError
from imagecot.generators.raster import drawing, fills, likelihood, scoring
from imagecot.generators.raster.sampling import Sampling, check_fill
from imagecot.generators.raster.transformer import CodeTransformer, Pictures
from imagecot.generators.settings import check_known
from imagecot.memory import available_bytes, in_parts

_CPU_BUDGET = 2**29  # of decoding: there larger batches are no faster on a CPU
_LOGITS = 8  # tensors of the size of logits that drawing a code takes


def check_adjusted(family: str, asked: Collection[str], known: Sequence[str], steps: int) -> None:
    """Raise UsageError for what is no setting of a family whose paths have so many steps."""
    if "steps" in asked:
        raise UsageError(f"{family} draws a row of codes a step, {steps} in all; leave out steps.")
    check_known(family, asked, known)


@dataclass(frozen=True)
class Raster:
    """A transformer over codes and an image tokenizer that draw together.

    sampling       how codes are drawn; its guidance is that of paths started from now on
    fill           how previews of unfinished paths are completed, one of `sampling.FILLS`
    memory_budget  bytes that the paths of one forward pass may take, what they keep included; None for half of what is
                   free

    Its methods are those of `Generator`, `Encoder` and `Scorer`. Prompts have been checked before.
    """

    transformer: CodeTransformer
    pictures: Pictures
    canvas: Canvas
    sampling: Sampling
    fill: str = "blank"
    memory_budget: int | None = None

    def __post_init__(self) -> None:
        check_fill(self.fill)

    @property
    def rows_per_path(self) -> int:
        """Rows of the forward pass that one code of one path costs."""
        return 2 if self.sampling.guides(0) else 1

    @property
    def paths_per_pass(self) -> int:
        """Paths that advance together within the memory budget: what they keep, and once more the buffer of a step."""
        layers, heads, size = self.transformer.cache_shape
        length = self.transformer.prefix_length + self.canvas.positions
        kept = layers * 2 * heads * size * length * self.transformer.cache_dtype.itemsize
        logits = _LOGITS * self.canvas.codes * torch.float32.itemsize
        return max(1, self._budget // (self.rows_per_path * (2 * kept + logits)))

    @property
    def _budget(self) -> int:
        return self.memory_budget or available_bytes(self.transformer.device) // 2

    def start(self, prompts: Sequence[str], seeds: Tensor) -> Paths:
        """Return paths at step 0: one for each of seeds (B,), of the one prompt or of B prompts."""
        return drawing.start(self.transformer, self.sampling, self.canvas.grid, prompts, seeds)

    def resume(self, prompts: Sequence[str], seeds: Tensor, codes: Tensor, step: int) -> Paths:
        """Enter paths again that had codes (B, N) after `step` rows; all but these rows is taken as not drawn."""
        return drawing.resume(self.start(prompts, seeds), codes, step)

    def advance(self, paths: Paths) -> Paths:
        """Return all paths one row further, under the guidance that they were started with."""
        return drawing.advance(self.transformer, self.sampling, paths, self.paths_per_pass)

    def preview(self, paths: Paths) -> Tensor:
        """Return images (B, 3, H, W) in [0, 1] of the rows that are drawn, the others filled."""
        if paths.finished:
            return self.decode(paths.codes)
        if self.fill == "draft":
            return self.decode(self.drafted(paths))
        height, width = self.canvas.image
        if paths.step == 0:
            return torch.full((len(paths), 3, height, width), 0.5, device=self.transformer.device)
        images = self.decode(fills.repeated(paths))
        return images if self.fill == "repeat" else fills.blanked(images, height * paths.step // paths.steps)

    def drafted(self, paths: Paths) -> Tensor:
        """Return complete codes (B, N): the rest by the most probable codes, without guidance."""
        draft = replace(self, sampling=fills.GREEDY)
        paths = fills.unguided(paths)
        while not paths.finished:
            paths = draft.advance(paths)
        return paths.codes

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Return images (B, 3, H, W) in [0, 1] of complete codes (B, N)."""
        device = self.transformer.device
        codes = codes.to(device, torch.int64)
        budget = self._budget if device.type == "cuda" else min(self._budget, _CPU_BUDGET)
        at_once = max(1, budget // self.pictures.bytes_per_image)
        parts = in_parts(lambda part: self.pictures.decode(codes[part]), len(codes), at_once)
        return torch.cat(parts) if parts else torch.zeros(0, 3, *self.canvas.image, device=device)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Return codes (B, N) int64 of images (B, 3, H, W) in [0, 1] of the canvas' size."""
        return self.pictures.encode(images.to(self.transformer.device)).long()

    def log_likelihood(self, asked: Sequence[Asked], codes: Tensor) -> Tensor:
        """Return log p(image | asked) (B,) in nats of complete codes (B, N): exact, without guidance."""
        codes = codes.to(self.transformer.device)
        scores = scoring.log_probs(self.transformer, scoring.texts(asked), codes, Sampling())
        return likelihood.log_likelihood(scores)

    def step_terms(self, states: Sequence[Paths], draws: int) -> Terms:
        """Return the terms of paths by their states from step 0 to the end, under the guidance they were drawn with."""
        return scoring.step_terms(self.transformer, states, draws)
