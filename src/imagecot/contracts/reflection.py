"""What a verifier says when it is asked what is wrong with an image: yes, or no with reasons (paper, section 3.4)."""

from dataclasses import asdict, dataclass
from typing import Any

from imagecot.reflection.discrepancies import Discrepancy, parse, without_answer

ANSWER_TOKENS = 96  # a reflection ends here where the verifier does not end it


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
    def discrepancies(self) -> list[Discrepancy]:
        """What of the reasons could be understood."""
        return parse(self.reasons)

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

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as JSON knows it, with what was understood and what is odd, for people."""
        understood = [asdict(discrepancy) for discrepancy in self.discrepancies]
        return {**asdict(self), "discrepancies": understood, "problem": self.problem}
