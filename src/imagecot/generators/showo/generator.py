"""Show-o as a generator of paths: its sampling loop (`t2i_generate`), of which only what the result depends on is done.

Text is computed once a prompt, image rows only, the head at masked positions and for codes only.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from imagecot.contracts.correction import Asked, Correction, without_words
from imagecot.contracts.generator import Canvas
from imagecot.contracts.paths import UNDECIDED, Paths
from imagecot.contracts.scorer import Draws, Terms
from imagecot.contracts.values import JSON
from imagecot.errors import UsageError
from imagecot.generators.beginning import numbered
from imagecot.generators.bench import Bench
from imagecot.generators.masked.decoding import (
    advanced,
    begun,
    confidence,
    entered,
    of_distinct,
    predicted,
    remasked,
)
from imagecot.generators.masked.schedules import get_schedule, noise_temperature
from imagecot.generators.settings import check_budget, check_known
from imagecot.generators.showo import scoring
from imagecot.generators.showo.config import MOST, MOST_STEPS
from imagecot.generators.showo.magvitv2 import MagvitV2
from imagecot.generators.showo.model import Showo
from imagecot.generators.showo.prefix import Prefix, encode_prefixes, image_states
from imagecot.generators.showo.prompting import Prompting
from imagecot.memory import half_of_free, in_parts
from imagecot.prompts import check_prompts

_CPU_BUDGET = 2**29
_ADJUSTABLE = (
    *("steps", "guidance_scale", "temperature", "schedule", "reference_temperature", "memory_budget", "precision"),
)


@dataclass(frozen=True)
class Started:
    """What a batch of paths starts from: a prefix for each prompt and correction, and what guidance goes against.

    asked           the prompts and corrections themselves
    against         for each prefix that of the empty prompt, with the same rejected image; None without guidance
    guidance_scale  of the paths
    """

    asked: list[Asked]
    prefixes: list[Prefix]
    against: list[Prefix] | None
    guidance_scale: float


@dataclass(eq=False)
class ShowoGenerator:
    """Show-o as a generator of paths.

    guidance_scale g: guided = (1 + g) * conditional - g * unconditional; 0 computes no unconditional rows.
    temperature is what the noise on the confidences falls from, in every path; the published loop multiplies
    its factors up, which `reference_temperature` replays.
    memory_budget bounds, in bytes, the activations of one forward pass; larger batches are split. By default half of
    what is free on a GPU, on a CPU at most half a gigabyte, because larger batches are no faster there.
    precision is the name of the number format that the transformer was loaded in, for the record.
    folder is where the weights were loaded from, whose own parts a checkpoint of other weights takes along.

    Paths keep in `own` the codes (B, N) that the last step predicted, None before the first one.
    """

    model: Showo
    image_tokenizer: MagvitV2
    prompting: Prompting
    steps: int = 18
    guidance_scale: float = 1.75
    temperature: float = 1.0
    schedule: str = "cosine"
    reference_temperature: bool = False
    memory_budget: int | None = None
    precision: str = "float32"
    folder: Path | None = None

    def __post_init__(self) -> None:
        self._check_settings()

    def _check_settings(self) -> None:
        """Raise UsageError for settings that nothing can be drawn with."""
        if type(self.steps) is not int or not 1 <= self.steps <= MOST_STEPS:
            raise UsageError(f"an image takes at least 1 step and at most {MOST_STEPS:,}, not {self.steps!r}.")
        for name, value in (("guidance_scale", self.guidance_scale), ("temperature", self.temperature)):
            if type(value) not in (int, float) or not 0 <= value <= MOST:
                raise UsageError(f"{name} must be a number from 0 to {MOST:g}, not {value!r}.")
        check_budget(self.memory_budget)
        get_schedule(self.schedule)

    @property
    def settings(self) -> Mapping[str, JSON]:
        """Everything but steps and weights that changes what is drawn."""
        return {
            "guidance_scale": self.guidance_scale,
            "temperature": self.temperature,
            "schedule": self.schedule,
            "reference_temperature": self.reference_temperature,
            "precision": self.precision,
        }

    @property
    def canvas(self) -> Canvas:
        """The square of image codes."""
        side, size = self.model.config.grid_size, self.image_tokenizer.config.image_size
        return Canvas((side, side), self.model.config.codebook_size, (size, size))

    def adjusted(self, **settings: JSON) -> Self:
        """The same weights under other settings; UsageError for one that there is not, or that cannot be."""
        check_known("Show-o", settings, _ADJUSTABLE)
        other = copy(self)
        vars(other).update(settings)
        other._check_settings()
        return other

    @property
    def rows_per_path(self) -> int:
        """Rows of the forward pass that one step of one path costs."""
        return 2 if self.guidance_scale else 1

    @property
    def paths_per_pass(self) -> int:
        """Paths that one forward pass takes within the memory budget."""
        return self._fitting(self._bytes_per_path)

    def _fitting(self, size: int) -> int:
        """How many things of `size` bytes fit into the budget; at least one."""
        if self.memory_budget is None:
            self.memory_budget = half_of_free(self.model.device, _CPU_BUDGET)
        return max(1, self.memory_budget // size)

    @property
    def _bytes_per_path(self) -> int:
        config = self.model.config
        tokens = config.num_vq_tokens + 2
        trunk = tokens * (10 * config.hidden_size + 2 * config.intermediate_size) * self.model.dtype.itemsize
        head = config.num_vq_tokens * config.codebook_size * 4 * torch.float32.itemsize
        return self.rows_per_path * trunk + head

    def check_prompt(self, prompt: str) -> None:
        """Raise UsageError where the end of the prompt would not reach the model."""
        if self.prompting.is_truncated(prompt):
            raise UsageError(
                f"the prompt has {self.prompting.text_length(prompt)} tokens but this generator reads at most "
                f"{self.prompting.max_text_ids}; shorten it."
            )

    def start(self, prompts: list[str], seeds: Tensor) -> Paths:
        """Return paths at step 0, all masked: one for each of seeds (B,), of the one prompt or of B prompts.

        UsageError for a prompt that is empty or too long, or where prompts and seeds do not go together.
        """
        check_prompts(prompts, self)
        return self._start([*prompts], seeds)

    def correct(self, prompts: list[str], seeds: Tensor, corrections: Sequence[Correction]) -> Paths:
        """Return paths at step 0 that draw an image of a prompt again, of which is told what was wrong.

        corrections  one for all paths or one for each

        A path begins `t2i, bos, prompt and reasons, eos, soi, rejected image, eoi`. Guidance goes against the empty
        prompt and the same rejected image, so it strengthens what prompt and reasons say and not what was wrong
        (measured against the empty prompt alone: docs/experiments/self-correction.md).
        """
        check_prompts(prompts, self)
        for what, given in (("prompts", prompts), ("corrections", corrections)):
            if len(given) not in (1, len(seeds)):
                raise UsageError(f"{len(given)} {what} do not go with {len(seeds)} seeds; give one or as many.")
        count = max(len(prompts), len(corrections))
        return self._start(
            [(prompts[k % len(prompts)], corrections[k % len(corrections)]) for k in range(count)], seeds
        )

    def resume(self, prompts: list[str], seeds: Tensor, codes: Tensor, step: int) -> Paths:
        """Enter paths again that had codes (B, N), UNDECIDED where masked, after `step` steps.

        What was predicted beyond the decided codes is not known any more: there is no preview before the next step,
        unless all codes are decided.
        """
        return entered(self.start(prompts, seeds), codes, step, get_schedule(self.schedule))

    @torch.no_grad()
    def _start(self, asked: list[Asked], seeds: Tensor) -> Paths:
        """Paths of what was asked for: one for all, or one for each of seeds (B,)."""
        self._check_settings()
        distinct, index = numbered(asked, seeds)
        texts = [self.prompting.prefix(one) for one in distinct]
        against = [self.prompting.prefix(without_words(one)) for one in distinct] if self.guidance_scale else []
        # Plain paths, and those of one rejected image, share what they are guided against.
        different = [text for k, text in enumerate(against) if text not in against[:k]]
        encoded = encode_prefixes(self.model, texts + different)
        prefixes, empty = encoded[: len(texts)], encoded[len(texts) :]
        shared = [empty[different.index(text)] for text in against] or None
        started = Started(distinct, prefixes, shared, self.guidance_scale)
        codes = torch.full((len(seeds), self.model.config.num_vq_tokens), UNDECIDED, device=self.model.device)
        return begun(index, seeds, codes, self.steps, started)

    @torch.no_grad()
    def advance(self, paths: Paths) -> Paths:
        """Return all paths one step further; after the last step every code is decided."""
        temperature = noise_temperature(self.temperature, paths.step, paths.steps, self.reference_temperature)
        logits = partial(self.guided_logits, started=paths.shared)
        return advanced(paths, logits, get_schedule(self.schedule), temperature, self.paths_per_pass)

    def guided_logits(self, codes: Tensor, places: Tensor, prompt_index: Tensor, started: Started) -> Tensor:
        """Return float32 logits (B, K, codebook_size) at K places (B, K) of codes (B, N), UNDECIDED where masked.

        prompt_index  (B,), on the CPU, of the prompts in `started`
        """
        return of_distinct(partial(self._logits, started=started), codes, places, prompt_index)

    def _logits(self, codes: Tensor, places: Tensor, prompt_index: Tensor, started: Started) -> Tensor:
        ids = self.prompting.image_block(self.prompting.image_ids(codes))
        which, counts = (found.tolist() for found in prompt_index.unique_consecutive(return_counts=True))
        prefixes = [(started.prefixes[i], count) for i, count in zip(which, counts, strict=True)]
        if started.against is None:
            return self.model.code_logits(image_states(self.model, ids, prefixes, places)).float()
        against: list[tuple[Prefix, int]] = []
        for i, count in zip(which, counts, strict=True):
            before = against.pop()[1] if against and against[-1][0] is started.against[i] else 0
            against.append((started.against[i], before + count))
        states = image_states(self.model, torch.cat([ids, ids]), [*prefixes, *against], torch.cat([places, places]))
        conditional, unconditional = states.float().chunk(2)
        # The head is affine and the weights add up to 1: guiding the states guides the logits, at half cost.
        guided = (1 + self.guidance_scale) * conditional - self.guidance_scale * unconditional
        return self.model.code_logits(guided.to(states.dtype)).float()

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
        codes = codes.to(self.model.device, torch.int64)
        size = self.image_tokenizer.config.image_size
        per_image = 8 * self.image_tokenizer.config.channels * (size // self.image_tokenizer.config.patch_size) ** 2 * 4

        def decode(part: slice) -> Tensor:
            return self.image_tokenizer.decode_codes(codes[part]).float()

        return torch.cat(in_parts(decode, len(codes), self._fitting(per_image)))

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Return codes (B, N) int64 of images (B, 3, H, W) in [0, 1] of the canvas' size."""
        return self.image_tokenizer.codes(images.to(self.model.device)).long()

    def masked_log_probs(self, asked: Sequence[Asked], codes: Tensor, hidden: Tensor) -> Tensor:
        """Return log p(code | asked, codes not hidden) (R, N), 0 where nothing is hidden (R, N) bool."""
        return scoring.log_probs(self.model, self.prompting, asked, codes, hidden, hidden)

    def log_likelihood(self, asked: Sequence[Asked], codes: Tensor, draws: Draws) -> Tensor:
        """Return the estimate of log p(image | asked) (B,) in nats of complete codes (B, N), without guidance."""
        return scoring.log_likelihood(self, asked, codes, draws)

    def step_terms(self, states: Sequence[Paths], draws: int) -> Terms:
        """Return the terms of paths by their states from step 0 to the end, under the guidance they were drawn with."""
        return scoring.step_terms(self, states, draws)

    def trainable(self) -> nn.Module:
        """The model, of which the transformer requires gradients."""
        return scoring.trainable(self.model)

    @property
    def adapted_layers(self) -> str:
        """The linear layers of the transformer, by a regular expression of their names."""
        return scoring.ADAPTED_LAYERS

    def copy(self, dtype: torch.dtype) -> "ShowoGenerator":
        """A generator of the same settings with its own copy of the weights in another number format."""
        return scoring.copied(self, dtype)

    def save(self, folder: Path) -> None:
        """Write a checkpoint folder with the weights of now."""
        scoring.save(self, folder)

    def bench(self) -> Bench:
        """Return the steps of this generator, taken apart for a benchmark."""
        from imagecot.generators.showo.bench import ShowoBench

        return ShowoBench(self)
