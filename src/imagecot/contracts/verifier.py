"""What a search asks of a verifier, what a first turn leaves for a second, and what it all cost."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self, runtime_checkable

from torch import Tensor

from imagecot.contracts.questions import Question
from imagecot.contracts.tree import check_rows, gathered
from imagecot.contracts.values import JSON


@dataclass(frozen=True)
class Usage:
    """What a verifier has done since it was made.

    judge_calls    answers: one a question about one image
    tokens_judged  tokens that it read, and wrote, for them
    seconds        time that it says it took; where it says nothing (0) whoever asks has measured it
    """

    judge_calls: int = 0
    tokens_judged: int = 0
    seconds: float = 0.0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.judge_calls + other.judge_calls,
            self.tokens_judged + other.tokens_judged,
            self.seconds + other.seconds,
        )

    def __sub__(self, other: "Usage") -> "Usage":
        return Usage(
            self.judge_calls - other.judge_calls,
            self.tokens_judged - other.tokens_judged,
            self.seconds - other.seconds,
        )


def recorded(p_yes: float) -> float:
    """P(yes) in the digits that searches compare and records hold: four decimals, or three digits of what is less.

    Near 0 and near 1 it has more decimals: three digits of P(yes), or of what it lacks to 1. In float32 P(yes) depends
    in the seventh digit on what else is in a batch, and on whether a model runs here or behind a server.
    """
    rest = min(p_yes, 1 - p_yes)
    return round(p_yes, max(4, 2 - math.floor(math.log10(rest)))) if rest > 0 else p_yes


@runtime_checkable
class Selectable(Protocol):
    """What a search needs of the conversations about B images, whoever wrote them: those about some of the images."""

    def select(self, indices: Tensor) -> Self:
        """The conversations of some images: indices (k,) int64 or (B,) bool."""
        ...


@dataclass(frozen=True, eq=False)
class Conversation:
    """A turn that was read about B images, for a follow-up question that encodes no image again.

    question  what was asked
    own       what belongs to each image, such as keys and values: a nesting of tensors with leading dimension B
    shared    what all have in common; never gathered
    """

    question: Question
    own: Any = None
    shared: Any = None

    def select(self, indices: Tensor) -> Self:
        """The conversations of some images: indices (k,) int64 or (B,) bool."""
        return replace(self, own=gathered(self.own, indices))

    def check(self, images: int) -> None:
        """ValueError where this is no conversation about so many images."""
        check_rows(self.own, images)


@runtime_checkable
class Verifier(Protocol):
    """Answers yes/no questions about images with P(yes)."""

    @property
    def settings(self) -> Mapping[str, JSON]:
        """Everything but the weights that changes an answer, as JSON knows it: a part of every identity."""
        ...

    @property
    def usage(self) -> Usage:
        """What it has done so far."""
        ...

    def ask(self, images: Tensor, prompts: list[str], question: Question, after: Conversation | None = None) -> Tensor:
        """P(yes) (B,) for images (B, 3, H, W) in [0, 1] and one prompt for each, or one for all.

        after  the conversations that a follow-up question continues; `images` are not looked at then
        """
        ...

    def begin(self, images: Tensor, prompts: list[str], question: Question) -> tuple[Tensor, Conversation]:
        """P(yes) (B,), and the conversations that a follow-up question continues."""
        ...


@runtime_checkable
class Advised(Protocol):
    """A verifier that knows how it likes to be searched with; what the user says goes before."""

    @property
    def advice(self) -> Mapping[str, Mapping[str, JSON]]:
        """Settings of searches by their names, such as {"parm": {"first_step": 6, "keep": 0.4}}."""
        ...


@runtime_checkable
class Answering(Protocol):
    """A verifier that answers any question about an image, and tells how probable an answer in a word or two is."""

    def answer_probability(self, images: Tensor, questions: list[str], answers: list[list[str]]) -> Tensor:
        """The probability (B,) in [0, 1] that its answer to each of B questions begins as one of the spellings.

        images     (B, 3, H, W) in [0, 1], or one (1, 3, H, W) that all questions are about
        questions  B texts, as they are asked
        answers    of each question the spellings of one answer, such as "Yes" and "yes"; what begins two of them counts
                   once

        UsageError for a question that cannot be asked; ImagecotError where no spelling can be told from other answers.
        """
        ...
