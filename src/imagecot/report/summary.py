"""What a study found: its `summary.json`, checked where it is read. Whatever may be missing there has a default."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator
from pydantic_core import from_json

from imagecot.errors import ImagecotError, UsageError
from imagecot.naming import inside
from imagecot.reading import Foreign, phrases, read_text
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
from imagecot.study.store import without_nan

ADVICE = "run the study's command again"


class Scores(Foreign):
    """Shares of right images in 0 to 1: by task, and their mean over the tasks, with standard errors."""

    overall: Share
    overall_se: Share | None = None
    tasks: dict[str, Share] = Field({})
    tasks_se: dict[str, Share | None] = Field({})


class Row(Scores):
    """A method: what it is, its scores by both judges, and what an image costs."""

    label: Words = ""
    generator: Words = ""
    search: Words | None = None
    verifier: Words | None = None
    n: Count | None = None
    prompts: Count | None = None
    second_judge: Scores | None = None
    seconds_per_image: Seconds | None = None
    cost: dict[str, Amount | None] = Field({})

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


class Gain(Foreign):
    """A difference of scores with its 95 % interval."""

    difference: Difference
    low: Difference
    high: Difference


class Comparison(Gain):
    """Row a − row b by the first judge on the prompts that both have, and the same by the second."""

    a: Words
    b: Words
    second_judge: Gain | None = None


class Bin(Foreign):
    """Images with a P(yes) in one interval: its mean there, and the share of them that is right."""

    mean_p: Share | None = None
    right: Share | None = None
    count: Count = 0


class Reliability(Foreign):
    """How far a verifier's P(yes) can be believed."""

    verifier: Words = ""
    bins: list[Bin] = Field([])
    auroc: Share | None = None
    balanced_accuracy: Share | None = None
    ece: Share | None = None
    paths: Count | None = None


class Steps(Foreign):
    """At which step paths were first clear and stopped ("never" for the others), counted, and how rightly."""

    paths: Count
    first_clear: dict[Step, Count] = Field({})
    stopped: dict[Step, Count] = Field({})
    right_of_stopped: Share | None = None
    right_of_kept: Share | None = None


class Exhibit(Foreign):
    """A prompt of the gallery: the image file that each row chose and the judges' verdicts on it."""

    prompt: Words
    tag: Words = ""
    images: dict[str, Words] = Field({})
    correct: dict[str, Annotated[list[bool | None], Field(max_length=MOST_JUDGES)]] = Field({})


class Redrawn(Foreign):
    """The share of right images of the first round where the one before was wrong, by each judge."""

    prompts: Count = 0
    right: Annotated[list[Share], Field(max_length=MOST_JUDGES)] = Field([])
    standard_error: list[Share] = Field([])

    @model_validator(mode="after")
    def _an_error_each(self) -> "Redrawn":
        if len(self.right) != len(self.standard_error):
            raise ValueError("right and standard_error have different lengths")
        return self


class SelfCorrection(Foreign):
    """The paper's Table 5 with its controls."""

    rows: Annotated[dict[str, Row], Field(max_length=MOST_ROWS)] = Field({})
    by_round: dict[str, Annotated[list[Row], Field(max_length=MOST_ROWS)]] = Field({})
    redrawn: dict[str, Redrawn] = Field({})
    comparisons: list[Comparison] = Field([])
    reasons: dict[str, Share | None] = Field({})
    problems: dict[str, Count] = Field({})
    rounds: dict[str, Count] = Field({})

    def label(self, name: str) -> str:
        """What a row is called."""
        row = self.rows.get(name)
        return (row.label if row else "") or readable(name)


class Summary(Foreign):
    """A study as its engine leaves it."""

    rows: Annotated[dict[str, Row], Field(max_length=MOST_ROWS)]
    curves: Annotated[dict[str, dict[str, list[Point]]], Field(max_length=MOST_GENERATORS)] = Field({})
    comparisons: list[Comparison] = Field([])
    reliability: Annotated[dict[str, Reliability], Field(max_length=MOST_ROWS)] = Field({})
    steps: Annotated[dict[str, Steps], Field(max_length=MOST_ROWS)] = Field({})
    agreement: dict[str, Share | None] = Field({})
    gallery: Annotated[list[Exhibit], Field(max_length=MOST_EXHIBITS)] = Field([])
    self_correction: SelfCorrection | None = None
    recipe: dict[str, Any] = Field({})
    weights: dict[str, Any] = Field({})
    prompts: Count | None = None
    command: Words = ""
    date: Words = ""
    seconds: Seconds | None = None
    machine: Any = None
    versions: Any = None

    def label(self, name: str) -> str:
        """What a row is called; random and oracle with the generator that they are of."""
        row = self.rows.get(name)
        if row is None or not row.label:
            return readable(name)
        if "@" in name:
            return f"{row.label}, {readable(row.generator)}"
        namesakes = sum(other.label == row.label for other in self.rows.values())
        return row.label if namesakes == 1 else f"{row.label} ({readable(name)})"

    def generator(self, key: str) -> str:
        """What a generator is called, with the name of its weights."""
        models = self.recipe.get("generators")
        model = models.get(key) if isinstance(models, dict) else None
        return f"{readable(key)} ({model})" if model else readable(key)

    @property
    def methods(self) -> dict[str, Row]:
        """The rows that are methods: all but the lines random and oracle."""
        return {name: row for name, row in self.rows.items() if "@" not in name}

    def line(self, kind: str, generator: str) -> Row | None:
        """The line "random" or "oracle" of a generator."""
        return self.rows.get(f"{kind}@{generator}")


def read(folder: Path) -> Summary:
    """Read a study's folder; UsageError where it is none of a study, ImagecotError for a damaged or empty summary."""
    if folder.is_file():
        raise UsageError(f"{folder} is a file; give the folder of a study.")
    file = folder / SUMMARY
    if not file.exists():
        raise UsageError(f"{folder} holds no study ({SUMMARY} is missing); run imagecot study first.")
    try:
        values = without_nan(from_json(read_text(file, advice=ADVICE)))
    except ValueError as error:
        raise ImagecotError(f"{file} is damaged (not valid JSON: {error}); {ADVICE}.") from None
    if isinstance(values, dict) and "ways" in values and "rows" not in values:
        raise UsageError(f"{folder} holds a study of corrections, whose report is {folder / 'table.md'}; read that.")
    try:
        summary = Summary.model_validate(values)
    except ValidationError as error:
        raise ImagecotError(f"{file} is not the summary of a study ({phrases(error)}); {ADVICE}.") from None
    if not summary.methods:
        raise ImagecotError(f"{file} has no scores yet; let the study finish a few prompts first.")
    for exhibit in summary.gallery:
        for name, path in exhibit.images.items():
            if inside(folder, path) is None:
                raise ImagecotError(
                    f"{file}: the gallery's image {path!r} of {name!r} leads out of {folder}; {ADVICE}."
                )
    return summary
