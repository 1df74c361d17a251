"""What a family of generators knows about its own steps, for `imagecot benchmark`: each says it in a file of its own.

A generator that says nothing is timed all the same, from outside.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Protocol, runtime_checkable

from torch import Tensor, nn
from torch.ao.nn.quantized import dynamic as quantized

from imagecot.contracts.generator import Generator
from imagecot.contracts.paths import Paths


@dataclass(frozen=True)
class Piece:
    """A part of a step: how it is done, and the floating-point operations of its products, where they are known."""

    work: Callable[[], object]
    flop: float | None = None


class Bench(Protocol):
    """The steps of one generator, taken apart."""

    @property
    def weights(self) -> nn.Module:
        """What draws: its weights are counted, and on their device and in their type is all that is measured."""
        ...

    def halfway(self, batch: int, prompt: str) -> Paths:
        """Return different paths in the middle of an image, quickly."""
        ...

    def longer(self, prompt: str) -> Sequence[Paths]:
        """Return single paths whose next steps see fewer and more image tokens."""
        ...

    def tokens(self, paths: Paths) -> tuple[int, int]:
        """Return how many tokens of the image, and of the prompt, the next step of a path sees."""
        ...

    def flop(self, paths: Paths) -> float:
        """Return the floating-point operations of the products that the next step of all paths needs."""
        ...

    def pieces(self, paths: Paths, prompt: str) -> Mapping[str, Piece]:
        """Return the parts of reading the prompt and of the next step, in their order."""
        ...

    def plain(self, prompt: str, seed: int) -> Tensor:
        """Return the codes (N,) of a path, drawn in the plainest way: nothing that was computed is used again."""
        ...

    def training(self) -> AbstractContextManager[nn.Module]:
        """Give the module whose weights are trained, ready for that, and leave it as it was."""
        ...

    def scored(self, prompt: str, codes: Tensor, seeds: Tensor) -> tuple[Piece, float]:
        """Return what a step of training on codes (B, N) needs before the model, and the operations of its forward."""
        ...


@runtime_checkable
class Benched(Protocol):
    """Says what its steps consist of."""

    def bench(self) -> Bench:
        """Return the steps of this generator, taken apart."""
        ...


def count(module: nn.Module) -> int:
    """How many weights a module has; a quantized layer holds its own behind a method, not as parameters."""
    hidden = [part.weight() for part in module.modules() if isinstance(part, quantized.Linear)]
    return sum(weight.numel() for weight in [*module.parameters(), *hidden])


def products(module: nn.Module) -> int:
    """How many weights of a module are multiplied with every token that passes through it: those of linear layers."""
    plain = sum(part.weight.numel() for part in module.modules() if isinstance(part, nn.Linear))
    return plain + sum(part.weight().numel() for part in module.modules() if isinstance(part, quantized.Linear))


@contextmanager
def as_it_was(model: nn.Module) -> Iterator[None]:
    """Require gradients of those weights afterwards of which they were required before, and keep none."""
    wanted = {name: weight.requires_grad for name, weight in model.named_parameters()}
    try:
        yield
    finally:
        model.zero_grad(set_to_none=True)
        for name, weight in model.named_parameters():
            weight.requires_grad_(wanted[name])


_SHOWO = "imagecot.generators.showo.bench:random_generator"
RANDOM = {"tiny": _SHOWO, "mid": _SHOWO, "full": _SHOWO}
"""Sizes of which random weights can be timed, and the function that makes them of the size's name and a precision."""


def random_generator(name: str, precision: str) -> Generator:
    """Return a generator with random weights of a size in RANDOM."""
    made: Generator = resolve_name(RANDOM[name])(name, precision)
    return made
