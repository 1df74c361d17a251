"""What a study found, as its `summary.json` holds it: made from its rows, and checked where it is read.

Whatever may be missing in a summary of another version has a default. Numbers that are none are None.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from imagecot.files import write_text
from imagecot.reading import Foreign
from imagecot.study.kinds import (
    MOST_EXHIBITS,
    MOST_GENERATORS,
    MOST_JUDGES,
    MOST_ROWS,
    Amount,
    Count,
    Difference,
    PathCount,
    Seconds,
    Share,
    Step,
    Words,
)
from imagecot.study.names import SUMMARY, readable


def known(value: float) -> float | None:
    """The number; None for NaN, which JSON does not know."""
    return None if math.isnan(value) else value


class Scores(Foreign):
    """Shares of right images in 0 to 1: by task, and their mean over the tasks, with standard errors."""

    overall: Share
    overall_se: Share | None = None
    tasks: dict[str, Share] = Field(default={})
    tasks_se: dict[str, Share | None] = Field(default={})


class Told(Foreign):
    """The shares of images that both judges call right, on which they differ, and that both call wrong."""

    right: Share
    untold: Share
    wrong: Share


class Scored(Scores):
    """The scores by the first judge and by the second, if any, and what both together tell."""

    second_judge: Scores | None = None
    told: Told | None = None


class Named(Foreign):
    """A method: what it is called, who draws, by which search, who judges in it, and how many paths it has."""

    label: Words = ""
    generator: Words = ""
    search: Words | None = None
    verifier: Words | None = None
    n: Count | None = None


class Row(Scored, Named):
    """A method with its scores by both judges, and what an image costs.

    atoms  the share of the prompts' parts that its images show, by the first judge
    draws  how often each prompt was drawn
    """

    seconds_per_image: Seconds | None = None
    cost: Mapping[str, Amount | None] = Field(default={})
    prompts: Count | None = None
    draws: Count = 1
    atoms: Scores | None = None

    @property
    def seconds_per_correct(self) -> float | None:
        """Seconds until an image is right, where both are known."""
        return self.seconds_per_image / self.overall if self.seconds_per_image and self.overall else None


class Point(Foreign):
    """A point of a curve: a search with so many paths."""

    n: PathCount
    overall: Share
    se: Share | None = None
    second: Share | None = None
    second_se: Share | None = None
    seconds: Seconds | None = None


class Pair(Foreign):
    """The names of two rows."""

    a: Words
    b: Words


class Gain(Foreign):
    """A paired difference of scores with its 95 % interval.

    only_a, only_b  image pairs in which only that one is right
    p_value         of McNemar's test on them
    """

    difference: Difference
    low: Difference
    high: Difference
    only_a: Count | None = None
    only_b: Count | None = None
    p_value: Share | None = None


class Comparison(Gain, Pair):
    """Row a − row b by the first judge on the prompts that both have, and the same by the second."""

    second_judge: Gain | None = None
    prompts: Count | None = None


class Bin(Foreign):
    """Images with a P(yes) in one interval: its mean there, and the share of them that is right."""

    mean_p: Share | None = None
    right: Share | None = None
    count: Count = 0


class Reliability(Foreign):
    """How far a verifier's P(yes) can be believed."""

    verifier: Words = ""
    bins: list[Bin] = Field(default=[])
    auroc: Share | None = None
    balanced_accuracy: Share | None = None
    ece: Share | None = None
    paths: Count | None = None


class Steps(Foreign):
    """At which step paths were first clear and stopped ("never" for the others), counted, and how rightly."""

    paths: Count
    first_clear: dict[Step, Count] = Field(default={})
    stopped: dict[Step, Count] = Field(default={})
    right_of_stopped: Share | None = None
    right_of_kept: Share | None = None


class Exhibit(Foreign):
    """A prompt of the gallery: the image file that each row chose and the judges' verdicts on it."""

    prompt: Words
    tag: Words = ""
    images: dict[str, Words] = Field(default={})
    correct: dict[str, Annotated[list[bool | None], Field(max_length=MOST_JUDGES)]] = Field(default={})


class Redrawn(Foreign):
    """The share of right images of the first round where the one before was wrong, by each judge."""

    prompts: Count = 0
    right: Annotated[list[Share], Field(max_length=MOST_JUDGES)] = Field(default=[])
    standard_error: list[Share] = Field(default=[])

    @model_validator(mode="after")
    def _an_error_each(self) -> Self:
        if len(self.right) != len(self.standard_error):
            raise ValueError("right and standard_error have different lengths")
        return self


class SelfCorrection(Foreign):
    """The paper's Table 5 with its controls."""

    rows: Annotated[dict[str, Row], Field(max_length=MOST_ROWS)] = Field(default={})
    by_round: dict[str, Annotated[list[Scored], Field(max_length=MOST_ROWS)]] = Field(default={})
    redrawn: dict[str, Redrawn] = Field(default={})
    comparisons: list[Comparison] = Field(default=[])
    reasons: dict[str, Share | None] = Field(default={})
    problems: dict[str, Count] = Field(default={})
    rounds: dict[str, Count] = Field(default={})
    prompts: Count | None = None

    def label(self, name: str) -> str:
        """What a row is called."""
        row = self.rows.get(name)
        return (row.label if row else "") or readable(name)


