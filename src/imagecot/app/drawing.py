"""A search whose grid is seen while it is drawn: it runs in a thread of its own, and can be stopped between steps."""

import queue
import shlex
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from imagecot.app.grid import Grid
from imagecot.errors import UsageError
from imagecot.serving.draw import opened, told
from imagecot.serving.looking import Look, Onlooker
from imagecot.serving.messages import Other
from imagecot.serving.others import others
from imagecot.serving.shelf import Shelf
from imagecot.strategies.search import carry_out
from imagecot.strategies.trace import Trace
from imagecot.watch import Watch

MOST_LETTERS = 500  # of a prompt


class Stop(BaseException):
    """The search was stopped by whoever looks on; no `except Exception` catches it."""


@dataclass(frozen=True)
class Wish:
    """What somebody asks for; None for what the generator's checkpoint says."""

    prompt: str
    generator: str
    verifier: str | None
    search: str | None
    n: int
    seed: int

    def asked(self, most: int) -> dict[str, object]:
        """The values of a recipe; UsageError for a prompt that is too long, and for more than `most` paths."""
        if len(self.prompt) > MOST_LETTERS:
            raise UsageError(f"the prompt has {len(self.prompt)} letters, but here at most {MOST_LETTERS}; shorten it.")
        if self.n > most:
            raise UsageError(f"{self.n} paths are more than the {most} of this server; ask for fewer.")
        return {
            "prompt": self.prompt,
            "generator": self.generator,
            "verifier": self.verifier,
            "search": self.search,
            "n": self.n,
            "seed": self.seed,
        }

    @property
    def command(self) -> str:
        """The command line that gives the same result."""
        words = ["imagecot", "generate", self.prompt, "--generator", self.generator]
        for option, value in (("--verifier", self.verifier), ("--search", self.search)):
            words += [option, value] if value else []
        return shlex.join([*words, "-n", str(self.n), "--seed", str(self.seed)])


@dataclass(frozen=True)
class Drawn:
    """A search that is over.

    files   gives those of its trace
    others  what other searches would have chosen of its paths; ImagecotError where that cannot be said
    """

    trace: Trace
    files: Callable[[], Mapping[str, bytes]]
    others: Callable[[], list[Other]]


@dataclass(frozen=True)
class Shown:
    """What is to be seen now.

    html  the grid
    told  a sentence: what goes on, or what went wrong
    done  what was drawn, at the end; None where there is none
    """

    html: str = ""
    told: str = ""
    failed: bool = False
    done: Drawn | None = None


class Easel(Protocol):
    """Who draws for the page."""

    @property
    def most(self) -> int:
        """Paths of a search at most."""
        ...

    def draw(self, wish: Wish, stop: threading.Event) -> Iterator[Shown]:
        """What is to be seen while a wish is drawn, the last with what was drawn; closing it, or `stop`, ends it."""
        ...


@dataclass
class Studio:
    """An easel of its own: the models of an app, and the one thread at a time that draws with them.

    most  paths of a search at most
    """

    shelf: Shelf
    most: int
    _drawing: threading.Lock = field(default_factory=threading.Lock)

    def draw(self, wish: Wish, stop: threading.Event) -> Iterator[Shown]:
        """What is to be seen while a wish is drawn, the last with its trace; closing it, or `stop`, ends the search."""
        events: queue.SimpleQueue[Shown | None] = queue.SimpleQueue()
        thread = threading.Thread(target=self._work, args=(wish, stop, events.put), daemon=True)
        thread.start()
        try:
            while (event := events.get()) is not None:
                yield event
        finally:
            stop.set()

    def _work(self, wish: Wish, stop: threading.Event, emit: Callable[[Shown | None], None]) -> None:
        try:
            with self._drawing:
                emit(self._drawn(wish, stop, emit))
        except Stop:
            emit(Shown(told="stopped"))
        except Exception as error:
            emit(Shown(told=told(error), failed=True))
        finally:
            emit(None)

    def _drawn(self, wish: Wish, stop: threading.Event, emit: Callable[[Shown], None]) -> Shown:
        warned: list[str] = []

        @contextmanager
        def waiting(text: str) -> Iterator[None]:
            emit(Shown(told=text))
            yield

        request = opened(wish.asked(self.most), self.shelf, Watch(warned.append, waiting))
        grid, warning = Grid(), " ".join(warned)

        def progress(done: int, of: int) -> None:
            if stop.is_set():
                raise Stop

        def compare() -> list[Other]:
            with self._drawing:
                return others(request, trace)

        onlooker = Onlooker(request.generator, lambda look: emit(seen(grid, look, warning)))
        trace = carry_out(request, progress=progress, watcher=onlooker)
        return finished(grid, Drawn(trace, trace.files, compare), warning)


def seen(grid: Grid, look: Look, warning: str) -> Shown:
    """What is to be seen after a step."""
    return Shown(grid.add(look), f"step {look.step} of {look.steps} {warning}".strip())


def finished(grid: Grid, drawn: Drawn, warning: str) -> Shown:
    """What is to be seen in the end."""
    return Shown(grid.finished(drawn.trace), f"{told_of(drawn.trace)} {warning}".strip(), done=drawn)


def told_of(trace: Trace) -> str:
    """Why the choice was made, and what it cost, in a sentence."""
    cost = trace.cost
    score = f", P(yes) {trace.choice.score:.2f}" if trace.choice.score is not None else ""
    judge = f", of which {cost.judge_seconds:.1f} s for {cost.judge_calls} judge calls" if cost.judge_calls else ""
    return (
        f"{trace.strategy} chose path {trace.chosen + 1}{score}; {trace.kept} of {len(trace.candidates)} paths ran to "
        f"their end; {cost.seconds:.1f} s{judge}, {cost.generator_rows} generator rows."
    )


def rounds_of(trace: Trace) -> str:
    """What the verifier said in each round of reflection, a line each; empty without rounds."""
    lines = []
    for number, found in enumerate(trace.rounds, 1):
        drawn = ", ".join(str(one + 1) for one in found.drawn)
        after = f"drawn again as path {drawn}" if drawn else "nothing was drawn again"
        said = " ".join(found.reflection.text.split()) or "nothing"
        p_yes = found.reflection.p_yes
        lines.append(f"Round {number}: of path {found.candidate + 1} it says “{said}”, P(yes) {p_yes:.2f}; {after}.")
    return "\n".join(lines)
