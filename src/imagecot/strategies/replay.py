"""A search on recorded paths: its own code runs, and nothing is drawn or judged.

A recorded path has what the verifier said of its image, and of its previews after some steps. So a search that stops
paths or ends early finds in a record what it would find itself. One that forks paths, corrects them or goes back draws
what no record has.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import torch
from torch import Tensor

from imagecot.contracts.correction import Correction
from imagecot.contracts.questions import ORM, Question
from imagecot.contracts.search import Assess, Candidate, Choice, Select, Strategy, Verdict
from imagecot.contracts.verifier import Verifier
from imagecot.errors import ImagecotError
from imagecot.guard import called

STEP, PREVIEW, DECODE = "step", "preview", "decode"  # units of work beside the verifier's questions


class NotRecordedError(ImagecotError):
    """A search asks for what its records do not hold."""


@dataclass(frozen=True)
class Recorded:
    """The paths of a prompt.

    steps    of each path
    final    P(yes) to the ORM question about the final images, one a path
    seen     the same of previews, by step and question
    """

    steps: int
    final: Sequence[float]
    seen: Mapping[tuple[int, str], Sequence[float]]


@dataclass
class Spent:
    """What a search did: calls, and paths or images in them, by unit of work."""

    calls: Counter[str] = field(default_factory=Counter)
    items: Counter[str] = field(default_factory=Counter)

    def add(self, unit: str, items: int) -> None:
        """Count a call."""
        self.calls[unit] += 1
        self.items[unit] += items


def replay(search: Strategy, settings: Any, recorded: Recorded, order: Sequence[int]) -> tuple[int, Spent]:
    """Return which path a search takes, and what it does, where it draws the recorded paths in this order.

    NotRecordedError where it asks for what is not recorded.
    """
    run = Replay(recorded, order, settings)
    choice: Choice[Candidate] = called(search, "choose", lambda: search.choose(run))
    return choice.candidates[choice.index].seed, run.spent


@dataclass(frozen=True)
class _Steps:
    """All that a search needs to know of the generator of recorded paths."""

    steps: int


@dataclass(frozen=True)
class _Said:
    """Conversations about images, of which nothing has to be remembered."""

    def select(self, indices: Tensor) -> "_Said":
        return self


@dataclass(frozen=True)
class _Paths:
    """What searches need to know of `Paths`, without a tensor, since nothing is drawn and very much is tried.

    places  of the paths in the record
    """

    places: Sequence[int]
    step: int
    steps: int

    def __len__(self) -> int:
        return len(self.places)

    @property
    def finished(self) -> bool:
        return self.step >= self.steps

    @property
    def seeds(self) -> Tensor:
        return torch.tensor(self.places)

    def select(self, indices: Sequence[int], seeds: Tensor | None = None) -> "_Paths":
        if seeds is not None:
            _refuse("forks paths")
        return _Paths([self.places[row] for row in indices], self.step, self.steps)


@dataclass
class Replay:
    """`imagecot.contracts.Run` on recorded paths, whose seeds are their places in the record."""

    recorded: Recorded
    order: Sequence[int]
    settings: Any
    spent: Spent = field(default_factory=Spent)
    prompt: str = ""
    verifier: Verifier | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        self.n = len(self.order)
        self.generator: Any = _Steps(self.recorded.steps)

    @property
    def seeds(self) -> Tensor:
        """The places of its paths."""
        return torch.tensor(self.order)

    def in_groups(
        self, assess: Assess | None = None, *, together: bool = False, among: range | None = None
    ) -> list[Candidate]:
        """As of `Run`, in one group."""
        among = among or range(self.n)

        def going(paths: Any, alive: list[Candidate]) -> list[int]:
            stopped = set(assess(self, paths, alive)) if assess else set()
            return [row for row in range(len(alive)) if row not in stopped]

        return self._drawn(self.order[among.start : among.stop], going)

    def population(self, select: Select, after: Collection[int]) -> list[Candidate]:
        """As of `Run`; NotRecordedError for a fork."""

        def going(paths: Any, alive: list[Candidate]) -> list[int]:
            rows = sorted(select(self, paths, alive)) if paths.step in after else [*range(len(alive))]
            if len(set(rows)) < len(rows):
                _refuse("forks paths")
            return rows

        return self._drawn(self.order, going)

    def _drawn(self, seeds: Sequence[int], going: Callable[[Any, list[Candidate]], list[int]]) -> list[Candidate]:
        """Take paths to their end, but for those whose rows do not go on after a step, and score the others."""
        candidates = [Candidate(seed) for seed in seeds]
        alive: list[Candidate] = candidates
        paths: Any = _Paths(seeds, 0, self.recorded.steps)
        while alive and not paths.finished:
            paths = self.advance(paths, alive)
            rows = going(paths, alive) if not paths.finished else [*range(len(alive))]
            if len(rows) < len(alive):
                for row in set(range(len(alive))).difference(rows):
                    alive[row].truncated_at = paths.step
                paths, alive = paths.select(rows), [alive[row] for row in rows]
        if alive:
            self.score(paths, alive)
        return candidates

    def start(self, seeds: Tensor) -> Any:
        """Paths at step 0."""
        return _Paths(seeds.tolist(), 0, self.recorded.steps)

    def resume(self, *candidates: Candidate) -> Any:
        """Stopped paths as they were then."""
        return _Paths([one.seed for one in candidates], candidates[0].truncated_at or 0, self.recorded.steps)

    def advance(self, paths: Any, candidates: list[Candidate]) -> Any:
        """One step further."""
        self.spent.add(STEP, len(candidates))
        return _Paths(paths.places, paths.step + 1, paths.steps)

    def preview(self, paths: Any) -> Any:
        """Nothing to look at, but places (B,): what was said of it is recorded."""
        self.spent.add(PREVIEW, len(paths))
        return paths.seeds

    def ask(
        self, images: Any, candidates: list[Candidate], step: int, question: Question, after: object = None
    ) -> list[float]:
        """What was said."""
        final = step == self.recorded.steps and question == ORM
        said = self.recorded.final if final else self.recorded.seen.get((step, question.name))
        if said is None:
            _refuse(f"asks the question {question.name} after step {step}")
        self.spent.add(question.name, len(candidates))
        answers = [said[one.seed] for one in candidates]
        for one, p in zip(candidates, answers, strict=True):
            one.verdicts.append(Verdict(step, question.name, p))
        return answers

    def begin(self, images: Any, candidates: list[Candidate], step: int, question: Question) -> tuple[list[float], Any]:
        """As `ask`."""
        return self.ask(images, candidates, step, question), _Said()

    def score(self, paths: Any, candidates: list[Candidate]) -> None:
        """The recorded scores."""
        self.spent.add(DECODE, len(candidates))
        for one, p in zip(candidates, self.ask(None, candidates, paths.step, ORM), strict=True):
            one.score = p

    def once(self, unit: str, draw: Callable[[], list[Candidate]]) -> list[Candidate]:
        """NotRecordedError: what it draws is not known."""
        _refuse("draws paths of its own")

    def show(self, candidate: Candidate) -> None:
        """Nobody looks."""

    def rewind(self, paths: Any, share: float, seeds: Tensor) -> Any:
        """NotRecordedError."""
        _refuse("goes back")

    def redraw(self, correction: Correction, seeds: Tensor) -> list[Candidate]:
        """NotRecordedError."""
        _refuse("corrects images")

    def reflect(self, candidate: Candidate) -> Any:
        """NotRecordedError."""
        _refuse("asks what is wrong with an image")


def _refuse(what: str) -> NoReturn:
    raise NotRecordedError(f"it {what}, which is not recorded")
