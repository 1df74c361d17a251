"""What decides which paths live: a strategy, what it works with, and what it leaves."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, runtime_checkable

if TYPE_CHECKING:
    from PIL.Image import Image
    from pydantic import BaseModel
    from torch import Tensor

    from imagecot.contracts.correction import Correction
    from imagecot.contracts.generator import Generator
    from imagecot.contracts.paths import Paths
    from imagecot.contracts.questions import Question
    from imagecot.contracts.reflection import Reflection
    from imagecot.contracts.values import JSON
    from imagecot.contracts.verifier import Conversation, Verifier

Taken = TypeVar("Taken", covariant=True)  # what a search chooses among: candidates, or records when it is replayed


@dataclass(frozen=True)
class Cost:
    """What was spent.

    seconds         wall clock of drawing and judging; loading and the picture of the steps are no part of it
    judge_seconds   of these, what the verifier took
    generator_rows  rows of the generator's forward passes, the unconditional ones of guidance included, counted path by
                    path; rows of equal prompt and codes are computed once
    previews        images decoded
    judge_calls     answers of the verifier: one a question about one image
    tokens_judged   tokens that the verifier read for them
    """

    seconds: float = 0.0
    judge_seconds: float = 0.0
    generator_rows: int = 0
    previews: int = 0
    judge_calls: int = 0
    tokens_judged: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*(ours + theirs for ours, theirs in zip(astuple(self), astuple(other), strict=True)))

    def __sub__(self, other: "Cost") -> "Cost":
        return Cost(*(ours - theirs for ours, theirs in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class Verdict:
    """The verifier's answer P(yes) to a question (`orm`, `prm`, ...) about a path after `step` steps.

    fill  how the preview was completed that it saw, where the path was unfinished and its generator is `Filling`
    """

    step: int
    question: str
    p_yes: float
    fill: str | None = None


@dataclass
class Candidate:
    """One path of a search.

    image         what it drew; None where it was truncated, or was not among the best of very many paths
    truncated_at  the step after which it was given up, or None
    first_clear   the first step whose preview was clear enough to judge, or None
    resumed_at    the step from which a stopped path was taken up again because none was left, or None
    score         what the choice is made by: P(yes) to the last question about the finished image
    round         the round of reflection in which it was drawn, 0 for those drawn from the prompt alone
    corrects      the index of the candidate in whose place it was drawn, or None
    forks         the index of the candidate that it left to go on under a seed of its own, or None
    forked_at     the step after which it did, or to which it went back: until then it is what that one was, whose
                  verdicts are not repeated
    reflection    what the verifier said when asked what is wrong with the image, or None
    state         the decided image codes (N,) of a path that was given up, to take it up again
    codes         step -> image codes (N,), predicted or decided, of steps that are shown or at which it was judged
    previews      step -> image, decoded from `codes` when the trace is written
    """

    seed: int
    image: "Image | None" = None
    truncated_at: int | None = None
    first_clear: int | None = None
    resumed_at: int | None = None
    verdicts: list[Verdict] = field(default_factory=list)
    score: float | None = None
    round: int = 0
    corrects: int | None = None
    forks: int | None = None
    forked_at: int | None = None
    reflection: "Reflection | None" = None
    state: "Tensor | None" = field(default=None, repr=False, compare=False)
    codes: "dict[int, Tensor]" = field(default_factory=dict, repr=False, compare=False)
    previews: "dict[int, Image]" = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class PathRecord:
    """What a study keeps of one path, whose search is replayed on it.

    score        P(yes) to the ORM question about the finished image; None where nobody asked
    stopped      the step after which the search gave it up when it was observed, or None
    first_clear  the first step whose preview was clear enough to judge, or None
    potential    P(yes) to the potential question at that step, or None
    """

    score: float | None = None
    stopped: int | None = None
    first_clear: int | None = None
    potential: float | None = None


@dataclass(frozen=True)
class Choice(Generic[Taken]):
    """All that a search looked at, and the index of what it takes."""

    candidates: Sequence[Taken]
    index: int


# After a step: the rows to stop, of the paths of a search and the candidates that they are, one a path.
Assess = Callable[["Run", "Paths", list[Candidate]], list[int]]
# The same, but the rows that go on: each as often as it is named, so that a row which is named twice is forked.
Select = Callable[["Run", "Paths", list[Candidate]], list[int]]


class Run(Protocol):
    """One search in progress: the models with everything counted, and what a killed run left.

    n         how many paths were asked for
    settings  an instance of the strategy's `Settings`
    """

    prompt: str
    generator: "Generator"
    verifier: "Verifier | None"
    n: int
    seed: int
    settings: Any

    @property
    def seeds(self) -> "Tensor":
        """The seeds (n,) of its paths: the k-th depends on `seed` and k alone."""
        ...

    def in_groups(
        self, assess: Assess | None = None, *, together: bool = False, among: range | None = None
    ) -> list[Candidate]:
        """Take all n paths from step 0 to their end, groups of bounded size at a time, stop those that `assess` gives
        up, and score the others by the ORM question.

        together  whether `assess` compares paths with each other, so that all of them should be one group
        among     the numbers of the paths that are taken, side by side, where not all n are
        """
        ...

    def population(self, select: Select, after: Collection[int]) -> list[Candidate]:
        """Take n paths from step 0 to their end together, and score those that reach it by the ORM question.

        select  called after each of the steps `after`: the rows that go on; the others stop, and a row that is named k
                times goes on k times, once as it is and as k - 1 forks under seeds of their own, new candidates

        What `select` decides by stands in the candidates and the paths, as an interrupted run goes on behind the last
        of these steps.
        """
        ...

    def rewind(self, paths: "Paths", share: float, seeds: "Tensor") -> "Paths":
        """Return the paths at an earlier step, without the share of their drawn codes that is least probable.

        share  of the drawn codes, in (0, 1]
        seeds  (B,) under which they go on

        Of a generator that is `Remasker` and `Doubting`, as the need "remasker" says.
        """
        ...

    def start(self, seeds: "Tensor") -> "Paths":
        """Return paths of seeds (B,) at step 0."""
        ...

    def advance(self, paths: "Paths", candidates: list[Candidate]) -> "Paths":
        """Return the paths, which are these candidates, one step further."""
        ...

    def resume(self, *candidates: Candidate) -> "Paths":
        """Return the paths of candidates that were given up after the same step, as they were then."""
        ...

    def preview(self, paths: "Paths") -> "Tensor":
        """Return the images (B, 3, H, W) in [0, 1] that the paths predict now."""
        ...

    def ask(
        self,
        images: "Tensor",
        candidates: list[Candidate],
        step: int,
        question: "Question",
        after: "Conversation | None" = None,
    ) -> list[float]:
        """Return P(yes) for images (B, 3, H, W), noted as verdicts of the candidates after `step` steps."""
        ...

    def begin(
        self, images: "Tensor", candidates: list[Candidate], step: int, question: "Question"
    ) -> "tuple[list[float], Conversation]":
        """Like `ask`, and return the conversations that a follow-up question continues."""
        ...

    def score(self, paths: "Paths", candidates: list[Candidate]) -> None:
        """Decode finished paths into the images of their candidates, and ask the ORM question about them."""
        ...

    def show(self, candidate: Candidate) -> None:
        """See to it that a finished candidate has its image: of very many, only those of the best are kept."""
        ...

    def reflect(self, candidate: Candidate) -> "Reflection":
        """Ask what is wrong with the image of a finished candidate."""
        ...

    def redraw(self, correction: "Correction", seeds: "Tensor") -> list[Candidate]:
        """Draw paths of seeds (B,) to their end that correct a rejected image, and score them."""
        ...

    def once(self, unit: str, draw: Callable[[], list[Candidate]]) -> list[Candidate]:
        """Do a named unit of work, or read back what an interrupted run kept of it."""
        ...


@runtime_checkable
class Strategy(Protocol):
    """A search: which paths live, and which of them is taken.

    Settings  the pydantic model of its options; its defaults are the paper's, and its descriptions are the help
    needs     of {"verifier", "reflector", "corrector", "remasker"}: what it does not work without
    """

    @property
    def Settings(self) -> "type[BaseModel]":
        """The model of its options."""
        ...

    @property
    def needs(self) -> frozenset[str]:
        """What it does not work without."""
        ...

    def paths(self, n: int) -> int:
        """How many paths it draws where n are asked for, corrections and forks aside."""
        ...

    def choose(self, run: Run) -> Choice[Candidate]:
        """Draw, judge and choose."""
        ...

    def replay(self, recorded: Sequence[PathRecord], settings: Any) -> Choice[PathRecord] | None:
        """What it would take of recorded paths, all of which have a score; None for a search that draws its own.

        A study asks this of groups of one path and more.
        """
        ...


@runtime_checkable
class Batched(Protocol):
    """A search whose n paths advance side by side, so that those of several prompts can share a batch."""

    def assess(self, run: Run, paths: "Paths", candidates: list[Candidate]) -> list[int]:
        """Return the rows of the paths that stop after this step; called by `Run.in_groups(self.assess)`."""
        ...


@runtime_checkable
class InRounds(Protocol):
    """A search that draws its paths in rounds, so that a round of several prompts can share a batch."""

    def next_round(self, run: Run, candidates: Sequence[Candidate]) -> range | None:
        """Return the numbers of the paths to draw next, right behind these candidates of the run; None at the end.

        `choose` draws them by `run.in_groups(among=...)`, and ends where that returns nothing: several searches share a
        budget, and it is spent.
        """
        ...


@runtime_checkable
class Calibrated(Protocol):
    """A search that says which of its settings are worth comparing, so that `imagecot calibrate` can choose."""

    def trials(self, steps: int, scores: Sequence[float]) -> "Sequence[Mapping[str, JSON]]":
        """Return settings to try, each a part of `Settings`; those that do not fit are left out.

        steps   of a path
        scores  P(yes) of the final images of many paths, in no order: what this verifier's answers are like
        """
        ...
