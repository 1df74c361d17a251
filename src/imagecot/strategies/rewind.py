"""rewind: where a middle verdict says no, the doubtful codes of a path are taken back and drawn anew.

Of generators that draw by masks, which can hide again what they drew. All paths run to a middle step. Those whose
preview gets a yes run on. Of the others the share of the drawn codes that is least probable, each given some of the
others, is masked again: the path goes back to the step that draws so many, and on from there under a new seed. After
the last try paths run on whatever is said. The best by the ORM question is taken.

Taking back what is doubtful is the iterative refinement of mask-predict (Ghazvininejad et al., 2019, arXiv 1904.09324),
and the corrector of Lezama et al. (2022, arXiv 2209.04439), which learns what to take back. Departures: a verifier
decides which paths go back, nothing is trained, and the probability of a code is computed anew with halves of the
image hidden in turn, as what a code had when it was drawn was given fewer others.
"""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, Field

from imagecot.contracts.questions import ORM
from imagecot.contracts.search import Candidate, Choice, PathRecord, Run
from imagecot.strategies.first_step import FirstStep, first_step
from imagecot.strategies.options import OPTIONS
from imagecot.strategies.trace import ranked

if TYPE_CHECKING:
    from torch import Tensor

    from imagecot.contracts.paths import Paths

YES = 0.5


class RewindSettings(BaseModel):
    """When paths are judged, and how much of them is drawn anew."""

    model_config = OPTIONS

    first_step: FirstStep = None
    back: Annotated[float, Field(gt=0, le=1)] = Field(
        0.5, description="The share of the drawn codes that is taken back, the least probable ones."
    )
    tries: Annotated[int, Field(ge=1, le=100)] = Field(1, description="How often a path is taken back at most.")


class Rewind:
    """Paths that are refused on their way are drawn anew in part."""

    Settings = RewindSettings
    needs = frozenset({"verifier", "remasker"})

    def paths(self, n: int) -> int:
        """As many as are asked for; what is drawn anew comes on top."""
        return n

    def choose(self, run: Run) -> Choice[Candidate]:
        """Return all candidates, those that went back beside what they became, and the best that finished."""
        from imagecot.strategies.run import LARGEST_GROUP

        candidates: list[Candidate] = []
        for first in range(0, run.n, LARGEST_GROUP):
            seeds, tries = run.seeds[first : first + LARGEST_GROUP], run.settings.tries
            drawn = run.once(f"rewind-{first:06d}-0", partial(_begin, run, seeds))
            refused = _add(candidates, drawn)
            for number in range(1, tries + 1):
                if not refused:
                    break
                again = partial(_again, run, [(k, candidates[k]) for k in refused], number == tries)
                refused = _add(candidates, run.once(f"rewind-{first:06d}-{number}", again))
        return Choice(candidates, ranked(candidates)[0])

    def replay(self, recorded: Sequence[PathRecord], settings: RewindSettings) -> None:
        """It draws codes anew."""


def _add(candidates: list[Candidate], drawn: list[Candidate]) -> list[int]:
    """Add candidates; return the indices of those that were refused."""
    before = len(candidates)
    candidates += drawn
    return [before + k for k, candidate in enumerate(drawn) if candidate.truncated_at is not None]


def _begin(run: Run, seeds: "Tensor") -> list[Candidate]:
    """Draw paths of seeds (B,) from step 0."""
    candidates = [Candidate(seed) for seed in seeds.tolist()]
    _finish(run, run.start(seeds), candidates, last=False)
    return candidates


def _again(run: Run, refused: Sequence[tuple[int, Candidate]], last: bool) -> list[Candidate]:
    """Take refused candidates back, which are told with their indices, and draw what they become."""
    import torch

    from imagecot.contracts.randomness import fork_seeds

    seeds = fork_seeds(torch.tensor([candidate.seed for _, candidate in refused]), 1)
    paths = run.rewind(run.resume(*(candidate for _, candidate in refused)), run.settings.back, seeds)
    candidates = []
    for (k, candidate), seed in zip(refused, seeds.tolist(), strict=True):
        shown = {step: codes for step, codes in candidate.codes.items() if step <= paths.step}
        candidates.append(Candidate(seed, forks=k, forked_at=paths.step, codes=shown))
    _finish(run, paths, candidates, last)
    return candidates


def _finish(run: Run, paths: "Paths", candidates: list[Candidate], last: bool) -> None:
    """Take paths to the middle step, stop there those that are refused unless it is the last try, finish the others."""
    # Paths that were taken back have nothing to show before their next step.
    middle = max(first_step(run, run.settings.first_step), paths.step + 1)
    while paths.step < middle:
        paths = run.advance(paths, candidates)
    if not last and not paths.finished:
        answers = run.ask(run.preview(paths), candidates, paths.step, ORM)
        for row, candidate in enumerate(candidates):
            if answers[row] < YES:
                candidate.truncated_at, candidate.state = paths.step, paths.codes[row].cpu()
        going = [row for row, answer in enumerate(answers) if answer >= YES]
        paths, candidates = paths.select(going), [candidates[row] for row in going]
    if not candidates:
        return
    while not paths.finished:
        paths = run.advance(paths, candidates)
    run.score(paths, candidates)
