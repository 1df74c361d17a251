"""stepwise: at each step n continuations of the one kept path; the highest P(yes) to the PRM question is kept.

The paper's process reward model at test time (section 3.2). A candidate is the k-th continuation at every step, so its
verdicts are one a step; those that were kept share what came before.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from imagecot.contracts.questions import PRM
from imagecot.contracts.search import Candidate, Choice, PathRecord, Run
from imagecot.strategies.options import NoSettings
from imagecot.strategies.trace import ranked

if TYPE_CHECKING:
    import torch

    from imagecot.contracts.paths import Paths


class Stepwise:
    """At each step the best of n continuations of one path is kept."""

    Settings = NoSettings
    needs = frozenset({"verifier"})

    def paths(self, n: int) -> int:
        """As many continuations of every step as paths are asked for."""
        return n

    def choose(self, run: Run) -> Choice[Candidate]:
        """Return the n continuations of the last step, and the one that was kept."""
        from imagecot.contracts.randomness import fork_seeds

        kept = run.start(run.seeds[:1])
        candidates = [Candidate(0) for _ in range(run.n)]
        while not kept.finished:
            # The source of a continuation's randomness is the kept path's seed, the step and k.
            seeds = fork_seeds(kept.seeds, run.n) if run.n > 1 else kept.seeds
            kept = _best_continuation(run, kept, seeds, candidates)
        return Choice(candidates, ranked(candidates)[0])

    def replay(self, recorded: Sequence[PathRecord], settings: NoSettings) -> None:
        """It draws paths of its own."""


def _best_continuation(run: Run, kept: "Paths", seeds: "torch.Tensor", candidates: list[Candidate]) -> "Paths":
    """Advance the kept path under each of seeds (n,), a group at a time, and return the best continuation."""
    from imagecot.images import to_pictures
    from imagecot.strategies.run import LARGEST_GROUP

    best: Paths | None = None
    highest = -1.0
    for first in range(0, run.n, LARGEST_GROUP):
        group = candidates[first : first + LARGEST_GROUP]
        paths = kept.select([0] * len(group), seeds=seeds[first : first + LARGEST_GROUP])
        paths = run.advance(paths, group)
        images = run.preview(paths)
        answers = run.ask(images, group, paths.step, PRM)
        for candidate, seed, p in zip(group, paths.seeds.tolist(), answers, strict=True):
            candidate.seed, candidate.score = seed, p
        if paths.finished:
            for candidate, picture in zip(group, to_pictures(images), strict=True):
                candidate.image = picture
        leader = max(range(len(group)), key=lambda k: answers[k])
        if answers[leader] > highest:
            best, highest = paths.select([leader]), answers[leader]
    assert best is not None
    return best
