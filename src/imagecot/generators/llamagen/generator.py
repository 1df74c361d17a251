"""LlamaGen (Sun et al., 2024) as a generator of paths, a row of codes a step.

Everything but prompts, transformer, image tokenizer and files is done by `generators.raster`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from imagecot.contracts.correction import Asked
from imagecot.contracts.generator import Canvas
from imagecot.contracts.paths import Paths
from imagecot.contracts.scorer import Draws, Terms
from imagecot.contracts.values import JSON
from imagecot.errors import UsageError
from imagecot.generators.bench import Bench
from imagecot.generators.llamagen import saving
from imagecot.generators.llamagen.model import LlamaGen
from imagecot.generators.llamagen.pictures import VQ16Pictures
from imagecot.generators.llamagen.text import TextEncoder
from imagecot.generators.llamagen.transformer import LlamaGenTransformer
from imagecot.generators.llamagen.vq16 import VQ16
from imagecot.generators.raster.generator import Raster, check_adjusted
from imagecot.generators.raster.sampling import Sampling
from imagecot.generators.settings import check_budget
from imagecot.prompts import check_prompts

# Fields that `adjusted` does not change.
_OF_WEIGHTS = frozenset(("model", "image_tokenizer", "text_encoder", "folder"))
_DECODING = ("guidance_scale", "temperature", "top_k", "top_p", "cfg_interval", "fill")


@dataclass(frozen=True, eq=False)
class LlamaGenGenerator:
    """LlamaGen as a generator of paths.

    guidance_scale g: guided = unconditional + g * (conditional - unconditional); 1 computes no unconditional rows.
    temperature, top_k and top_p are those of `raster.sampling.Sampling`.
    cfg_interval k draws the first k + 2 codes of an image with guidance and the others without, as the reference
    counts; -1 is guidance for all.
    fill is how previews of unfinished paths are completed: blank, repeat or draft (`raster.fills`).
    memory_budget bounds, in bytes, what the paths of one forward pass take; larger batches are split. By default half
    of what is free.
    precision is the name of the number format that the transformer was loaded in, for the record.
    folder is where the weights were loaded from, whose own parts a checkpoint of other weights takes along.
    """

    model: LlamaGen
    image_tokenizer: VQ16
    text_encoder: TextEncoder
    guidance_scale: float = 7.5
    temperature: float = 1.0
    top_k: int = 1000
    top_p: float = 1.0
    cfg_interval: int = -1
    fill: str = "blank"
    memory_budget: int | None = None
    precision: str = "float32"
    folder: Path | None = None

    def __post_init__(self) -> None:
        check_budget(self.memory_budget)
        if type(self.cfg_interval) is not int or self.cfg_interval < -1:
            raise UsageError(f"cfg_interval must be a whole number, at least -1, not {self.cfg_interval!r}.")
        _ = self._raster  # its parts check the other settings

    @property
    def _raster(self) -> Raster:
        """What draws, under the settings of now."""
        pictures = VQ16Pictures(self.image_tokenizer, self.model.config.grid_size)
        guided_codes = None if self.cfg_interval < 0 else self.cfg_interval + 2
        return Raster(
            transformer=LlamaGenTransformer(self.model, self.text_encoder),
            pictures=pictures,
            canvas=Canvas((pictures.grid,) * 2, self.model.config.vocab_size, (pictures.side,) * 2),
            sampling=Sampling(self.guidance_scale, self.temperature, self.top_k, self.top_p, guided_codes),
            fill=self.fill,
            memory_budget=self.memory_budget,
        )

    @property
    def settings(self) -> Mapping[str, JSON]:
        """Everything but steps and weights that changes what is drawn or shown."""
        return {name: vars(self)[name] for name in (*_DECODING, "precision")}

    def adjusted(self, **settings: JSON) -> Self:
        """The same weights under other settings; UsageError for one that there is not, or that cannot be."""
        known = [field.name for field in fields(self) if field.name not in _OF_WEIGHTS]
        check_adjusted("LlamaGen", settings, known, self.steps)
        # The checks of every field are those of the class, whatever JSON holds.
        return replace(self, **settings)  # type: ignore[arg-type]

    @property
    def canvas(self) -> Canvas:
        """The square of image codes."""
        return self._raster.canvas

    @property
    def steps(self) -> int:
        """Rows of codes."""
        return self.model.config.grid_size

    @property
    def rows_per_path(self) -> int:
        """Rows of the forward passes that one step of one path costs."""
        return self._raster.rows_per_path

    @property
    def paths_per_pass(self) -> int:
        """Paths that advance together within the memory budget."""
        return self._raster.paths_per_pass

    def check_prompt(self, prompt: str) -> None:
        """Raise UsageError for a prompt that is too long, or of which cleaning leaves nothing."""
        self.text_encoder.check(prompt)

    def start(self, prompts: list[str], seeds: Tensor) -> Paths:
        """Return paths at step 0: one for each of seeds (B,), of the one prompt or of B prompts; UsageError as said."""
        check_prompts(prompts, self)
        return self._raster.start(prompts, seeds)

    def resume(self, prompts: list[str], seeds: Tensor, codes: Tensor, step: int) -> Paths:
        """Enter paths again that had codes (B, N) after `step` rows."""
        check_prompts(prompts, self)
        return self._raster.resume(prompts, seeds, codes, step)

    def advance(self, paths: Paths) -> Paths:
        """Return all paths one row further, under the guidance that they were started with."""
        return self._raster.advance(paths)

    def preview(self, paths: Paths) -> Tensor:
        """Return images (B, 3, H, W) in [0, 1] of what is drawn, completed as `fill` says."""
        return self._raster.preview(paths)

    def decode(self, codes: Tensor) -> Tensor:
        """Return the images (B, 3, H, W) in [0, 1] of complete codes (B, N)."""
        return self._raster.decode(codes)

    def encode(self, images: Tensor) -> Tensor:
        """Return codes (B, N) int64 of images (B, 3, H, W) in [0, 1] of the canvas' size."""
        return self._raster.encode(images)

    def log_likelihood(self, asked: Sequence[Asked], codes: Tensor, draws: Draws) -> Tensor:
        """Return log p(image | asked) (B,) in nats of complete codes (B, N): exact, without guidance."""
        return self._raster.log_likelihood(asked, codes)

    def step_terms(self, states: Sequence[Paths], draws: int) -> Terms:
        """Return the terms of paths by their states from step 0 to the end, under the guidance they were drawn with."""
        return self._raster.step_terms(states, draws)

    def trainable(self) -> nn.Module:
        """The transformer, all of whose weights require gradients; text encoder and image tokenizer stay."""
        return self.model.requires_grad_(True)

    @property
    def adapted_layers(self) -> str:
        """The linear layers of the transformer's blocks, by a regular expression of their names."""
        return saving.ADAPTED_LAYERS

    def copy(self, dtype: torch.dtype) -> Self:
        """A generator of the same settings with its own copy of the weights in another number format."""
        return replace(self, model=saving.copied(self.model, dtype), precision=str(dtype).removeprefix("torch."))

    def save(self, folder: Path) -> None:
        """Write a checkpoint folder with the weights of now in half precision."""
        decoding = {name: vars(self)[name] for name in _DECODING}
        saving.save(self.model, self.image_tokenizer, self.text_encoder, decoding, folder, self.folder)

    def bench(self) -> Bench:
        """Return the steps of this generator, taken apart for a benchmark."""
        from imagecot.generators.llamagen.bench import bench

        return bench(self, self._raster)
