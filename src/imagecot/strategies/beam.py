"""beam: at each step n continuations of K kept paths are drawn, and the best K of them are kept.

Step-level search as of the paper's process reward model at test time (section 3.2), which keeps one (`stepwise`), with
the width of beam search guided by a verifier (Snell et al., 2024, arXiv 2408.03314, section 5.2). A candidate is the
k-th continuation at every step, so its verdicts are one a step; those that were kept share what came before.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, Field

from imagecot.bounds import MOST_PATHS
from imagecot.contracts.questions import PRM
from imagecot.contracts.search import Candidate, Choice, PathRecord, Run
from imagecot.strategies.options import OPTIONS
from imagecot.strategies.trace import ranked

if TYPE_CHECKING:
    from imagecot.contracts.paths import Paths


class BeamSettings(BaseModel):
    """How many paths are kept, and by what."""

    model_config = OPTIONS

    beams: Annotated[int, Field(ge=1, le=MOST_PATHS)] = Field(
        4, description="How many paths are kept after each step; the n continuations are shared among them."
    )


class Beam:
    """At each step the best K of n continuations of K paths are kept."""

    Settings = BeamSettings
    needs = frozenset({"verifier"})
    questions = frozenset({PRM})

    def paths(self, n: int) -> int:
        """As many continuations of every step as paths are asked for."""
        return n

    def choose(self, run: Run) -> Choice[Candidate]:
        """Return the n continuations of the last step, and the best of them."""
        settings: BeamSettings = run.settings
        return continued(run, settings.beams)

    def replay(self, recorded: Sequence[PathRecord], settings: BeamSettings) -> None:
        """It draws paths of its own."""


def continued(run: Run, beams: int) -> Choice[Candidate]:
    """Draw n continuations of the kept paths at each step, and keep the best so many; n are the last candidates."""
    candidates = [Candidate(0) for _ in range(run.n)]
    kept = [run.start(run.seeds[: min(beams, run.n)])]
    while not kept[0].finished:
        kept = _step(run, kept, candidates, beams)
    return Choice(candidates, ranked(candidates)[0])


@dataclass(frozen=True)
class _Continuation:
    """One of n: the row of the kept paths (of several batches, only where n is very large) that it goes on from."""

    batch: int
    row: int
    seed: int


def _step(run: Run, kept: "list[Paths]", candidates: list[Candidate], beams: int) -> "list[Paths]":
    """Advance all continuations, a group at a time, and return the best of them."""
    import torch

    from imagecot.images import to_pictures
    from imagecot.strategies.run import LARGEST_GROUP

    planned = _planned(kept, run.n)
    groups: list[Paths] = []
    answers: list[float] = []
    for batch in range(len(kept)):
        own = [one for one in planned if one.batch == batch]
        for first in range(0, len(own), LARGEST_GROUP):
            part = own[first : first + LARGEST_GROUP]
            group = candidates[len(answers) : len(answers) + len(part)]
            paths = kept[batch].select([one.row for one in part], seeds=torch.tensor([one.seed for one in part]))
            paths = run.advance(paths, group)
            images = run.preview(paths)
            said = run.ask(images, group, paths.step, PRM)
            for candidate, one, p in zip(group, part, said, strict=True):
                candidate.seed, candidate.score = one.seed, p
            if paths.finished:
                for candidate, picture in zip(group, to_pictures(images), strict=True):
                    candidate.image = picture
            answers += said
            groups.append(paths)
    best = sorted(range(len(answers)), key=lambda k: (-answers[k], k))[:beams]
    found, before = [], 0
    for paths in groups:
        rows = [k - before for k in best if before <= k < before + len(paths)]
        found += [paths.select(rows)] if rows else []
        before += len(paths)
    return found


def _planned(kept: "list[Paths]", n: int) -> list[_Continuation]:
    """Share n continuations among the kept paths, the better ones first; what goes on once keeps its seed."""
    from imagecot.contracts.randomness import fork_seeds

    beams = [(batch, row) for batch, paths in enumerate(kept) for row in range(len(paths))]
    each, more = divmod(n, len(beams))
    found: list[_Continuation] = []
    for k, (batch, row) in enumerate(beams):
        count, seed = each + (k < more), kept[batch].seeds[[row]].cpu()
        # The source of a continuation's randomness is the kept path's seed, the step and its number.
        seeds = fork_seeds(seed, count) if count > 1 else seed
        found += [_Continuation(batch, row, one) for one in seeds.tolist()]
    return found
