"""Janus (Wu et al., 2024) and Janus-Pro (Chen et al., 2025) as generators of paths, a row of codes a step.

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
from imagecot.generators.bench import Bench
from imagecot.generators.janus import weights
from imagecot.generators.janus.config import JanusParts
from imagecot.generators.janus.lean import AnyJanus
from imagecot.generators.janus.pictures import JanusPictures
from imagecot.generators.janus.prompting import JanusPrompting
from imagecot.generators.janus.transformer import JanusTransformer
from imagecot.generators.raster.generator import Raster, check_adjusted
from imagecot.generators.raster.sampling import Sampling
from imagecot.generators.settings import check_budget
from imagecot.prompts import check_prompts

_OF_WEIGHTS = frozenset(("model", "prompting", "folder"))  # fields that `adjusted` does not change


@dataclass(frozen=True, eq=False)
class JanusGenerator:
    """Janus as a generator of paths.

    guidance_scale g: guided = unconditional + g * (conditional - unconditional); 1 computes no unconditional rows.
    temperature, top_k and top_p are those of `raster.sampling.Sampling`; as released, codes are drawn from all.
    fill is how previews of unfinished paths are completed: blank, repeat or draft (`raster.fills`).
    memory_budget bounds, in bytes, what the paths of one forward pass take; larger batches are split. By default half
    of what is free.
    precision is the name of the number format that the transformer was loaded in, for the record.
    folder is where the weights were loaded from, whose processor a checkpoint of other weights takes along.
    """

    model: AnyJanus
    prompting: JanusPrompting
    guidance_scale: float = 5.0
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    fill: str = "blank"
    memory_budget: int | None = None
    precision: str = "float32"
    folder: Path | None = None

    def __post_init__(self) -> None:
        check_budget(self.memory_budget)
        _ = self._raster  # its parts check the other settings

    @property
    def _raster(self) -> Raster:
        """What draws, under the settings of now."""
        pictures = JanusPictures(self.model.model.vqmodel)
        return Raster(
            transformer=JanusTransformer(self.model, self.prompting),
            pictures=pictures,
            canvas=Canvas(pictures.grid, JanusParts.of(self.model.config).vq.num_embeddings, pictures.size),
            sampling=Sampling(self.guidance_scale, self.temperature, self.top_k, self.top_p),
            fill=self.fill,
            memory_budget=self.memory_budget,
        )

    @property
    def settings(self) -> Mapping[str, JSON]:
        """Everything but steps and weights that changes what is drawn or shown."""
        names = ("guidance_scale", "temperature", "top_k", "top_p", "fill", "precision")
        return {name: vars(self)[name] for name in names}

    def adjusted(self, **settings: JSON) -> Self:
        """The same weights under other settings; UsageError for one that there is not, or that cannot be."""
        known = [field.name for field in fields(self) if field.name not in _OF_WEIGHTS]
        check_adjusted("Janus", settings, known, self.steps)
        # The checks of every field are those of the class, whatever JSON holds.
        return replace(self, **settings)  # type: ignore[arg-type]

    @property
    def canvas(self) -> Canvas:
        """The square of image codes."""
        return self._raster.canvas

    @property
    def steps(self) -> int:
        """Rows of codes."""
        return self.canvas.grid[0]

    @property
    def rows_per_path(self) -> int:
        """Rows of the forward passes that one step of one path costs."""
        return self._raster.rows_per_path

    @property
    def paths_per_pass(self) -> int:
        """Paths that advance together within the memory budget."""
        return self._raster.paths_per_pass

    def check_prompt(self, prompt: str) -> None:
        """Raise UsageError for a prompt that is too long, or that spells a special token."""
        self.prompting.check(prompt)

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
        """The model, of which what draws requires gradients; what sees and writes, and the image tokenizer, stay."""
        return weights.trainable(self.model)

    @property
    def adapted_layers(self) -> str:
        """The linear layers of the language model, by a regular expression of their names."""
        return weights.ADAPTED_LAYERS

    def copy(self, dtype: torch.dtype) -> Self:
        """A generator of the same settings with its own copy of the weights in another number format."""
        model = weights.copied(self.model, dtype)
        return replace(self, model=model, precision=str(dtype).removeprefix("torch."))

    def save(self, folder: Path) -> None:
        """Write a checkpoint folder with the weights of now in half precision, which also judges as this one does."""
        decoding = {name: vars(self)[name] for name in ("guidance_scale", "temperature", "top_k", "top_p", "fill")}
        weights.save(self.model, self.prompting, decoding, folder, self.folder)

    def bench(self) -> Bench:
        """Return the steps of this generator, taken apart for a benchmark."""
        from imagecot.generators.janus.bench import bench

        return bench(self, self._raster)
