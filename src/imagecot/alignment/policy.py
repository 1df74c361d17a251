"""The weights that alignment trains, as what draws and what scores, beside the reference that they are held against."""

import copy
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from imagecot import launch
from imagecot.alignment.aligned import add_lora
from imagecot.alignment.alignment import Alignment
from imagecot.contracts.correction import Asked
from imagecot.generators import load_generator
from imagecot.generators.showo import ShowoGenerator
from imagecot.generators.showo.scoring import ShowoScores
from imagecot.training.state import seed_all


@dataclasses.dataclass(frozen=True)
class Policy:
    """What is aligned.

    adapter    peft's model where low-rank updates alone are trained
    plain      log-probabilities by the weights of now
    scores     the same as accelerate has wrapped it, for losses
    fixed      log-probabilities by the reference's weights
    drawer     returns what draws with the weights of now
    """

    accelerator: Any
    generator: ShowoGenerator
    adapter: Any
    plain: ShowoScores
    scores: Any
    optimizer: Any
    fixed: ShowoScores
    drawer: Callable[[], ShowoGenerator]

    @torch.no_grad()
    def reference(
        self,
        prompts: Sequence[Asked],
        codes: Tensor,
        masked: Tensor,
        wanted: Tensor | None = None,
        guidance: float = 0.0,
    ) -> Tensor:
        """Log-probabilities (R, N) by the reference in the precision of the training; arguments as of `ShowoScores`."""
        with self.accelerator.autocast():
            found: Tensor = self.fixed(prompts, codes, masked, wanted, guidance)
        return found


def load_policy(base: str, reference: str, settings: Alignment) -> Policy:
    """Load the generator `base` to be trained under accelerate, and the one that it is compared with."""
    from accelerate.utils import DistributedDataParallelKwargs

    buffers = DistributedDataParallelKwargs(broadcast_buffers=False)
    accelerator = launch.accelerator(settings.precision, settings.accumulate, kwargs_handlers=[buffers])
    seed_all(settings.seed)
    generator = load_generator(base, device=accelerator.device, dtype=torch.float32)
    fixed = load_generator(reference, device=accelerator.device, dtype=torch.float32)
    fixed.model.requires_grad_(False)
    adapter = add_lora(generator.model, settings.lora, base) if settings.lora else None
    if adapter is None:
        generator.model.requires_grad_(False).showo.requires_grad_(True)
    if settings.gradient_checkpointing:
        generator.model.showo.activation_checkpointing_enable()
    plain = ShowoScores(generator.model, generator.prompting)
    optimizer: Any = torch.optim.AdamW(
        [p for p in plain.parameters() if p.requires_grad],
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
    )
    scores, optimizer = accelerator.prepare(plain, optimizer)
    return Policy(
        accelerator=accelerator,
        generator=generator,
        adapter=adapter,
        plain=plain,
        scores=scores,
        optimizer=optimizer,
        fixed=ShowoScores(fixed.model, fixed.prompting),
        drawer=_drawing(generator, settings.precision),
    )


def _drawing(generator: ShowoGenerator, precision: str) -> Callable[[], ShowoGenerator]:
    """What draws with the weights of now: the generator, or in mixed precision a copy in half, as it is faster."""
    if precision == "no":
        return lambda: generator
    half = copy.deepcopy(generator.model).to(torch.bfloat16 if precision == "bf16" else torch.float16).eval()
    drawing = dataclasses.replace(generator, model=half)

    @torch.no_grad()
    def current() -> ShowoGenerator:
        for kept, trained in zip(half.parameters(), generator.model.parameters(), strict=True):
            kept.copy_(trained)
        return drawing

    return current