class Summary(Foreign):
    """All that a study says: the numbers of its rows, and how they came about."""

    rows: Annotated[dict[str, Row], Field(max_length=MOST_ROWS)]
    curves: Annotated[dict[str, dict[str, list[Point]]], Field(max_length=MOST_GENERATORS)] = Field(default={})
    comparisons: list[Comparison] = Field(default=[])
    reliability: Annotated[dict[str, Reliability], Field(max_length=MOST_ROWS)] = Field(default={})
    steps: Annotated[dict[str, Steps], Field(max_length=MOST_ROWS)] = Field(default={})
    agreement: dict[str, Share | None] = Field(default={})
    gallery: Annotated[list[Exhibit], Field(max_length=MOST_EXHIBITS)] = Field(default=[])
    self_correction: SelfCorrection | None = None
    recipe: Mapping[str, object] = Field(default={})
    weights: Mapping[str, object] = Field(default={})
    prompts: Count | None = None
    seconds: Seconds | None = None
    command: Words = ""
    date: Words = ""
    machine: object = None
    versions: object = None

    def label(self, name: str) -> str:
        """What a row is called; random and oracle with the generator that they are of."""
        row = self.rows.get(name)
        if row is None or not row.label:
            return readable(name)
        if "@" in name:
            return f"{row.label}, {readable(row.generator)}"
        namesakes = sum(other.label == row.label for other in self.rows.values())
        return row.label if namesakes == 1 else f"{row.label} ({readable(name)})"

    @property
    def models(self) -> dict[str, str]:
        """The names of the generators' weights by their keys, as the recipe says them."""
        said = self.recipe.get("generators")
        return {key: str(model or "") for key, model in said.items()} if isinstance(said, dict) else {}

    def generator(self, key: str) -> str:
        """What a generator is called, with the name of its weights."""
        model = self.models.get(key)
        return f"{readable(key)} ({model})" if model else readable(key)

    @property
    def methods(self) -> dict[str, Row]:
        """The rows that are methods: all but the lines random and oracle."""
        return {name: row for name, row in self.rows.items() if "@" not in name}

    def line(self, kind: str, generator: str) -> Row | None:
        """The line "random" or "oracle" of a generator."""
        return self.rows.get(f"{kind}@{generator}")


class Way(Foreign):
    """A way to correct, by what is told: shares of right images by each judge, and how found reasons compare to it."""

    label: Words
    right: list[Share]
    standard_error: list[Share | None]
    found_minus_this: Difference
    its_standard_error: Share | None


class CorrectionsSummary(Foreign):
    """How often each way of correcting ends right, how right reasons are, and how these numbers came about."""

    images: Count
    prompts: Count
    ways: dict[str, Way] = Field(default={})
    reasons: dict[str, dict[str, Share | None]] = Field(default={})
    recipe: Mapping[str, object] = Field(default={})
    weights: Mapping[str, object] = Field(default={})
    seconds: Seconds | None = None
    command: Words = ""
    date: Words = ""
    machine: object = None
    versions: object = None


class Estimate(Foreign):
    """A number, and its standard error with whatever is alike within a prompt counted as that; None where none is."""

    value: Difference | None
    standard_error: Share | None


class Predicts(Foreign):
    """How well what was said of previews predicts one judge's verdicts on the final images.

    auroc           over all paths; `auroc_within` over pairs of paths of the same prompt
    point_biserial  correlation of P(yes) and the verdict
    kept            share of the right images that is left where of each prompt's paths the half with the lowest P(yes)
                    stops there; half of them is left by chance
    """

    auroc: Estimate
    auroc_within: Estimate
    point_biserial: Estimate
    kept: Estimate


class Partial(Foreign):
    """What a verifier said to a question about previews after a step, with one fill, and how far that holds.

    mean_p, yes  mean P(yes), and the share of it from .5
    final        Spearman's correlation with the same verifier's P(yes) to the ORM question about the final image
    judges       for each judge in turn
    """

    verifier: Words
    question: Words
    step: Annotated[Count, Field(ge=1)]
    fill: Words | None
    mean_p: Share
    yes: Share
    final: Estimate
    judges: Annotated[list[Predicts], Field(max_length=MOST_JUDGES)]


class AuditSummary(Foreign):
    """Which partial verdicts predict the final one.

    right      share of right images by each judge
    most_kept  the share of them that is left where the worse half stops by the judge's own verdicts; None without any
    """

    prompts: Count
    paths: Count
    steps: Count
    right: list[Share] = Field(default=[])
    most_kept: list[Share | None] = Field(default=[])
    partials: list[Partial] = Field(default=[])
    recipe: Mapping[str, object] = Field(default={})
    weights: Mapping[str, object] = Field(default={})
    seconds: Seconds | None = None
    command: Words = ""
    date: Words = ""
    machine: object = None
    versions: object = None


def write_summary(folder: Path, summary: Summary | CorrectionsSummary | AuditSummary) -> None:
    """Write the summary of a study into its folder: what was set, in the order of the fields."""
    text = json.dumps(summary.model_dump(mode="json", exclude_unset=True), separators=(",", ":"))
    write_text(folder / SUMMARY, text + "\n")
