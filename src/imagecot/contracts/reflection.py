"""What a verifier says when it is asked what is wrong with an image: yes, or no with reasons (paper, section 3.4)."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

_ANSWER = re.compile(r"^\s*(yes|no)\b(?:\s*[,.:;]\s*|\s*$)", re.IGNORECASE)


@dataclass(frozen=True)
class Reflection:
    """One answer to the reflection question.

    text      as it was written, greedily
    p_yes     P(yes) of its first token, which decides whether the image is accepted
    complete  whether the verifier ended it before the bound on its length
    """

    text: str
    p_yes: float
    complete: bool = True

    @property
    def accepted(self) -> bool:
        """Whether the verifier has nothing to correct."""
        return self.p_yes >= 0.5

    @property
    def reasons(self) -> str:
        """What is wrong, in words; empty where the image is accepted, the answer says yes or gives no reason."""
        return "" if self.accepted or self._says_yes else " ".join(without_answer(self.text).split())

    @property
    def problem(self) -> str | None:
        """What is odd about the answer: empty, endless or contradicting itself; None where nothing is."""
        if not self.complete:
            return "endless"
        if self.text.strip() and self.accepted != self._says_yes:
            return "contradicts itself"
        if not self.accepted and not self.reasons:
            return "empty"
        return None

    @property
    def _says_yes(self) -> bool:
        return self.text.lstrip().lower().startswith("yes")


@runtime_checkable
class Reflector(Protocol):
    """Says in words what is wrong with an image."""

    def reflect(self, images: "Tensor", prompts: list[str]) -> list[Reflection]:
        """The answers to the reflection question about images (B, 3, H, W) in [0, 1]."""
        ...


def without_answer(text: str) -> str:
    """Return what stands behind the yes or no that an answer begins with."""
    return _ANSWER.sub("", text, count=1).strip()
