"""aMUSEd (Patil et al., 2024) as a generator of paths: diffusers' U-ViT and VQ-GAN under the steps of this package.

The arithmetic is that of diffusers' `AmusedPipeline` and `AmusedScheduler`; the random numbers belong to the paths.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn

from imagecot.contracts.correction import Asked
from imagecot.contracts.generator import Canvas
from imagecot.contracts.paths import UNDECIDED, Paths
from imagecot.contracts.scorer import Draws, Terms
from imagecot.contracts.values import JSON
from imagecot.errors import UsageError
from imagecot.generators.amused import scoring
from imagecot.generators.amused.config import UVitConfig, VqConfig
from imagecot.generators.amused.text import TextEncoder, Texts
from imagecot.generators.beginning import numbered
from imagecot.generators.masked.decoding import (
    advanced,
    begun,
    confidence,
    entered,
    of_distinct,
    predicted,
    remasked,
)
from imagecot.generators.masked.schedules import get_schedule
from imagecot.generators.settings import check_budget, check_known
from imagecot.memory import half_of_free, in_parts
from imagecot.prompts import check_prompts

if TYPE_CHECKING:
    from diffusers.models.autoencoders.vq_model import VQModel
    from diffusers.models.unets.uvit_2d import UVit2DModel

MOST_STEPS = 10_000
MOST = 1_000.0  # of guidance and temperature
MOST_AESTHETIC = 10.0
_CPU_BUDGET = 2**29
_ADJUSTABLE = (
    *("steps", "guidance_scale", "temperature", "schedule", "negative_prompt", "aesthetic_score", "memory_budget"),
    "precision",
)


@dataclass(frozen=True)
class Started:
    """What a batch of paths starts from.

    asked            the distinct prompts
    texts            what the model reads of them
    against          what it reads of the negative prompt (1, ...); None without guidance
    conditions       (5,) width and height of the image, its crop, and the aesthetic score
    guidance_scale   of the paths
    """

    asked: list[str]
    texts: Texts
    against: Texts | None
    conditions: Tensor
    guidance_scale: float


@dataclass(eq=False)
class AmusedGenerator:
    """aMUSEd as a generator of paths.

    guidance_scale g: guided = unconditional + g * (conditional - unconditional); 1 computes no unconditional rows.
    temperature is what the noise on the confidences falls from, linearly, to 0 in the last step.
    schedule is that of the masks, negative_prompt what guidance goes against. aesthetic_score (0 to 10) is what the
    model is told beside the size of the image, which was never cropped.
    memory_budget bounds, in bytes, the activations of one forward pass; larger batches are split. By default half of
    what is free on a GPU, on a CPU at most half a gigabyte.
    precision is the name of the number format that the transformer was loaded in, for the record.
    sizes and image_sizes are of the two models. mask_id is the id of a masked position. folder is where the parts lie,
    which a checkpoint of other weights takes along.

    Paths keep in `own` the codes (B, N) that the last step predicted, None before the first one.
    """

    model: "UVit2DModel"
    image_tokenizer: "VQModel"
    text: TextEncoder
    sizes: UVitConfig
    image_sizes: VqConfig
    mask_id: int
    folder: Path
    steps: int = 12
    guidance_scale: float = 10.0
    temperature: float = 2.0
    schedule: str = "cosine"
    negative_prompt: str = ""
    aesthetic_score: float = 6.0
    memory_budget: int | None = None
    precision: str = "float32"

    def __post_init__(self) -> None:
        self._check_settings()

    def _check_settings(self) -> None:
        """Raise UsageError for settings that nothing can be drawn with."""
        if type(self.steps) is not int or not 1 <= self.steps <= MOST_STEPS:
            raise UsageError(f"an image takes at least 1 step and at most {MOST_STEPS:,}, not {self.steps!r}.")
        bounds = {"guidance_scale": (1, MOST), "temperature": (0, MOST), "aesthetic_score": (0, MOST_AESTHETIC)}
        for name, (least, most) in bounds.items():
            value = vars(self)[name]
            if type(value) not in (int, float) or not least <= value <= most:
                raise UsageError(f"{name} must be a number from {least} to {most:g}, not {value!r}.")
        if not isinstance(self.negative_prompt, str):
            raise UsageError(f"negative_prompt must be text, not {self.negative_prompt!r}.")
        check_budget(self.memory_budget)
        get_schedule(self.schedule)
        if self.negative_prompt:
            self.text.check_prompt(self.negative_prompt)

    @property
    def settings(self) -> Mapping[str, JSON]:
        """Everything but steps and weights that changes what is drawn."""
        return {
            "guidance_scale": self.guidance_scale,
            "temperature": self.temperature,
            "schedule": self.schedule,
            "negative_prompt": self.negative_prompt,
            "aesthetic_score": self.aesthetic_score,
            "precision": self.precision,
        }

    @property
    def canvas(self) -> Canvas:
        """The square of image codes."""
        side = self.sizes.sample_size
        size = side * self.image_sizes.pixels
        return Canvas((side, side), self.sizes.codebook_size, (size, size))

    def adjusted(self, **settings: JSON) -> Self:
        """The same weights under other settings; UsageError for one that there is not, or that cannot be."""
        check_known("aMUSEd", settings, _ADJUSTABLE)
        other = copy(self)
        vars(other).update(settings)
        other._check_settings()
        return other

    @property
    def rows_per_path(self) -> int:
        """Rows of the forward pass that one step of one path costs."""
        return 2 if self.guidance_scale > 1 else 1

    @property
    def paths_per_pass(self) -> int:
        """Paths that one forward pass takes within the memory budget."""
        config, positions = self.sizes, self.canvas.positions
        inner = positions // 4 if config.downsample else positions
        trunk = positions * 12 * config.block_out_channels + inner * (10 * config.hidden_size)
        trunk += inner * 3 * config.intermediate_size
        head = positions * config.codebook_size * torch.float32.itemsize
        return self._fitting(self.rows_per_path * (trunk * self.model.dtype.itemsize + head) + 3 * head)

    def _fitting(self, size: int) -> int:
        """How many things of `size` bytes fit into the budget; at least one."""
        if self.memory_budget is None:
            self.memory_budget = half_of_free(self.model.device, _CPU_BUDGET)
        return max(1, self.memory_budget // size)

    def check_prompt(self, prompt: str) -> None:
        """Raise UsageError where the end of the prompt would not reach the model."""
        self.text.check_prompt(prompt)

    def start(self, prompts: list[str], seeds: Tensor) -> Paths:
        """Return paths at step 0, all masked: one for each of seeds (B,), of the one prompt or of B prompts.

        UsageError for a prompt that is empty or too long, or where prompts and seeds do not go together.
        """
        check_prompts(prompts, self)
        self._check_settings()
        distinct, index = numbered(prompts, seeds)
        shared = self.conditioned(distinct, self.guidance_scale)
        codes = torch.full((len(seeds), self.canvas.positions), UNDECIDED, device=self.model.device)
        return begun(index, seeds, codes, self.steps, shared)

    def conditioned(self, asked: list[str], guidance_scale: float) -> Started:
        """What paths of distinct prompts start from."""
        against = self.text([self.negative_prompt]) if guidance_scale > 1 else None
        height, width = self.canvas.image
        conditions = torch.tensor([width, height, 0, 0, self.aesthetic_score], device=self.model.device)
        return Started(asked, self.text(asked), against, conditions, guidance_scale)

    def resume(self, prompts: list[str], seeds: Tensor, codes: Tensor, step: int) -> Paths:
        """Enter paths again that had codes (B, N), UNDECIDED where masked, after `step` steps.

        What was predicted beyond the decided codes is not known any more: there is no preview before the next step,
        unless all codes are decided.
        """
        return entered(self.start(prompts, seeds), codes, step, get_schedule(self.schedule))

    @torch.no_grad()
    def advance(self, paths: Paths) -> Paths:
        """Return all paths one step further; after the last step every code is decided."""
        # Looked up on the CPU, where nobody waits.
        temperature = float(torch.linspace(self.temperature, 0, paths.steps)[min(paths.step, paths.steps - 1)])
        logits = partial(self.guided_logits, started=paths.shared)
        return advanced(paths, logits, get_schedule(self.schedule), temperature, self.paths_per_pass)

    def guided_logits(self, codes: Tensor, places: Tensor, prompt_index: Tensor, started: Started) -> Tensor:
        """Return float32 logits (B, K, codebook_size) at K places (B, K) of codes (B, N), UNDECIDED where masked.

        prompt_index  (B,), on the CPU, of the prompts in `started`
        """
        return of_distinct(partial(self._logits, started=started), codes, places, prompt_index)

    def _logits(self, codes: Tensor, places: Tensor, prompt_index: Tensor, started: Started) -> Tensor:
        return scoring.logits(self, codes, places, prompt_index, started)

    def remask(self, paths: Paths, undecided: Tensor) -> Paths:
        """Return the paths with the codes at `undecided` (B, N) bool masked, at the step that draws about so many.

        That is the last step before which the schedule leaves at least as many codes masked as in any of the paths.
        """
        return remasked(paths, undecided, get_schedule(self.schedule))

    @property
    def doubting_rows(self) -> int:
        """Rows of the forward pass that `confidence` costs for a path."""
        return 2 * self.rows_per_path

    @torch.no_grad()
    def confidence(self, paths: Paths) -> Tensor:
        """Return the guided probabilities (B, N) of the drawn codes, each given about half of the others."""
        return confidence(paths, partial(self.guided_logits, started=paths.shared), self.paths_per_pass)

    def predicted(self, paths: Paths) -> Tensor:
        """Return the complete codes (B, N) that the last step predicted; ValueError where there was none."""
        return predicted(paths)

    def preview(self, paths: Paths) -> Tensor:
        """Return the images (B, 3, H, W) in [0, 1] of the codes that the last step predicted."""
        return self.decode(self.predicted(paths))

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Return the images (B, 3, H, W) in [0, 1] of complete codes (B, N)."""
        tokenizer, config = self.image_tokenizer, self.image_sizes
        codes = codes.to(tokenizer.device, torch.int64)

        def decode(part: slice) -> Tensor:
            wanted = codes[part]
            vectors = (
                tokenizer.quantize.embedding(wanted).unflatten(1, self.canvas.grid).permute(0, 3, 1, 2).contiguous()
            )
            spatial = vectors if config.norm_type == "spatial" else None
            image: Tensor = tokenizer.decoder(tokenizer.post_quant_conv(vectors), spatial)
            return image.float().clamp(0, 1)

        height, width = self.canvas.image
        per_image = 8 * config.block_out_channels[0] * height * width * torch.float32.itemsize
        return torch.cat(in_parts(decode, len(codes), self._fitting(per_image)))

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Return codes (B, N) int64 of images (B, 3, H, W) in [0, 1] of the canvas' size."""
        latents = self.image_tokenizer.encode(images.to(self.image_tokenizer.device, torch.float32)).latents
        codes: Tensor = self.image_tokenizer.quantize(latents)[2][2]
        return codes.view(len(images), -1)

    def masked_log_probs(self, asked: Sequence[Asked], codes: Tensor, hidden: Tensor) -> Tensor:
        """Return log p(code | asked, codes not hidden) (R, N), 0 where nothing is hidden (R, N) bool."""
        return scoring.log_probs(self, asked, codes, hidden, hidden)

    def log_likelihood(self, asked: Sequence[Asked], codes: Tensor, draws: Draws) -> Tensor:
        """Return the estimate of log p(image | asked) (B,) in nats of complete codes (B, N), without guidance."""
        return scoring.log_likelihood(self, asked, codes, draws)

    def step_terms(self, states: Sequence[Paths], draws: int) -> Terms:
        """Return the terms of paths by their states from step 0 to the end, under the guidance they were drawn with."""
        return scoring.step_terms(self, states, draws)

    def trainable(self) -> nn.Module:
        """The U-ViT, all of which requires gradients; text encoder and image tokenizer are no part of it."""
        found: nn.Module = self.model.requires_grad_(True)
        return found

    @property
    def adapted_layers(self) -> str:
        """The linear layers of the transformer, by a regular expression of their names."""
        return scoring.ADAPTED_LAYERS

    def copy(self, dtype: torch.dtype) -> "AmusedGenerator":
        """A generator of the same settings with its own copy of the weights in another number format."""
        return scoring.copied(self, dtype)

    def save(self, folder: Path) -> None:
        """Write a pipeline's folder with the weights of now."""
        scoring.save(self, folder)
