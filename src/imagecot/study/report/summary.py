"""What a study found: its `summary.json`, checked where it is read. Whatever may be missing there has a default."""

import json
import math
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from imagecot.errors import ImagecotError, UsageError
from imagecot.study.names import SUMMARY, readable


class Scores(BaseModel):
    """Shares of right images in 0 to 1: by task, and their mean over the tasks, with standard errors."""

    overall: float
    overall_se: float | None = None
    tasks: dict[str, float] = {}
    tasks_se: dict[str, float | None] = {}


class Row(Scores):
    """A method: what it is, its scores by both judges, and what an image costs."""

    label: str = ""
    generator: str = ""
    search: str | None = None
    verifier: str | None = None
    n: int | None = None
    prompts: int | None = None
    second_judge: Scores | None = None
    seconds_per_image: float | None = None
    cost: dict[str, float | None] = {}

    @property
    def seconds_per_correct(self) -> float | None:
        """Seconds until an image is right, where both are known."""
        return self.seconds_per_image / self.overall if self.seconds_per_image and self.overall else None


class Point(BaseModel):
    """A point of a curve: a search with so many paths."""

    n: int
    overall: float
    se: float | None = None
    second: float | None = None
    second_se: float | None = None
    seconds: float | None = None


class Gain(BaseModel):
    """A difference of scores with its 95 % interval."""

    difference: float
    low: float
    high: float


class Comparison(Gain):
    """Row a − row b by the first judge on the prompts that both have, and the same by the second."""

    a: str
    b: str
    second_judge: Gain | None = None


class Bin(BaseModel):
    """Images with a P(yes) in one interval: its mean there, and the share of them that is right."""

    mean_p: float | None = None
    right: float | None = None
    count: int = 0


class Reliability(BaseModel):
    """How far a verifier's P(yes) can be believed."""

    verifier: str = ""
    bins: list[Bin] = []
    auroc: float | None = None
    balanced_accuracy: float | None = None
    ece: float | None = None
    paths: int | None = None


class Steps(BaseModel):
    """At which step paths were first clear and stopped ("never" for the others), counted, and how rightly."""

    paths: int
    first_clear: dict[str, int] = {}
    stopped: dict[str, int] = {}
    right_of_stopped: float | None = None
    right_of_kept: float | None = None


class Exhibit(BaseModel):
    """A prompt of the gallery: the image file that each row chose and the judges' verdicts on it."""

    prompt: str
    tag: str = ""
    images: dict[str, str] = {}
    correct: dict[str, list[bool | None]] = {}


class Redrawn(BaseModel):
    """The share of right images of the first round where the one before was wrong, by each judge."""

    prompts: int = 0
    right: list[float] = []
    standard_error: list[float] = []


class SelfCorrection(BaseModel):
    """The paper's Table 5 with its controls."""

    rows: dict[str, Row] = {}
    by_round: dict[str, list[Row]] = {}
    redrawn: dict[str, Redrawn] = {}
    comparisons: list[Comparison] = []
    reasons: dict[str, float | None] = {}
    problems: dict[str, int] = {}
    rounds: dict[str, int] = {}

    def label(self, name: str) -> str:
        """What a row is called."""
        row = self.rows.get(name)
        return (row.label if row else "") or readable(name)


class Summary(BaseModel):
    """A study as its engine leaves it."""

    rows: dict[str, Row]
    curves: dict[str, dict[str, list[Point]]] = {}
    comparisons: list[Comparison] = []
    reliability: dict[str, Reliability] = {}
    steps: dict[str, Steps] = {}
    agreement: dict[str, float | None] = {}
    gallery: list[Exhibit] = []
    self_correction: SelfCorrection | None = None
    recipe: dict[str, Any] = {}
    weights: dict[str, Any] = {}
    prompts: int | None = None
    command: str = ""
    date: str = ""
    seconds: float | None = None
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
    """Read a study's folder; UsageError without a summary, ImagecotError where it is damaged or empty."""
    file = folder / SUMMARY
    try:
        values = json.loads(file.read_text(encoding="utf-8"), parse_constant=lambda _: None)
        summary = Summary.model_validate(values)
    except OSError:
        raise UsageError(f"{folder} holds no study ({SUMMARY} is missing); run imagecot study first.") from None
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"])) or "the whole"
        raise ImagecotError(f"{file} is not the summary of a study ({where}); run the study's command again.") from None
    except (ValueError, RecursionError):
        raise ImagecotError(f"{file} is damaged (not valid JSON); run the study's command again.") from None
    if not any(math.isfinite(row.overall) for row in summary.methods.values()):
        raise ImagecotError(f"{file} has no scores yet; let the study finish a few prompts first.")
    return summary
