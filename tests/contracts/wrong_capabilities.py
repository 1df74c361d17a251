"""What generators can do beside drawing, done wrongly in one way each: what the checks are proved by.

Every class says in its name or in a line what is wrong with it; all else is as in the right toys.
"""

import copy
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from contracts.toys import Everything, number, text_of
from imagecot.checks.toys import ToyGenerator
from imagecot.contracts.correction import Asked, Correction
from imagecot.contracts.paths import Paths
from imagecot.contracts.scorer import Draws, Terms


class RefusesByValueError(Everything):
    def check_prompt(self, prompt: str) -> None:
        if len(prompt) > 1000:
            raise ValueError("too long")


class CorrectsFromTheMiddle(Everything):
    def correct(self, prompts: list[str], seeds: Tensor, corrections: Sequence[Correction]) -> Paths:
        return self.advance(super().correct(prompts, seeds, corrections))


class CorrectsTheFirstOnly(Everything):
    def correct(self, prompts: list[str], seeds: Tensor, corrections: Sequence[Correction]) -> Paths:
        return super().correct(prompts, seeds, corrections[:1])


class RemasksEverything(Everything):
    def remask(self, paths: Paths, undecided: Tensor) -> Paths:
        return super().remask(paths, torch.ones_like(undecided))


class DoubtsInPercent(Everything):
    def confidence(self, paths: Paths) -> Tensor:
        return 100 * super().confidence(paths)


class DoubtsByTheBatch(Everything):
    def confidence(self, paths: Paths) -> Tensor:
        return super().confidence(paths) / len(paths)


class PreviewsAreOthers(Everything):
    def predicted(self, paths: Paths) -> Tensor:
        return paths.own["predicted"].roll(1, 1)

    def preview(self, paths: Paths) -> Tensor:
        return self.decode(paths.own["predicted"])


class EncodesInSmallNumbers(Everything):
    def encode(self, images: Tensor) -> Tensor:
        return super().encode(images).int()


class FillsInSecret(ToyGenerator):
    fill = "blank"


class FillsByNumber(ToyGenerator):
    fill = 0

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"temperature": self.temperature, "fill": self.fill}


class AdjustsItself(Everything):
    def adjusted(self, **settings: Any) -> "Everything":
        other = super().adjusted(**settings)
        self.temperature = other.temperature
        return other


class AdjustsNothing(Everything):
    def adjusted(self, **settings: Any) -> "Everything":
        super().adjusted(**settings)
        return copy.copy(self)


class AdjustsAnything(Everything):
    def adjusted(self, **settings: Any) -> "Everything":
        other = copy.copy(self)
        for name, value in settings.items():
            setattr(other, name, value)
        return other


class ScoresByChance(Everything):
    def log_likelihood(self, asked: Sequence[Asked], codes: Tensor, draws: Draws) -> Tensor:
        return super().log_likelihood(asked, codes, draws) - 3 * random.random()


class ScoresInPercent(Everything):
    def log_likelihood(self, asked: Sequence[Asked], codes: Tensor, draws: Draws) -> Tensor:
        return super().log_likelihood(asked, codes, draws).exp() * 100


class TermsAreSums(Everything):
    def step_terms(self, states: Sequence[Paths], draws: int) -> Terms:
        terms = super().step_terms(states, draws)
        return Terms(terms.log_probs.sum(1), terms.weights)


class ScoresWithoutGradient(Everything):
    @torch.no_grad()
    def log_likelihood(self, asked: Sequence[Asked], codes: Tensor, draws: Draws) -> Tensor:
        return super().log_likelihood(asked, codes, draws)


class ScoresUnderOldWeights(Everything):
    """The gradient is there, but what is scored was computed before the step."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.old = copy.deepcopy(self.head)

    def log_likelihood(self, asked: Sequence[Asked], codes: Tensor, draws: Draws) -> Tensor:
        now = super().log_likelihood(asked, codes, draws)
        prompts = number([text_of(one) for one in asked])
        old = self.old(prompts).log_softmax(2).gather(2, codes[..., None])[..., 0].sum(1).detach()
        return old + (now - now.detach())


class CopiesShareWeights(Everything):
    def copy(self, dtype: torch.dtype) -> "Everything":
        return copy.copy(self)


class SavesNothing(Everything):
    def save(self, folder: Path) -> None:
        folder.mkdir()


CAPABILITIES: dict[type, str | tuple[str, ...]] = {
    RefusesByValueError: "the prompts can be read",
    CorrectsFromTheMiddle: "corrections draw paths",
    CorrectsTheFirstOnly: "corrections can be mixed",
    RemasksEverything: "remasking keeps the other codes",
    DoubtsInPercent: "doubts are probabilities",
    DoubtsByTheBatch: "doubts are probabilities",
    PreviewsAreOthers: "predictions are what previews show",
    EncodesInSmallNumbers: "pictures have codes",
    FillsInSecret: "settings name the fill",
    FillsByNumber: "settings name the fill",
    AdjustsItself: "adjusted settings show",
    AdjustsNothing: "adjusted settings show",
    AdjustsAnything: "unknown settings are refused",
    ScoresByChance: "scores are log probabilities",
    ScoresInPercent: "scores are log probabilities",
    TermsAreSums: "steps are scored",
    ScoresWithoutGradient: "gradients reach the weights",
    ScoresUnderOldWeights: "gradients reach the weights",
    CopiesShareWeights: "a copy has its own weights",
    SavesNothing: "saved weights make a folder",
}
