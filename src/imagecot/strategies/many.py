"""Many searches at once: their paths fill common batches, and each finds what it would find alone."""

import importlib
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from imagecot.contracts.randomness import path_seeds
from imagecot.errors import UsageError
from imagecot.strategies import STRATEGIES, Settings, search
from imagecot.strategies.run import LARGEST_GROUP, Run
from imagecot.strategies.together import draw_together
from imagecot.contracts.search import Cost
from imagecot.strategies.trace import Trace

if TYPE_CHECKING:
    from imagecot.contracts.generator import Generator
    from imagecot.contracts.verifier import Verifier


def search_many(
    prompts: Sequence[str],
    seeds: Sequence[int],
    *,
    generator: "Generator",
    verifier: "Verifier | None" = None,
    strategy: str = "best-of-n",
    n: int = 20,
    first_step: int = 1,
    keep: float = 0.0,
) -> list[Trace]:
    """Return the trace of `search` for each prompt and its seed; the arguments are those of `search`.

    Paths of different prompts advance in one batch, from which the stopped ones of all leave. Judged are the prompts
    one by one, so that no text is padded. The seconds of a batch are shared by generator rows. A strategy whose paths
    depend on each other at every step (stepwise) runs prompt by prompt.

    UsageError as of `search`, and where there are not as many seeds as prompts.
    """
    if len(prompts) != len(seeds):
        raise UsageError(f"{len(prompts)} prompts do not go with {len(seeds)} seeds; give a seed for each prompt.")
    settings = [
        Settings(prompt, generator, verifier, strategy, n, seed, first_step, keep)
        for prompt, seed in zip(prompts, seeds, strict=True)
    ]
    if not settings:
        return []
    module = importlib.import_module(STRATEGIES[strategy])
    paths_each = settings[0].paths
    if not hasattr(module, "assess") or paths_each > LARGEST_GROUP // 2:
        return [
            search(
                prompt,
                generator=generator,
                verifier=verifier,
                strategy=strategy,
                n=n,
                seed=seed,
                first_step=first_step,
                keep=keep,
            )
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]
    at_once = LARGEST_GROUP // paths_each
    traces = []
    for first in range(0, len(settings), at_once):
        group = settings[first : first + at_once]
        runs = [setting.run() for setting in group]
        began = time.perf_counter()
        owners = [k for k in range(len(runs)) for _ in range(paths_each)]
        starts = generator.start(
            [runs[k].prompt for k in owners], torch.cat([path_seeds(run.seed, run.n) for run in runs])
        )
        for run, drawn in zip(runs, draw_together(generator, runs, starts, owners, module.assess), strict=True):
            run.drawn = drawn
        _share(runs, time.perf_counter() - began)
        traces += [setting.trace(run, *module.choose(run)) for setting, run in zip(group, runs, strict=True)]
    return traces


def _share(runs: list[Run], seconds: float) -> None:
    rows = sum(run.cost.generator_rows for run in runs)
    for run in runs:
        run.cost += Cost(seconds=seconds * run.cost.generator_rows / rows)
