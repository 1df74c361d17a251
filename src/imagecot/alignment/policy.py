"""The weights that alignment trains, as what draws and what scores, beside the reference that they are held against."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import nn

from imagecot import launch, registry
from imagecot.alignment.alignment import Alignment
from imagecot.alignment.scores import Aligned, Trained, Untrained
from imagecot.contracts.generator import Generator
from imagecot.errors import UsageError
from imagecot.generators import load_generator
from imagecot.training.lora import add_adapter, without
from imagecot.training.output import Output
from imagecot.training.parts import digest, fingerprint
from imagecot.training.sharding import Forward, gathered, is_shared, prepared, take, whole_weights
from imagecot.training.state import seed_all

if TYPE_CHECKING:
    from accelerate import Accelerator
    from peft import PeftModel


@dataclass(frozen=True)
class Policy:
    """What is aligned.

    known_as     a name for the generator that it was before, by its weights and settings
    compared_to  a name for what it is compared with, by the same
    generator    draws and scores with the weights of now
    adapter      peft's model where low-rank updates alone are trained
    module       what scores, as it was wrapped
    scores       by that module
    plain        by the same weights, without gradient
    reference    by the reference's weights
    drawer       what draws with the weights of now, inside
    """

    accelerator: "Accelerator"
    known_as: str
    compared_to: str
    generator: Aligned
    adapter: "PeftModel | None"
    module: nn.Module
    optimizer: torch.optim.Optimizer
    scores: Trained
    plain: Untrained
    reference: Untrained
    drawer: Callable[[], AbstractContextManager[Generator]]


def load_policy(base: str, reference: str, settings: Alignment, *, output: Output) -> Policy:
    """Load the generator `base` to be trained under accelerate, and the one that it is compared with.

    UsageError where one of them gives no log-probabilities, or the settings ask for what its weights cannot.
    """
    if settings.lora and registry.is_code("generator", base):
        raise UsageError(f"{base} is a class, which no adapter can have as its base; leave out lora.")
    accelerator = launch.accelerator(
        settings.precision, report_to=output.report_to, logs=output.logs, sends_buffers=False
    )
    seed_all(settings.seed)
    generator = load_aligned(base, accelerator.device)
    known_as = digest(repr(registry.digests("generator", base)), repr(generator.settings))
    before = fingerprint(generator.trainable())
    model, adapter = _to_train(generator, base, settings)
    compared = None if adapter is not None and reference == base else load_aligned(reference, accelerator.device)
    fixed = None if compared is None else compared.trainable().requires_grad_(False)
    compared_to = digest(before if fixed is None else fingerprint(fixed), repr((compared or generator).settings))
    wrap = partial(prepared, accelerator, shard=settings.shard)
    module = wrap(Forward(generator, model), in_blocks=not registry.is_code("generator", base))
    scores = Trained(module)
    if adapter is not None and fixed is None:
        untrained = Untrained(scores, partial(without, adapter))
    else:
        assert fixed is not None  # as there is no adapter to leave out
        blocks = not registry.is_code("generator", reference)
        untrained = Untrained(Trained(wrap(Forward(compared, fixed), in_blocks=blocks)))
    optimizer = torch.optim.AdamW(
        [p for p in module.parameters() if p.requires_grad],
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
    )
    return Policy(
        accelerator=accelerator,
        known_as=known_as,
        compared_to=compared_to,
        generator=generator,
        adapter=adapter,
        module=module,
        optimizer=accelerator.prepare_optimizer(optimizer),
        scores=scores,
        plain=Untrained(scores),
        reference=untrained,
        drawer=_drawing(generator, model, module, settings.precision),
    )


def _to_train(generator: Aligned, base: str, settings: Alignment) -> "tuple[nn.Module, PeftModel | None]":
    """The weights of a generator as they are trained, and peft's model where there is one."""
    model = generator.trainable()
    adapter = add_adapter(model, settings.lora, base, generator.adapted_layers) if settings.lora else None
    if settings.gradient_checkpointing:
        checkpoint_activations(model, base)
    return model, adapter


def written(policy: Policy, base: str, settings: Alignment) -> "tuple[Aligned, PeftModel | None]":
    """The generator, and peft's model, as the main process writes them; all processes take part."""
    if not is_shared(policy.module):
        return policy.generator, policy.adapter
    weights = whole_weights(policy.module)
    if not policy.accelerator.is_main_process:
        return policy.generator, policy.adapter
    generator = load_aligned(base, torch.device("cpu"))
    model, adapter = _to_train(generator, base, settings)
    take(Forward(generator, model), weights)
    return generator, adapter


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


def _drawing(
    generator: Aligned, model: nn.Module, module: nn.Module, precision: str
) -> Callable[[], AbstractContextManager[Generator]]:
    """What draws with the weights of now: the generator, or in mixed precision a copy in half, as it is faster.

    Of shares all weights are put together, in half in mixed precision.
    """

    @contextmanager
    def drawing() -> Iterator[Generator]:
        with gathered(module):
            yield generator

    if precision == "no" or is_shared(module):
        return drawing
    copied = generator.copy(torch.bfloat16 if precision == "bf16" else torch.float16)
    half = copied.trainable().eval()

    @contextmanager
    def in_half() -> Iterator[Generator]:
        with torch.no_grad():
            for kept, trained in zip(half.parameters(), model.parameters(), strict=True):
                kept.copy_(trained)
        yield copied

    return in_half
