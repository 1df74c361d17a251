"""What preference alignment needs of a generator: log-probabilities with gradients, of images and of paths."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn

from imagecot.contracts.correction import Asked
from imagecot.contracts.paths import Paths


@dataclass(frozen=True)
class Draws:
    """The randomness of an estimated log-probability; a generator that has the exact one does not look at it.

    seeds  (B,) int64: equal seeds hide the same positions, so that a difference of two estimates is less noisy
    count  how many draws are averaged
    """

    seeds: Tensor
    count: int


@dataclass(frozen=True)
class Terms:
    """Log-probabilities of the codes that B paths drew, as far as they are scored.

    log_probs  (B, M), 0 where nothing is scored
    weights    (B,), so that weights * log_probs.sum(1) estimates a path's log-probability in nats, divided by the
               number of its codes
    """

    log_probs: Tensor
    weights: Tensor

    def total(self, values: Tensor | None = None) -> Tensor:
        """Weighted sums (B,) of the log-probabilities, or of other values (B, M) of the same terms."""
        return (self.log_probs if values is None else values).sum(1) * self.weights


@runtime_checkable
class Scorer(Protocol):
    """Scores images under the weights of now, with gradients; masked generators estimate, raster ones are exact."""

    def log_likelihood(self, asked: Sequence[Asked], codes: Tensor, draws: Draws) -> Tensor:
        """Return log p(image | asked) (B,) in nats of complete codes (B, N)."""
        ...

    def step_terms(self, states: Sequence[Paths], draws: int) -> Terms:
        """Return the terms of the paths whose states, from step 0 to the end, this generator drew.

        draws  steps of each path that are scored, at most
        """
        ...

    def trainable(self) -> nn.Module:
        """The module with all weights; those that alignment trains require gradients, the others do not."""
        ...

    @property
    def adapted_layers(self) -> str:
        """A regular expression of the names, in `trainable`, of the linear layers that an adapter updates."""
        ...

    def copy(self, dtype: torch.dtype) -> Self:
        """A generator of the same settings with its own copy of the weights in another number format."""
        ...

    def save(self, folder: Path) -> None:
        """Write a checkpoint folder with the weights of now, as `load_generator` reads it."""
        ...
