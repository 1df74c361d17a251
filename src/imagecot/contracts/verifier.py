"""What a search asks of a verifier, and what a first turn leaves for a second."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from imagecot.contracts.questions import Question
from imagecot.contracts.reflection import Reflection


@dataclass(frozen=True)
class Conversation:
    """A turn that was read: keys and values of every layer, for a follow-up that encodes no image again.

    question  what was asked
    cache     for each layer, keys and values (B, heads, n, d)
    mask      (B, n) bool, False where a row was padded on the left
    """

    question: Question
    cache: tuple[tuple[Tensor, Tensor], ...]
    mask: Tensor

    def __len__(self) -> int:
        return len(self.mask)

    def select(self, indices: Tensor) -> "Conversation":
        """The conversations of some rows: indices (k,) int64 or (B,) bool."""
        cache = tuple((keys[indices], values[indices]) for keys, values in self.cache)
        return Conversation(self.question, cache, self.mask[indices])


class Verifier(Protocol):
    """Answers yes/no questions about images; `judge_calls` and `tokens_judged` count what it has read."""

    judge_calls: int
    tokens_judged: int

    def check_prompt(self, prompt: str) -> None:
        """Raise UsageError, saying why, for a prompt that no question can be asked about."""
        ...

    def ask(self, images: Tensor, prompts: list[str], question: Question, after: Conversation | None = None) -> Tensor:
        """P(yes) (B,) for images (B, 3, H, W) in [0, 1] and one prompt for each, or one for all."""
        ...

    def begin(self, images: Tensor, prompts: list[str], question: Question) -> tuple[Tensor, Conversation]:
        """P(yes) (B,), and the conversations that a follow-up question continues."""
        ...

    def reflect(self, images: Tensor, prompts: list[str]) -> list[Reflection]:
        """The answers to the reflection question about images (B, 3, H, W), as they are written."""
        ...
