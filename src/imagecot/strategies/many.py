"""Many searches at once: their paths share batches, and each search finds what it finds alone."""

import time
from collections import deque
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

Wave = list[tuple[Run, range]]  # searches that draw, with the numbers of the paths of their rounds


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

    Paths of different prompts advance in one batch, and stopped paths leave it. Of a search in rounds (adaptive) the
    rounds that are due share a batch, whichever they are, and further searches begin where it has room. The verifier
    judges one prompt at a time, so that no text is padded. The seconds of a batch are divided by generator rows. A
    strategy whose paths depend on each other at every step (stepwise) runs prompt by prompt.

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
    generator, search = requests[0].generator, requests[0].search
    if budget is not None:
        if not isinstance(search, InRounds):
            raise UsageError(f"{requests[0].name} draws no rounds, so it shares no budget; search with adaptive.")
        check_budget(budget, _at_first(requests[0]), requests[0].paths)
    elif not isinstance(search, Batched | InRounds) or _at_first(requests[0]) > LARGEST_GROUP // 2:
        return [carry_out(request) for request in requests]
    runs = [Run(request, drawn=[]) for request in requests]
    for wave in _waves(runs, generator) if budget is None else _granted(runs, budget):
        for group in _groups(wave, generator):
            _draw(group, generator)
    return [_concluded(run) for run in runs]


def _at_first(request: Request) -> int:
    """How many paths a search draws at first."""
    return len(_next_round(Run(request, drawn=[]))) if isinstance(request.search, InRounds) else request.paths


def _waves(runs: Sequence[Run], generator: Generator) -> Iterator[Wave]:
    """All rounds that are due, again and again: those of searches that go on, and first ones in the places left.

    So batches stay full until no search waits, and no more searches are open than it takes.
    """
    going, waiting = list[Run](), deque(runs)
    while True:
        wave = _due(going)
        room = _largest(generator) - sum(len(among) for _, among in wave)
        while waiting and (not wave or len(_next_round(waiting[0])) <= room):
            wave += (first := _due([waiting.popleft()]))
            room -= sum(len(among) for _, among in first)
        if not wave:
            return
        yield wave
        going = [run for run, _ in wave]


def _granted(runs: Sequence[Run], budget: int) -> Iterator[Wave]:
    """The same of searches that share a budget: a first round of all, and then what they are granted."""
    while True:
        rounds = [_next_round(run) for run in runs]
        drawn = [run.drawn or [] for run in runs]
        left = budget * len(runs) - sum(map(len, drawn))
        best = [max((one.score or 0.0 for one in found), default=0.0) for found in drawn]
        may = granted(rounds, best, left, runs[0].n)
        wave = [(run, among) for run, among, yes in zip(runs, rounds, may, strict=True) if yes]
        if not wave:
            return
        yield wave


def _due(runs: Sequence[Run]) -> Wave:
    """The next round of each of these searches that has one."""
    return [(run, among) for run in runs if (among := _next_round(run))]


def _largest(generator: Generator) -> int:
    """How many paths are drawn at once: more than one pass takes brings nothing, and what they keep takes memory."""
    return min(LARGEST_GROUP, generator.paths_per_pass)


def _groups(wave: Wave, generator: Generator) -> Iterator[Wave]:
    """The rounds that are drawn in one batch; prompts of like length are neighbours, as they are read together."""
    group: Wave = []
    for run, among in sorted(wave, key=lambda one: len(one[0].prompt)):
        if group and sum(len(other) for _, other in group) + len(among) > _largest(generator):
            yield group
            group = []
        group.append((run, among))
    if group:
        yield group


def _next_round(run: Run) -> range:
    """The paths that a run draws next, behind those that it has: all of them but in rounds; empty where none is."""
    search, drawn = run.request.search, run.drawn or []
    if isinstance(search, InRounds):
        return guard.next_round(search, run, drawn)
    return range(len(drawn), run.n)


def _draw(group: Wave, generator: Generator) -> None:
    """Draw a round of each run in one batch, whose seconds are divided by generator rows."""
    began, runs = time.perf_counter(), [run for run, _ in group]
    before = [run.cost.generator_rows for run in runs]
    owners = [k for k, (_, among) in enumerate(group) for _ in among]
    seeds = torch.cat([run.seeds[among.start : among.stop] for run, among in group])
    starts = guard.start(generator, [runs[k].prompt for k in owners], seeds)
    assess = _assess if isinstance(runs[0].request.search, Batched) else None
    for run, drawn in zip(runs, draw_together(generator, runs, starts, owners, assess), strict=True):
        run.drawn = [*(run.drawn or []), *drawn]
    seconds = time.perf_counter() - began
    rows = [run.cost.generator_rows - earlier for run, earlier in zip(runs, before, strict=True)]
    for run, own in zip(runs, rows, strict=True):
        run.cost += Cost(seconds=seconds * own / sum(rows))


def _assess(run: contract.Run, paths: Paths, candidates: list[Candidate]) -> list[int]:
    """Ask each run's own search, which may remember what it saw of its paths."""
    assert isinstance(run, Run) and isinstance(run.request.search, Batched)
    return run.request.search.assess(run, paths, candidates)


def _concluded(run: Run) -> Trace:
    """The trace of a search whose paths are all drawn, after its choice."""
    began = time.perf_counter()
    choice = choose(run.request.search, run)
    run.cost += Cost(seconds=time.perf_counter() - began)
    return run.request.trace(run, choice)
