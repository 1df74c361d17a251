"""What is timed of a frontier: batches of prompts, as large as an evaluation draws them.

Searches in rounds share their batches with more prompts than others, as their late rounds are small. At the largest
budget several batches are timed, in turn with those of the other rows, so that its seconds have an error; at each of
the others one.
"""

import math
from collections.abc import Iterator

from imagecot.contracts.search import InRounds
from imagecot.study import timing
from imagecot.study.frontier.plan import Plan
from imagecot.study.recipe import timed_prompts
from imagecot.study.timing import Missing, Timed


def lacking(plan: Plan, key: str) -> list[Missing]:
    """The measurements of a generator's rows that are not there yet, the largest budget first."""
    done = {(run.name, run.of, run.n, run.prompt) for run in timing.read(plan.recipe.output / timing.TIMING)}
    rows = [_timed(plan, name) for name in plan.recipe.rows_of(key)]
    return [
        (prompt, n, one)
        for n in reversed(plan.recipe.budgets)
        for one in rows
        if n in one.sizes
        for prompt in _prompts(plan, one.at_once, n == one.sizes[-1])
        if (one.name, one.of, n, prompt) not in done
    ]


def _timed(plan: Plan, name: str) -> Timed:
    recipe, row = plan.recipe, plan.recipe.rows[name]
    at_once = recipe.timed_in_rounds if isinstance(row.how.strategy, InRounds) else recipe.timed_together
    sizes = recipe.sizes(row)
    return Timed(name, row.search, row.verifier, sizes, row.options, row.corrector, plan.of_row(name), at_once)


def _prompts(plan: Plan, at_once: int, largest: bool) -> Iterator[str]:
    """Batch behind batch, each spread over the tasks; the first alone where it is not the largest budget."""
    batches = plan.recipe.timed_prompts / plan.recipe.timed_together
    texts = timed_prompts(plan.recipe, math.ceil(batches * at_once))
    step = math.ceil(batches)
    for first in range(step if largest else min(1, step)):
        yield from texts[first::step]
