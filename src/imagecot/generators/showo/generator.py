"""Masked decoding: in each step all image codes are predicted, the surest are kept, the others masked again.

The sampling loop is Show-o's (`t2i_generate`), which is MaskGIT's (Chang et al., 2022). Only what the result
depends on is computed: text once a prompt, image rows only, the head at masked positions and for codes only.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from imagecot.contracts import randomness
from imagecot.contracts.correction import Asked, Correction, without_words
from imagecot.contracts.paths import UNDECIDED, Paths
from imagecot.errors import UsageError
from imagecot.generators import MOST, MOST_STEPS
from imagecot.generators.masked.schedules import get_schedule, masked_count, noise_temperature
from imagecot.generators.showo.magvitv2 import MagvitV2
from imagecot.generators.showo.model import Showo
from imagecot.generators.showo.prefix import Prefix, encode_prefixes, image_states
from imagecot.generators.showo.prompting import Prompting
from imagecot.memory import available_bytes, in_parts
from imagecot.prompts import check_prompts

_CPU_BUDGET = 2**29


def draw_by_inverse(weights: Tensor, uniform: Tensor) -> Tensor:
    """Draw one category a row in proportion to weights (M, C), from one uniform in [0, 1) a row (M,)."""
    # Running sums are slow, plain ones are not: find the block of categories first, then the category in it.
    width = 1 << weights.shape[1].bit_length() // 2
    lacking = -weights.shape[1] % width
    blocks = (F.pad(weights, (0, lacking)) if lacking else weights).unflatten(1, (-1, width))
    totals = blocks.sum(dim=2).cumsum(dim=1)
    target = uniform[:, None] * totals[:, -1:]
    block = _first_above(totals, target)
    within = blocks.gather(1, block[:, :, None].expand(-1, -1, width))[:, 0].cumsum(dim=1)
    inside = _first_above(within, target - F.pad(totals, (1, 0)).gather(1, block))
    return (block * width + inside)[:, 0]


def _first_above(cumulative: Tensor, target: Tensor) -> Tensor:
    """Return (M, 1), where sums (M, C) first exceed target (M, 1): never an entry that added nothing."""
    first = torch.searchsorted(cumulative, target, right=True)
    # Rounding may have put the target at the end.
    return torch.minimum(first, torch.searchsorted(cumulative, cumulative[:, -1:].contiguous()))


def decode_step(
    logits: Tensor,
    codes: Tensor,
    draw: Callable[[Tensor], Tensor],
    mask_uniform: Tensor,
    temperature: float,
    num_masked: int,
) -> tuple[Tensor, Tensor]:
    """Predict all codes and say which to mask again.

    logits        (M, C), guided, at the M positions where codes (B, N) is UNDECIDED, in row-major order
    draw          maps probabilities (M, C) to the drawn codes (M,)
    mask_uniform  (B, N) uniforms in [0, 1) of the Gumbel noise on the confidences
    temperature   strength of that noise
    num_masked    the schedule's count; at least 1 stays masked and at least one position is decided

    Returns the complete codes (B, N) and the positions (B, N) to mask: those whose confidence is strictly
    below the cut-off, so that ties mask fewer.
    """
    unknown = codes == UNDECIDED
    probabilities = logits.float().softmax(dim=1)
    drawn = draw(probabilities)
    probability = probabilities.gather(1, drawn[:, None])[:, 0]
    proposed = codes.masked_scatter(unknown, drawn)

    noise = -(-mask_uniform[unknown].clamp(min=1e-20).log()).clamp(min=1e-20).log()
    confidence = torch.full(codes.shape, torch.inf, device=codes.device)
    confidence[unknown] = probability.clamp(min=1e-20).log() + temperature * noise
    count = (unknown.sum(dim=1) - 1).clamp(max=num_masked).clamp(min=1)
    cut_off = confidence.sort(dim=1).values.gather(1, count[:, None])
    return proposed, confidence < cut_off


@dataclass(frozen=True)
class _Context:
    """What a batch of paths starts from: a prefix for each prompt and correction, and what guidance goes against.

    against  for each prefix that of the empty prompt, with the same rejected image; None without guidance
    """

    prefixes: list[Prefix]
    against: list[Prefix] | None


@dataclass(eq=False)
class ShowoGenerator:
    """Show-o as a generator of paths.

    guidance_scale g: guided = (1 + g) * conditional - g * unconditional; 0 computes no unconditional rows.
    temperature is what the noise on the confidences falls from, in every path; the published loop multiplies
    its factors up, which `reference_temperature` replays.
    memory_budget bounds, in bytes, the activations of one forward pass; larger batches are split. By default half of
    what is free on a GPU, on a CPU at most half a gigabyte, because larger batches are no faster there.
    precision is the name of the number format that the transformer was loaded in, for the record.
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

    def __post_init__(self) -> None:
        self._check_settings()

    def _check_settings(self) -> None:
        """Raise UsageError for settings that nothing can be drawn with."""
        if type(self.steps) is not int or not 1 <= self.steps <= MOST_STEPS:
            raise UsageError(f"an image takes at least 1 step and at most {MOST_STEPS:,}, not {self.steps!r}.")
        for name, value in (("guidance_scale", self.guidance_scale), ("temperature", self.temperature)):
            if type(value) not in (int, float) or not 0 <= value <= MOST:
                raise UsageError(f"{name} must be a number from 0 to {MOST:g}, not {value!r}.")
        if self.memory_budget is not None and (type(self.memory_budget) is not int or self.memory_budget < 1):
            raise UsageError(f"memory_budget must be a number of bytes, at least 1, not {self.memory_budget!r}.")
        get_schedule(self.schedule)

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
            free = available_bytes(self.model.device) // 2
            self.memory_budget = free if self.model.device.type == "cuda" else min(free, _CPU_BUDGET)
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

    @torch.no_grad()
    def start(self, prompts: list[str], seeds: Tensor, *, history: Sequence[Correction] | None = None) -> Paths:
        """Return paths at step 0, all masked: one for each of seeds (B,), of the one prompt or of B prompts.

        history  what is wrong with an image of the prompt and shall be drawn again: one for all paths or one for
                 each. The path then begins `t2i, bos, prompt and reasons, eos, soi, rejected image, eoi`. Guidance goes
                 against the empty prompt and the same rejected image, so it strengthens what prompt and reasons say and
                 not what was wrong (measured against the empty prompt alone, lab log).

        UsageError for a prompt that is empty or too long, or where the numbers of prompts, corrections and seeds do
        not go together.
        """
        check_prompts(prompts, self)
        if len(prompts) not in (1, len(seeds)):
            raise UsageError(f"{len(prompts)} prompts do not go with {len(seeds)} seeds; give one prompt or as many.")
        if history is not None and len(history) not in (1, len(seeds)):
            raise UsageError(f"{len(history)} corrections do not go with {len(seeds)} seeds; give one or as many.")
        self._check_settings()
        count = max(len(prompts), len(history or ()))
        repeated = [prompts[i % len(prompts)] for i in range(count)]
        asked: list[Asked] = [*repeated]
        if history:
            asked = [(prompt, history[i % len(history)]) for i, prompt in enumerate(repeated)]
        distinct = list(dict.fromkeys(asked))
        texts = [self.prompting.prefix(one) for one in distinct]
        against = [self.prompting.prefix(without_words(one)) for one in distinct] if self.guidance_scale else []
        # Plain paths, and those of one rejected image, share what they are guided against.
        different = [text for k, text in enumerate(against) if text not in against[:k]]
        encoded = encode_prefixes(self.model, texts + different)
        prefixes, empty = encoded[: len(texts)], encoded[len(texts) :]
        shared = [empty[different.index(text)] for text in against] or None
        index = torch.tensor([distinct.index(one) for one in asked], device=self.model.device)
        codes = torch.full((len(seeds), self.model.config.num_vq_tokens), UNDECIDED, device=self.model.device)
        return Paths(
            codes=codes,
            proposed=codes,
            seeds=seeds.to(self.model.device, torch.int64),
            prompt_index=index.expand(len(seeds)).clone(),
            step=0,
            steps=self.steps,
            context=_Context(prefixes, shared),
        )

    @torch.no_grad()
    def advance(self, paths: Paths) -> Paths:
        """Return all paths one step further; after the last step every code is decided."""
        if paths.finished:
            raise ValueError(f"the paths have done all {paths.steps} steps")
        planned = masked_count(get_schedule(self.schedule), paths.step, paths.steps, paths.codes.shape[1])
        temperature = noise_temperature(self.temperature, paths.step, paths.steps, self.reference_temperature)

        def predict(part: slice) -> tuple[Tensor, Tensor]:
            codes, seeds = paths.codes[part], paths.seeds[part]
            uniform, mask_uniform = (
                randomness.uniforms(seeds, paths.step, stream, codes.shape[1])
                for stream in (randomness.Stream.CODES, randomness.Stream.MASKING)
            )
            chosen = uniform[codes == UNDECIDED]
            logits = self.guided_logits(codes, paths.prompt_index[part], paths.context)
            draw = partial(draw_by_inverse, uniform=chosen)
            return decode_step(logits, codes, draw, mask_uniform, temperature, planned)

        parts = in_parts(predict, len(paths), self.paths_per_pass)
        proposed, masked = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        step = paths.step + 1
        decided = proposed if step == paths.steps else proposed.masked_fill(masked, UNDECIDED)
        return replace(paths, codes=decided, proposed=proposed, step=step)

    def guided_logits(self, codes: Tensor, prompt_index: Tensor, context: _Context) -> Tensor:
        """Return float32 logits (M, codebook_size) at the M masked positions of codes (B, N), row by row.

        Rows of the same prompt and codes, as all are at the first step and forks of one path are, are computed once.
        """
        asked = torch.cat([prompt_index[:, None], codes], dim=1)
        distinct, row = asked.unique(dim=0, return_inverse=True)
        if len(distinct) == len(codes):
            return self._logits(codes, prompt_index, context)
        codes = distinct[:, 1:]
        counts = (codes == UNDECIDED).sum(dim=1)
        logits = self._logits(codes, distinct[:, 0], context).split(counts.tolist())
        return torch.cat([logits[k] for k in row.tolist()])

    def _logits(self, codes: Tensor, prompt_index: Tensor, context: _Context) -> Tensor:
        ids = self.prompting.image_block(self.prompting.image_ids(codes))
        wanted = codes == UNDECIDED
        which, counts = (found.tolist() for found in prompt_index.unique_consecutive(return_counts=True))
        prefixes = [(context.prefixes[i], count) for i, count in zip(which, counts, strict=True)]
        if context.against is None:
            return self.model.code_logits(image_states(self.model, ids, prefixes, wanted)).float()
        against: list[tuple[Prefix, int]] = []
        for i, count in zip(which, counts, strict=True):
            before = against.pop()[1] if against and against[-1][0] is context.against[i] else 0
            against.append((context.against[i], before + count))
        states = image_states(self.model, torch.cat([ids, ids]), [*prefixes, *against], torch.cat([wanted, wanted]))
        conditional, unconditional = states.float().chunk(2)
        # The head is affine and the weights add up to 1: guiding the states guides the logits, at half cost.
        guided = (1 + self.guidance_scale) * conditional - self.guidance_scale * unconditional
        return self.model.code_logits(guided.to(states.dtype)).float()

    @torch.no_grad()
    def preview(self, paths: Paths) -> Tensor:
        """Return the images (B, 3, H, W) in [0, 1] of the codes that the last step predicted."""
        if paths.step == 0:
            raise ValueError("paths have nothing to show before their first step")
        size = self.image_tokenizer.config.image_size
        per_image = 8 * self.image_tokenizer.config.channels * (size // self.image_tokenizer.config.patch_size) ** 2 * 4

        def decode(part: slice) -> Tensor:
            return self.image_tokenizer.decode_codes(paths.proposed[part]).float()

        return torch.cat(in_parts(decode, len(paths), self._fitting(per_image)))
