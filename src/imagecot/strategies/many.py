"""Many searches at once: their paths share batches, and each search finds what it finds alone."""

import time
from collections.abc import Iterator, Sequence

import torch

from imagecot import guard
from imagecot.bounds import shown
from imagecot.contracts import search as contract
from imagecot.contracts.generator import Generator
from imagecot.contracts.paths import Paths
from imagecot.contracts.search import Batched, Candidate, Cost, InRounds, Strategy
from imagecot.contracts.verifier import Verifier
from imagecot.errors import UsageError
from imagecot.strategies.budget import check_budget, granted
from imagecot.strategies.chosen import choose
from imagecot.strategies.request import Request
from imagecot.strategies.run import LARGEST_GROUP, Run
from imagecot.strategies.search import carry_out
from imagecot.strategies.together import draw_together
from imagecot.strategies.trace import Trace


def search_many(
    prompts: Sequence[str],
    seeds: Sequence[int],
    *,
    generator: Generator,
    verifier: Verifier | None = None,
    strategy: str | Strategy = "best-of-n",
    n: int = 20,
    corrector: Generator | None = None,
    of_paths: bool = False,
    budget: int | None = None,
    **options: object,
) -> list[Trace]:
    """Return the trace of `search` for each prompt and its seed; the arguments are those of `search`.

    of_paths  whether the seeds are those of the paths themselves, where a search draws only one
    budget    paths a search on average, which all of them share (`budget.py`), where n is the most; None for n each

    Paths of different prompts advance in one batch, and stopped paths leave it. The verifier judges one prompt at a
    time, so that no text is padded. The seconds of a batch are divided by generator rows. A strategy whose paths
    depend on each other at every step (stepwise) runs prompt by prompt; of one in rounds (adaptive) each round shares a
    batch.

    UsageError as of `search`, where there are not as many seeds as prompts, and for a budget of a search that draws no
    rounds, or less than one of them.
    """
    for what, given in (("prompts", prompts), ("seeds", seeds)):
        if not isinstance(given, Sequence) or isinstance(given, str):
            raise UsageError(f"{what} must be a list, one for each search, not {shown(given)}.")
    if len(prompts) != len(seeds):
        raise UsageError(f"{len(prompts)} prompts do not go with {len(seeds)} seeds; give a seed for each prompt.")
    requests = [
        Request(prompt, generator, verifier, strategy, n, seed, options, corrector, of_path=of_paths)
        for prompt, seed in zip(prompts, seeds, strict=True)
    ]
    return carry_out_many(requests, budget)


def carry_out_many(requests: Sequence[Request], budget: int | None = None) -> list[Trace]:
    """Search for requests of the same models, search and n, and return their traces; as of `search_many`."""
    if not requests:
        return []
    generator = requests[0].generator
    if budget is not None:
        if not isinstance(requests[0].search, InRounds):
            raise UsageError(f"{requests[0].name} draws no rounds, so it shares no budget; search with adaptive.")
        return _together(requests, generator, budget)
    each = _at_first(requests[0])
    together = isinstance(requests[0].search, Batched | InRounds)
    if not together or each > LARGEST_GROUP // 2:
        return [carry_out(request) for request in requests]
    at_once = LARGEST_GROUP // each
    return [
        trace
        for first in range(0, len(requests), at_once)
        for trace in _together(requests[first : first + at_once], generator)
    ]


def _at_first(request: Request) -> int:
    """How many paths a search draws at first."""
    return len(_next_round(Run(request, drawn=[]))) if isinstance(request.search, InRounds) else request.paths


def _together(requests: Sequence[Request], generator: Generator, budget: int | None = None) -> list[Trace]:
    """Search for all of these in common batches, and within a budget of so many paths each where there is one."""
    runs = [Run(request) for request in requests]
    began = time.perf_counter()
    for run in runs:
        run.drawn = []
    if budget is not None:
        check_budget(budget, _at_first(requests[0]), requests[0].paths)
    while any(rounds := _rounds(runs, budget)):
        for group in _groups(rounds):
            _draw([runs[k] for k in group], [rounds[k] for k in group], generator)
    _share(runs, time.perf_counter() - began)
    traces = []
    for request, run in zip(requests, runs, strict=True):
        began = time.perf_counter()
        choice = choose(request.search, run)
        run.cost += Cost(seconds=time.perf_counter() - began)
        traces.append(request.trace(run, choice))
    return traces


def _rounds(runs: Sequence[Run], budget: int | None) -> list[range]:
    """The paths that each run draws next, within what is left of a budget; empty where none is."""
    rounds = [_next_round(run) for run in runs]
    if budget is None:
        return rounds
    drawn = [run.drawn or [] for run in runs]
    left = budget * len(runs) - sum(map(len, drawn))
    best = [max((one.score or 0.0 for one in found), default=0.0) for found in drawn]
    may = granted(rounds, best, left, runs[0].n)
    return [among if yes else range(0) for among, yes in zip(rounds, may, strict=True)]


def _groups(rounds: Sequence[range]) -> Iterator[list[int]]:
    """The runs that draw, as many at once as a batch takes."""
    group: list[int] = []
    for k, among in enumerate(rounds):
        if group and sum(len(rounds[one]) for one in group) + len(among) > LARGEST_GROUP:
            yield group
            group = []
        group += [k] if among else []
    if group:
        yield group


def _next_round(run: Run) -> range:
    """The paths that a run draws next, behind those that it has: all of them but in rounds; empty where none is."""
    search, drawn = run.request.search, run.drawn or []
    if isinstance(search, InRounds):
        return guard.next_round(search, run, drawn)
    return range(len(drawn), run.n)


def _draw(runs: Sequence[Run], rounds: Sequence[range], generator: Generator) -> None:
    """Draw a round of each run in one batch."""
    owners = [k for k, among in enumerate(rounds) for _ in among]
    seeds = torch.cat([run.seeds[among.start : among.stop] for run, among in zip(runs, rounds, strict=True)])
    starts = guard.start(generator, [runs[k].prompt for k in owners], seeds)
    assess = _assess if isinstance(runs[0].request.search, Batched) else None
    for run, drawn in zip(runs, draw_together(generator, runs, starts, owners, assess), strict=True):
        run.drawn = [*(run.drawn or []), *drawn]


def _assess(run: contract.Run, paths: Paths, candidates: list[Candidate]) -> list[int]:
    """Ask each run's own search, which may remember what it saw of its paths."""
    assert isinstance(run, Run) and isinstance(run.request.search, Batched)
    return run.request.search.assess(run, paths, candidates)


def _share(runs: list[Run], seconds: float) -> None:
    rows = sum(run.cost.generator_rows for run in runs)
    for run in runs:
        run.cost += Cost(seconds=seconds * run.cost.generator_rows / rows)
