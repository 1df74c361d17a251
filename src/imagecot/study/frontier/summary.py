"""What a frontier found, as its `frontier.json` holds it: made from its rows, and checked where it is read."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from imagecot.reading import Foreign
from imagecot.study.kinds import MOST_GENERATORS, MOST_ROWS, Amount, Count, Difference, PathCount, Seconds, Share, Words
from imagecot.study.names import readable

FRONTIER = "frontier.json"


class Level(Foreign):
    """A mean over tasks of means over prompts, its standard error, and the 95 % interval, 1.96 of these about it."""

    value: Difference
    standard_error: Share | None = None
    low: float | None = None
    high: float | None = None


class Clock(Foreign):
    """Mean seconds an image on all prompts of a row, from runs on a few of them that were timed.

    generator, judge  seconds that are not and that are the verifier's: of each counted row and answer what it took in
                      the timed runs of this search at this budget, times how many there are on all prompts
    standard_error    of their sum, over the timed prompts
    timed             runs, and their own mean seconds
    a_run             how far the seconds of one run are from what the others say of its counts: root of the mean
                      square, as a share of the mean
    """

    generator: Seconds
    judge: Seconds
    total: Seconds
    standard_error: Seconds | None = None
    timed: Count
    timed_mean: Seconds
    a_run: Amount | None = None


class Point(Foreign):
    """A search at one budget.

    score, to_best  by each judge in turn: the score, and the paired difference to the row that it is held against, at
                    its largest budget, on the same prompts
    """

    n: PathCount
    prompts: Count
    score: list[Level]
    to_best: list[Level]
    generator_rows: Amount
    previews: Amount
    judge_calls: Amount
    seconds: Clock | None = None


class Line(Foreign):
    """A search with its settings, at every budget."""

    label: Words = ""
    search: Words
    verifier: Words | None = None
    settings: Mapping[str, object] = Field(default={})
    points: list[Point]


class Bound(Foreign):
    """A random one of n paths, or one that is right whenever any of them is: scores by each judge."""

    n: PathCount
    score: list[Level]


class Place(Foreign):
    """A point by its row and budget."""

    row: Words
    n: PathCount


class Reached(Place):
    """Where a row first reaches the one that it is held against, at most a point below it: its share of the seconds."""

    seconds: Seconds
    share: Amount
    to_best: list[Level]


class AtSeconds(Foreign):
    """Every search at the seconds that the one they are held against takes for n paths.

    Between budgets a prompt's verdicts are interpolated over the logarithm of seconds. A search that has spent its
    largest budget before is there with what it found; one that needs longer for its smallest is missing.

    minus  by row the paired difference to the row that they are held against, by each judge
    """

    n: PathCount
    seconds: Seconds
    minus: dict[str, list[Level]]


class OfGenerator(Foreign):
    """The searches of one generator.

    frontier  points that no other dominates: none has a difference at least as high by the first judge in less time
    reached   rows that come as far as the one they are held against, the quickest first
    """

    generator: Words
    against: Words
    rows: Annotated[dict[str, Line], Field(max_length=MOST_ROWS)]
    random: list[Bound] = Field(default=[])
    oracle: list[Bound] = Field(default=[])
    frontier: list[Place] = Field(default=[])
    reached: list[Reached] = Field(default=[])
    at_seconds: list[AtSeconds] = Field(default=[])

    def label(self, name: str) -> str:
        """What a row is called."""
        row = self.rows.get(name)
        return (row.label if row else "") or readable(name)


class FrontierSummary(Foreign):
    """All that a frontier says, and how it came about."""

    generators: Annotated[dict[str, OfGenerator], Field(max_length=MOST_GENERATORS)]
    prompts: Count | None = None
    recipe: Mapping[str, object] = Field(default={})
    weights: Mapping[str, object] = Field(default={})
    command: Words = ""
    date: Words = ""
    machine: object = None
    versions: object = None
