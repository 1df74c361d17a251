"""What the parts of a search take on this machine: a step of paths, a preview, a decoded image, an answer.

Each is measured with few paths and with all of them, and taken as so much a call and so much a path in it. So the
seconds of a search that draws few paths at once are not those of many.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated

import torch
from pydantic import Field

from imagecot import guard
from imagecot.contracts.generator import Generator
from imagecot.contracts.questions import Question
from imagecot.contracts.randomness import path_seeds
from imagecot.contracts.verifier import Verifier
from imagecot.reading import Schema
from imagecot.strategies.replay import DECODE, PREVIEW, STEP, Spent

_REPEATS = 3

Seconds = Annotated[float, Field(ge=0)]


class Cost(Schema):
    """Seconds of a unit of work: of a call, and of each path or image in it."""

    call: Seconds
    each: Seconds


class Costs(Schema):
    """The costs of all units of work, by their names."""

    units: Mapping[str, Cost]

    def alone(self, spent: Spent) -> float:
        """Seconds of a search that has the machine for itself."""
        return self.together(spent) + sum(self.units[unit].call * calls for unit, calls in spent.calls.items())

    def together(self, spent: Spent) -> float:
        """Its share of the seconds where so many searches share batches that calls cost nothing."""
        return sum(self.units[unit].each * items for unit, items in spent.items.items())


@torch.no_grad()
def measure(generator: Generator, verifier: Verifier, questions: Sequence[Question], prompt: str, n: int) -> Costs:
    """Measure the costs with a fifth of n paths, and with n of them."""
    sizes = (max(1, n // 5), n)
    few, many = (_timed(generator, verifier, questions, prompt, size) for size in sizes)
    return Costs(units={unit: _line(sizes, (few[unit], many[unit])) for unit in few})


def _timed(
    generator: Generator, verifier: Verifier, questions: Sequence[Question], prompt: str, size: int
) -> dict[str, float]:
    """Seconds of each unit of work with so many paths, the least of a few repetitions."""
    start = guard.start(generator, [prompt], path_seeds(0, size))
    states = [start]
    while not states[-1].finished:
        states.append(guard.advance(generator, states[-1]))

    def steps() -> None:
        paths = start
        while not paths.finished:
            paths = guard.advance(generator, paths)

    middle, images = states[len(states) // 2], guard.decode(generator, states[-1].codes)
    found = {
        STEP: _least(steps) / (len(states) - 1),
        PREVIEW: _least(lambda: guard.preview(generator, middle)),
        DECODE: _least(lambda: guard.decode(generator, states[-1].codes)),
    }
    for question in questions:
        after = guard.begin(verifier, images, [prompt], question.follows)[1] if question.follows else None
        found[question.name] = _least(lambda: guard.ask(verifier, images, [prompt], question, after))  # noqa: B023
    return found


def _least(work: Callable[[], object]) -> float:
    """The seconds of the fastest of a few runs: what else the machine does makes some of them slower, none faster."""
    found = []
    for _ in range(_REPEATS):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return min(found)


def _line(sizes: tuple[int, int], seconds: tuple[float, float]) -> Cost:
    """The cost through two measurements; nothing of it is below 0."""
    few, many = sizes
    if few == many:
        return Cost(call=0.0, each=seconds[1] / many)
    each = min(max((seconds[1] - seconds[0]) / (many - few), 0.0), seconds[1] / many)
    return Cost(call=seconds[1] - each * many, each=each)
