"""The capability of knowing which prompts can be read."""

from typing import Protocol, runtime_checkable


@runtime_checkable
class Reader(Protocol):
    """A generator or a verifier that can tell, before anything is drawn, which prompts it reads whole."""

    def check_prompt(self, prompt: str) -> None:
        """Raise UsageError, saying why, for a prompt that this model cannot read whole and unchanged."""
        ...
