"""How people are told what goes on in long work; by default they are not."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
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


def together(*watches: Watch) -> Watch:
    """One that tells all of these."""

    def tell(text: str) -> None:
        for one in watches:
            one.tell(text)

    @contextmanager
    def waiting(text: str) -> Iterator[None]:
        with ExitStack() as stack:
            for one in watches:
                stack.enter_context(one.waiting(text))
            yield

    @contextmanager
    def progress(text: str) -> Iterator[Progress]:
        with ExitStack() as stack:
            movers = [stack.enter_context(one.progress(text)) for one in watches]

            def move(done: int, of: int, note: str = "") -> None:
                for one in movers:
                    one(done, of, note)

            yield move

    return Watch(tell, waiting, progress)
