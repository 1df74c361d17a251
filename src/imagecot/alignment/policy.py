"""The weights that alignment trains, as what draws and what scores, beside the reference that they are held against."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import nn

from imagecot import launch, registry
from imagecot.alignment.alignment import Alignment
from imagecot.alignment.scores import Aligned, Forward, Reference, Trained
from imagecot.contracts.generator import Generator
from imagecot.errors import UsageError
from imagecot.generators import load_generator
from imagecot.training.lora import add_adapter
from imagecot.training.output import Output
from imagecot.training.parts import digest
from imagecot.training.state import seed_all

if TYPE_CHECKING:
    from accelerate import Accelerator
    from peft import PeftModel


@dataclass(frozen=True)
class Policy:
    """What is aligned.

    known_as   a name for the generator that it was before, by its weights and settings
    generator  draws and scores with the weights of now
    model      its weights
    adapter    peft's model where low-rank updates alone are trained
    module     what scores, as accelerate has wrapped it
    scores     by that module
    plain      by the same weights, without gradient
    reference  by the reference's weights
    fixed      these weights
    drawer     returns what draws with the weights of now
    """

    accelerator: "Accelerator"
    known_as: str
    generator: Aligned
    model: nn.Module
    adapter: "PeftModel | None"
    module: nn.Module
    optimizer: torch.optim.Optimizer
    scores: Trained
    plain: Reference
    reference: Reference
    fixed: nn.Module
    drawer: Callable[[], Generator]


def load_policy(base: str, reference: str, settings: Alignment, *, output: Output) -> Policy:
    """Load the generator `base` to be trained under accelerate, and the one that it is compared with.

    UsageError where one of them gives no log-probabilities, or the settings ask for what its weights cannot.
    """
    if settings.lora and registry.is_code("generator", base):
        raise UsageError(f"{base} is a class, which no adapter can have as its base; leave out lora.")
    accelerator = launch.accelerator(
        settings.precision, settings.accumulate, report_to=output.report_to, logs=output.logs, sends_buffers=False
    )
    seed_all(settings.seed)
    generator = load_aligned(base, accelerator.device)
    compared = load_aligned(reference, accelerator.device)
    fixed = compared.trainable().requires_grad_(False)
    model = generator.trainable()
    adapter = add_adapter(model, settings.lora, base, generator.adapted_layers) if settings.lora else None
    if settings.gradient_checkpointing:
        checkpoint_activations(model, base)
    module = Forward(generator, model)
    optimizer = torch.optim.AdamW(
        [p for p in module.parameters() if p.requires_grad],
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
    )
    prepared, optimizer = accelerator.prepare(module, optimizer)
    return Policy(
        accelerator=accelerator,
        known_as=digest(repr(registry.digests("generator", base)), repr(generator.settings)),
        generator=generator,
        model=model,
        adapter=adapter,
        module=prepared,
        optimizer=optimizer,
        scores=Trained(prepared),
        plain=Reference(accelerator, generator),
        reference=Reference(accelerator, compared),
        fixed=fixed,
        drawer=_drawing(generator, model, settings.precision),
    )


def load_aligned(name: str | Path, device: torch.device | None = None) -> Aligned:
    """Load a generator that gives log-probabilities, checkpoints in float32; UsageError where it does not."""
    dtype = None if registry.is_code("generator", str(name)) else torch.float32
    found = load_generator(name, device=device, dtype=dtype)
    if not isinstance(found, Aligned):
        raise UsageError(f"{name} gives no log-probabilities of images (it is no Scorer), so it cannot be aligned.")
    return found


@runtime_checkable
class Checkpointed(Protocol):
    """A module that can compute its activations again in the backward pass, as models of transformers can."""

    supports_gradient_checkpointing: bool

    def activation_checkpointing_enable(self) -> None:
        """Do so from now on."""
        ...


def checkpoint_activations(model: nn.Module, base: str) -> None:
    """Let every module that can compute its activations again in the backward pass do so.

    base  what the model is called; UsageError where it has no such module
    """
    inner = [module for module in model.modules() if isinstance(module, Checkpointed)]
    whole = [module for module in inner if module.supports_gradient_checkpointing]
    if not whole:
        raise UsageError(
            f"{base} has no part that can compute its activations again; leave out gradient_checkpointing."
        )
    covered: set[int] = set()
    for module in whole:
        if id(module) not in covered:
            module.activation_checkpointing_enable()
            covered |= {id(part) for part in module.modules()}


def _drawing(generator: Aligned, model: nn.Module, precision: str) -> Callable[[], Generator]:
    """What draws with the weights of now: the generator, or in mixed precision a copy in half, as it is faster."""
    if precision == "no":
        return lambda: generator
    drawing = generator.copy(torch.bfloat16 if precision == "bf16" else torch.float16)
    half = drawing.trainable().eval()

    @torch.no_grad()
    def current() -> Generator:
        for kept, trained in zip(half.parameters(), model.parameters(), strict=True):
            kept.copy_(trained)
        return drawing

    return current
