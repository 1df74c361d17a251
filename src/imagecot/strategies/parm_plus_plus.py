"""parm++: the winner of parm is asked what is wrong with it, and drawn again, in at most three rounds of reflection.

The paper's section 3.4. A yes to the reflection question ends the search. Otherwise the generator draws again from
prompt, rejected image and reasons: a fifth as many paths as parm had, at least one, in every round. The best of them
by the ORM question is the image that the next round reflects on. The best by that question over all rounds wins.

In the paper one generator does both. Another one may correct (`corrector`), so that a generator that is better at
drawing, such as an aligned one, keeps doing that.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from imagecot.contracts.search import Candidate, Choice, PathRecord, Run
from imagecot.strategies.parm import Parm, ParmSettings
from imagecot.strategies.trace import ranked

if TYPE_CHECKING:
    from torch import Tensor

    from imagecot.contracts.correction import Correction
    from imagecot.contracts.paths import Paths
    from imagecot.contracts.reflection import Reflection

ROUNDS = 3
# From a rejected candidate and the reflection on it to the correction that the generator reads; ablations tell less.
Telling = Callable[[Candidate, "Reflection"], "Correction"]


class ParmPlusPlus:
    """As parm; then the verifier says what is wrong with the choice, and it is drawn again."""

    Settings = ParmSettings
    needs = frozenset({"verifier", "reflector", "corrector"})
    _first = Parm()
    questions = _first.questions

    def paths(self, n: int) -> int:
        """As many as are asked for; the corrections come on top."""
        return n

    def choose(self, run: Run) -> Choice[Candidate]:
        """Return the candidates of parm and of every round, and the best that finished."""
        first = self._first.choose(run)
        candidates = [*first.candidates]
        correct(run, candidates, first.index)
        return Choice(candidates, ranked(candidates)[0])

    def assess(self, run: Run, paths: "Paths", candidates: list[Candidate]) -> list[int]:
        """As of parm."""
        return self._first.assess(run, paths, candidates)

    def replay(self, recorded: Sequence[PathRecord], settings: ParmSettings) -> None:
        """It draws paths of its own."""


def everything(rejected: Candidate, reflection: "Reflection") -> "Correction":
    """The image and the reasons, as far as the verifier gave any."""
    from imagecot.contracts.correction import Correction

    return Correction(codes_of(rejected), reflection.reasons)


def codes_of(finished: Candidate) -> "Tensor":
    """The codes (N,) of a finished candidate's image."""
    return finished.codes[max(finished.codes)]


def correct(run: Run, candidates: list[Candidate], current: int, tell: Telling = everything) -> None:
    """Reflect on the candidate `current` and draw it again, round by round; what is drawn joins `candidates`."""
    for number in range(1, ROUNDS + 1):
        rejected, *drawn = run.once(f"round-{number}", partial(_round, run, candidates[current], tell))
        candidates[current] = rejected  # after a resume it is what the interrupted run wrote
        if not drawn:
            return
        for candidate in drawn:
            candidate.round, candidate.corrects = number, current
        first = len(candidates)
        candidates += drawn
        current = first + ranked(drawn)[0]


def _round(run: Run, rejected: Candidate, tell: Telling) -> list[Candidate]:
    """Return the candidate with the reflection on it, then what was drawn in its place: nothing after a yes."""
    import torch

    from imagecot.contracts.randomness import fork_seeds

    rejected.reflection = run.reflect(rejected)
    if rejected.reflection.accepted:
        return [rejected]
    seeds = fork_seeds(torch.tensor([rejected.seed]), max(1, run.n // 5))
    return [rejected, *run.redraw(tell(rejected, rejected.reflection), seeds)]
