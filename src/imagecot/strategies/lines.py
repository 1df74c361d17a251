"""The lines of `trace.jsonl`: a strict schema for each, so that damaged and foreign lines are refused."""

from dataclasses import asdict
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from imagecot.contracts.reflection import Reflection
from imagecot.contracts.search import Candidate, Cost, Verdict
from imagecot.contracts.values import JSON
from imagecot.reading import Schema
from imagecot.reflection.discrepancies import described

Probability = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Step = Annotated[int, Field(ge=1, lt=2**31)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]


class CostLine(Schema):
    """A `Cost`."""

    seconds: Annotated[float, Field(ge=0)]
    judge_seconds: Annotated[float, Field(ge=0)] = 0.0
    generator_rows: Count
    previews: Count
    judge_calls: Count
    tokens_judged: Count

    def cost(self) -> Cost:
        """The object that the line stands for."""
        return Cost(**self.model_dump())


class VerdictLine(Schema):
    """A `Verdict`."""

    step: Step
    question: str
    p_yes: Probability
    fill: str | None = None

    def verdict(self) -> Verdict:
        """The object that the line stands for."""
        return Verdict(**self.model_dump())


class ReflectionLine(Schema):
    """A `Reflection`; the last two fields say for people how it was understood."""

    text: str
    p_yes: Probability
    complete: bool
    discrepancies: tuple[dict[str, JsonValue], ...] = ()
    problem: str | None = None

    def reflection(self) -> Reflection:
        """The object that the line stands for."""
        return Reflection(self.text, self.p_yes, self.complete)


class CandidateLine(Schema):
    """A `Candidate`, without pictures and codes."""

    seed: Seed
    truncated_at: Step | None
    first_clear: Step | None
    resumed_at: Step | None
    score: Probability | None
    verdicts: list[VerdictLine]
    round: Count = 0
    corrects: Count | None = None
    forks: Count | None = None
    forked_at: Count | None = None  # 0 where all was taken back
    reflection: ReflectionLine | None = None

    def candidate(self) -> Candidate:
        """The object that the line stands for."""
        return Candidate(
            seed=self.seed,
            truncated_at=self.truncated_at,
            first_clear=self.first_clear,
            resumed_at=self.resumed_at,
            score=self.score,
            verdicts=[line.verdict() for line in self.verdicts],
            round=self.round,
            corrects=self.corrects,
            forks=self.forks,
            forked_at=self.forked_at,
            reflection=self.reflection.reflection() if self.reflection else None,
        )


def as_line(candidate: Candidate) -> dict[str, JSON]:
    """A candidate without pictures and codes, as `CandidateLine` reads it."""
    values: dict[str, JSON] = {
        "seed": candidate.seed,
        "truncated_at": candidate.truncated_at,
        "first_clear": candidate.first_clear,
        "resumed_at": candidate.resumed_at,
        "score": candidate.score,
        "verdicts": [_verdict(verdict) for verdict in candidate.verdicts],
    }
    if candidate.round:
        values |= {"round": candidate.round, "corrects": candidate.corrects}
    if candidate.forks is not None:
        values |= {"forks": candidate.forks, "forked_at": candidate.forked_at}
    if candidate.reflection is not None:
        values["reflection"] = described(candidate.reflection)
    return values


def _verdict(verdict: Verdict) -> dict[str, JSON]:
    """A verdict as `VerdictLine` reads it: without a fill where none was needed."""
    values = asdict(verdict)
    return values if verdict.fill is not None else {name: value for name, value in values.items() if name != "fill"}


class RunLine(Schema):
    """The first line: what was asked for."""

    kind: Literal["run"]
    prompt: str
    strategy: str
    generator: str
    verifier: str | None
    n: Annotated[int, Field(ge=1, lt=2**63)]
    seed: Seed
    steps: Step
    settings: dict[str, JsonValue]
    weights: dict[str, str]
    model_settings: dict[str, dict[str, JsonValue]] = Field(default_factory=dict)
    versions: dict[str, str]


class PathLine(CandidateLine):
    """A line a path, in their order."""

    kind: Literal["path"]
    index: Count


class ChoiceLine(Schema):
    """The last line: the choice, and what it cost."""

    kind: Literal["choice"]
    chosen: Count
    cost: CostLine
    picture_cost: CostLine
