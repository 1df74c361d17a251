"""Paths that compete: after some steps a search says which of them go on, and how often; the others stop.

A stretch between two such steps is a unit of work. Its candidates are kept with their codes, from which an interrupted
run enters the paths again.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from imagecot import guard
from imagecot.contracts.paths import Paths
from imagecot.contracts.randomness import fork_seeds
from imagecot.contracts.search import Candidate, Select

if TYPE_CHECKING:
    from imagecot.strategies.run import Run


def draw_population(run: "Run", seeds: Tensor, unit: str, select: Select, after: Collection[int]) -> list[Candidate]:
    """Take the paths of seeds (B,) to their end and score those that reach it; return all of them and their forks.

    unit           the name of the work
    select, after  as of `imagecot.contracts.Run.population`; steps that no unfinished path reaches are passed over

    What a candidate `forks` is its index among those that are returned.
    """
    ends = [*sorted(step for step in set(after) if 0 < step < run.generator.steps), run.generator.steps]
    drawn = _Population(run, select, [Candidate(seed) for seed in seeds.tolist()])
    for begin, end in zip([0, *ends], ends, strict=False):
        # Of an interrupted run these are others than those that were drawn here.
        drawn.candidates = run.once(f"{unit}-{end:06d}", partial(drawn.stretch, begin, end))
    return drawn.candidates


@dataclass
class _Population:
    """Paths in progress.

    candidates  all that there were; those that were not stopped are the rows of `paths`, in their order
    """

    run: "Run"
    select: Select
    candidates: list[Candidate]
    paths: Paths | None = None

    def stretch(self, begin: int, end: int) -> list[Candidate]:
        """Take the paths from one step to another, and select there, or score them if it is the last."""
        alive = [k for k, one in enumerate(self.candidates) if one.truncated_at is None]
        own = [self.candidates[k] for k in alive]
        paths = self.paths
        if paths is None or paths.step != begin:
            paths = self._entered(own, begin)
        while paths.step < end:
            paths = self.run.advance(paths, own)
        if paths.finished:
            self.run.score(paths, own)
            for candidate in own:
                candidate.state = None
        else:
            rows = guard.select(self.select, self.run.request.search, self.run, paths, own)
            self.paths = self._regrouped(paths, alive, rows)
        return self.candidates

    def _entered(self, own: Sequence[Candidate], step: int) -> Paths:
        """The paths of candidates after a step, begun or entered again."""
        seeds = torch.tensor([candidate.seed for candidate in own])
        if step == 0:
            return self.run.start(seeds)
        codes = torch.stack([candidate.state for candidate in own if candidate.state is not None])
        return guard.resume(self.run.generator, [self.run.prompt], seeds, codes, step)

    def _regrouped(self, paths: Paths, alive: Sequence[int], rows: Sequence[int]) -> Paths:
        """Stop the rows that are not named, fork those that are named again; return the paths that go on."""
        codes, named = paths.codes.cpu(), Counter(rows)
        going = sorted(named)
        for row, k in enumerate(alive):
            self.candidates[k].state = codes[row]
            if row not in named:
                self.candidates[k].truncated_at = paths.step
        seeds = [self.candidates[alive[row]].seed for row in going]
        sources = list(going)
        for row in going:
            for seed in self._new_seeds(alive[row], named[row] - 1):
                self.candidates.append(_fork(self.candidates[alive[row]], alive[row], seed, paths.step))
                seeds.append(seed)
                sources.append(row)
        return paths.select(sources, torch.tensor(seeds))

    def _new_seeds(self, k: int, count: int) -> list[int]:
        """Seeds for new forks of a candidate, which none of its earlier forks has."""
        before = sum(one.forks == k for one in self.candidates)
        seeds: list[int] = fork_seeds(torch.tensor([self.candidates[k].seed]), before + count)[before:].tolist()
        return seeds


def _fork(parent: Candidate, index: int, seed: int, step: int) -> Candidate:
    """A candidate that goes on from where another one is, with what that one showed until then."""
    return Candidate(
        seed,
        first_clear=parent.first_clear,
        forks=index,
        forked_at=step,
        state=None if parent.state is None else parent.state.clone(),  # tensors of a file are apart
        codes=dict(parent.codes),
    )
