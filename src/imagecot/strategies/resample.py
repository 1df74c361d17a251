"""resample: at some steps paths are drawn again in proportion to what is said of them (sequential Monte Carlo).

After TTS-VAR (Chen et al., 2025, arXiv 2507.18537), whose potential scores decide which paths of a batch go on at some
scales of a generator. After each of a few steps the verifier looks at the previews, and paths are drawn with
replacement with probabilities proportional to exp(lambda P(yes)): systematically, by one random number of the search's
own seed, so that a path with twice the mean weight goes on at least twice. A path that is drawn again is forked. The
best of the last ones by the ORM question is taken.

Departures: there is no clustering of early previews, and the score is that of the step alone (the paper's VALUE; it
finds the highest of the path so far about as good). The batch shrinks by a share (`keep`), not by a table of scales.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, Field

from imagecot.contracts.questions import ORM
from imagecot.contracts.search import Candidate, Choice, PathRecord, Run
from imagecot.strategies.first_step import FirstStep, first_step
from imagecot.strategies.options import OPTIONS
from imagecot.strategies.trace import ranked

if TYPE_CHECKING:
    from imagecot.contracts.paths import Paths


class ResampleSettings(BaseModel):
    """When paths are drawn again, how sharply, and how many of them."""

    model_config = OPTIONS

    first_step: FirstStep = None
    times: Annotated[int, Field(ge=1, le=100)] = Field(
        2, description="How often paths are drawn again, evenly from the first step to the end."
    )
    sharpness: Annotated[float, Field(ge=0, le=1e6)] = Field(
        10.0, description="The lambda of the weights exp(lambda P(yes)) by which paths are drawn again."
    )
    keep: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="How many paths are drawn each time, as a share of those before."
    )


class Resample:
    """Paths of which more is hoped are drawn more often, at a few steps."""

    Settings = ResampleSettings
    needs = frozenset({"verifier"})

    def paths(self, n: int) -> int:
        """As many as are asked for; forks come on top."""
        return n

    def choose(self, run: Run) -> Choice[Candidate]:
        """Return all candidates, and the best that finished; of equal scores the first."""
        settings: ResampleSettings = run.settings
        first, steps = first_step(run, settings.first_step), run.generator.steps
        after = [first + k * (steps - first) // settings.times for k in range(settings.times)]
        candidates = run.population(_drawn_again, after)
        return Choice(candidates, ranked(candidates)[0])

    def replay(self, recorded: Sequence[PathRecord], settings: ResampleSettings) -> None:
        """It forks paths."""


def _drawn_again(run: Run, paths: "Paths", candidates: list[Candidate]) -> list[int]:
    """The rows that go on after this step, each as often as it was drawn."""
    from imagecot.contracts.randomness import Stream, uniforms

    settings: ResampleSettings = run.settings
    answers = run.ask(run.preview(paths), candidates, paths.step, ORM)
    highest = max(answers)
    weights = [math.exp(settings.sharpness * (answer - highest)) for answer in answers]
    offset = float(uniforms(run.seeds[:1], paths.step, Stream.CHOICES, 1))
    return systematic(weights, math.ceil(settings.keep * len(weights)), offset)


def systematic(weights: Sequence[float], count: int, offset: float) -> list[int]:
    """Draw so many indices in proportion to weights >= 0, not all 0, by one offset in [0, 1): w of them within 1 of w.

    The points (offset + k) / count of a line on which each index has a stretch as long as its share of the weights.
    """
    total, found, reached, index = sum(weights), [], weights[0], 0
    for k in range(count):
        point = (offset + k) / count * total
        while reached <= point and index < len(weights) - 1:
            index += 1
            reached += weights[index]
        found.append(index)
    return found
