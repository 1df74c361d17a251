"""Which questions a verifier can answer, and which ones a search asks."""

from typing import Protocol, runtime_checkable

from imagecot.contracts.questions import Question


@runtime_checkable
class Selective(Protocol):
    """A verifier that cannot answer every question, and knows which."""

    def check_question(self, question: Question) -> None:
        """Raise UsageError, saying why, for a question that this verifier cannot answer; `ask` does so too."""
        ...


@runtime_checkable
class Asking(Protocol):
    """A search that says what it asks, so that a verifier which cannot answer is refused before anything is drawn."""

    @property
    def questions(self) -> frozenset[Question]:
        """What it asks besides the ORM question."""
        ...
