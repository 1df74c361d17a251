"""How people are told what goes on in long work; by default they are not."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol


class Progress(Protocol):
    """Is told how far a work is."""

    def __call__(self, done: int, of: int, note: str = "") -> None:
        """So many parts of so many are done; `note` is a word on the last ones, such as a loss."""
        ...


def _nobody(done: int, of: int, note: str = "") -> None:
    """Nobody is told."""


@dataclass(frozen=True)
class Watch:
    """Where sentences and progress go.

    tell      is given a sentence
    waiting   a context while something takes long, given what
    progress  a context of work, given what; yields what is told how far it is
    """

    tell: Callable[[str], None] = lambda text: None
    waiting: Callable[[str], AbstractContextManager[object]] = nullcontext
    progress: Callable[[str], AbstractContextManager[Progress]] = lambda text: nullcontext(_nobody)


SILENT = Watch()
"""Nobody is told."""
