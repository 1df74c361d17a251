"""Log-probabilities under the weights that are trained, with gradient, and without it, as of the reference."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from imagecot.contracts.correction import Asked
from imagecot.contracts.generator import Generator
from imagecot.contracts.paths import Paths
from imagecot.contracts.scorer import Draws, Scorer, Terms


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


@dataclass(frozen=True)
class Trained:
    """Scores under the weights that are trained, through the module as it was wrapped: for losses."""

    module: nn.Module

    def log_likelihood(self, asked: Sequence[Asked], codes: Tensor, draws: Draws) -> Tensor:
        """Log p(image | asked) (B,) of complete codes (B, N)."""
        # No view: who puts shares together hangs a hook on what comes out, which a view can lose.
        found: Tensor = self.module(lambda scorer: (scorer.log_likelihood(asked, codes, draws).clone(),))[0]
        return found

    def step_terms(self, states: Sequence[Paths], draws: int) -> Terms:
        """The terms of paths by their states from step 0 to the end."""

        def score(scorer: Scorer) -> tuple[Tensor, ...]:
            terms = scorer.step_terms(states, draws)
            return terms.log_probs.clone(), terms.weights

        return Terms(*self.module(score))


@dataclass(frozen=True)
class Untrained:
    """The same without gradient; `under` says what holds meanwhile, such as that an adapter is left out."""

    scores: Trained
    under: Callable[[], AbstractContextManager[object]] = nullcontext

    @torch.no_grad()
    def log_likelihood(self, asked: Sequence[Asked], codes: Tensor, draws: Draws) -> Tensor:
        """Log p(image | asked) (B,) of complete codes (B, N)."""
        with self.under():
            return self.scores.log_likelihood(asked, codes, draws)

    @torch.no_grad()
    def step_terms(self, states: Sequence[Paths], draws: int) -> Terms:
        """The terms of paths by their states from step 0 to the end."""
        with self.under():
            return self.scores.step_terms(states, draws)
