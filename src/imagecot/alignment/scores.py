"""Log-probabilities under the weights that are trained, as accelerate wants them, and under those of the reference."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from imagecot.contracts.correction import Asked
from imagecot.contracts.generator import Generator
from imagecot.contracts.paths import Paths
from imagecot.contracts.scorer import Draws, Scorer, Terms

if TYPE_CHECKING:
    from accelerate import Accelerator


class Scores(Protocol):
    """Log-probabilities under some weights; see `Scorer`, which is one."""

    def log_likelihood(self, asked: Sequence[Asked], codes: Tensor, draws: Draws) -> Tensor:
        """Log p(image | asked) (B,) of complete codes (B, N)."""
        ...

    def step_terms(self, states: Sequence[Paths], draws: int) -> Terms:
        """The terms of paths by their states from step 0 to the end."""
        ...


@runtime_checkable
class Aligned(Generator, Scorer, Protocol):
    """What is aligned: a generator that scores, too."""


class Forward(nn.Module):
    """What accelerate wraps: every score goes through `forward`, so that DDP, FSDP and DeepSpeed see it."""

    def __init__(self, scorer: Scorer, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.scorer = (scorer,)  # a tuple: a scorer that is a module itself has its weights in `model`

    def forward(self, score: Callable[[Scorer], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """The tensors that `score` finds by the scorer."""
        return score(self.scorer[0])


@dataclass(frozen=True)
class Trained:
    """Scores under the weights that are trained, through the module as accelerate has wrapped it: for losses."""

    module: nn.Module

    def log_likelihood(self, asked: Sequence[Asked], codes: Tensor, draws: Draws) -> Tensor:
        """Log p(image | asked) (B,) of complete codes (B, N)."""
        found: Tensor = self.module(lambda scorer: (scorer.log_likelihood(asked, codes, draws),))[0]
        return found

    def step_terms(self, states: Sequence[Paths], draws: int) -> Terms:
        """The terms of paths by their states from step 0 to the end."""

        def score(scorer: Scorer) -> tuple[Tensor, ...]:
            terms = scorer.step_terms(states, draws)
            return terms.log_probs, terms.weights

        return Terms(*self.module(score))


@dataclass(frozen=True)
class Reference:
    """Scores without gradient, in the precision of the training."""

    accelerator: "Accelerator"
    scorer: Aligned

    @torch.no_grad()
    def log_likelihood(self, asked: Sequence[Asked], codes: Tensor, draws: Draws) -> Tensor:
        """Log p(image | asked) (B,) of complete codes (B, N)."""
        with self.accelerator.autocast():
            return self.scorer.log_likelihood(asked, codes, draws)

    @torch.no_grad()
    def step_terms(self, states: Sequence[Paths], draws: int) -> Terms:
        """The terms of paths by their states from step 0 to the end."""
        with self.accelerator.autocast():
            return self.scorer.step_terms(states, draws)
