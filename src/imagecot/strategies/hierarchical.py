"""hierarchical: wide at first, then fewer and fewer paths at every step, where the best ones are forked.

After the hierarchical trajectory search of dMLLM-TTS (test-time scaling of diffusion language models that draw, 2025).
All N paths run until step T. After every step t from T on the verifier looks at the previews, and the search goes on
with a width of

    W_t = max(floor(N d^-(t - T)), K).

The best ceil(W_t / b) paths survive, and each goes on up to b times, as itself and as forks, so that the width is used;
b = 1 only thins out. In the end the best of what is left by the ORM question is taken, so that the paths cost about
N T + N d / (d - 1) steps instead of N times all steps.

Departures: the paper asks the generator itself about the requirements of the prompt one by one, here any verifier is
asked the ORM question about the preview: a verifier that was trained to tell a potential tells paths apart by it no
better (docs/experiments/searches.md). Where the width does not change and nothing is forked, nobody is
asked. Of more than 256 paths each group of 256 is thinned out by itself.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, Field

from imagecot.bounds import MOST_PATHS
from imagecot.contracts.questions import ORM
from imagecot.contracts.search import Candidate, Choice, PathRecord, Run
from imagecot.contracts.values import JSON
from imagecot.strategies.first_step import FirstStep, first_step
from imagecot.strategies.options import OPTIONS
from imagecot.strategies.trace import ranked

if TYPE_CHECKING:
    from imagecot.contracts.paths import Paths


class HierarchicalSettings(BaseModel):
    """How fast the width falls, and who is forked."""

    model_config = OPTIONS

    first_step: FirstStep = None
    decay: Annotated[float, Field(ge=1)] = Field(
        1.3, description="By what the number of paths is divided from one step to the next."
    )
    least: Annotated[int, Field(ge=1, le=MOST_PATHS)] = Field(2, description="How many paths are left at least.")
    forks: Annotated[int, Field(ge=1, le=MOST_PATHS)] = Field(
        1, description="How often a surviving path goes on at most, where 1 forks nothing."
    )


class Hierarchical:
    """Wide at first, then at every step the best of fewer paths."""

    Settings = HierarchicalSettings
    needs = frozenset({"verifier"})

    def paths(self, n: int) -> int:
        """As many as are asked for; forks come on top."""
        return n

    def choose(self, run: Run) -> Choice[Candidate]:
        """Return all candidates, and the best that finished; of equal scores the first."""
        settings: HierarchicalSettings = run.settings
        first = first_step(run, settings.first_step)
        candidates = run.population(partial(_survivors, first=first), range(first, run.generator.steps))
        return Choice(candidates, ranked(candidates)[0])

    def replay(self, recorded: Sequence[PathRecord], settings: HierarchicalSettings) -> None:
        """Recorded paths do not say what is asked of their previews, and have no forks."""

    def trials(self, steps: int, scores: Sequence[float]) -> list[Mapping[str, JSON]]:
        """First comparisons in the middle half of the steps, slow and fast falls of the width, and no forks."""
        firsts = range(max(1, steps // 4), max(2, 3 * steps // 4))
        return [
            {"first_step": first, "decay": decay, "least": least}
            for first in firsts
            for decay in (1.1, 1.2, 1.3, 1.5, 2.0, 4.0)
            for least in (1, 2, 4)
        ]


def width(n: int, settings: HierarchicalSettings, step: int) -> int:
    """How many of n paths go on so many steps after the first comparison."""
    return min(n, max(math.floor(n * settings.decay**-step), settings.least))


def _survivors(run: Run, paths: "Paths", candidates: list[Candidate], *, first: int) -> list[int]:
    """The rows that go on after this step, the best of them more often where the width asks for it."""
    from imagecot.strategies.run import LARGEST_GROUP

    settings: HierarchicalSettings = run.settings
    count, wide = len(candidates), width(min(run.n, LARGEST_GROUP), settings, paths.step - first)
    if settings.forks == 1 and wide >= count:
        return list(range(count))
    answers = run.ask(run.preview(paths), candidates, paths.step, ORM)
    best = sorted(range(count), key=lambda row: (-answers[row], row))[: math.ceil(wide / settings.forks)]
    return [best[k % len(best)] for k in range(wide)]
