"""What the rows of a study's own files hold: checked where they are read, since a file may have been damaged."""

from dataclasses import fields
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from imagecot.contracts.search import Cost
from imagecot.reading import Schema
from imagecot.study.kinds import Count, Seconds, Share

Row = dict[str, Any]
Codes = list[Count]
SECONDS = ("seconds", "judge_seconds")  # of a cost, which a replayed search does not have
COUNTS = tuple(field.name for field in fields(Cost) if field.name not in SECONDS)


def _of_a_prompt(metadata: Row) -> Row:
    for key in ("prompt", "tag"):
        if not isinstance(metadata.get(key), str):
            raise ValueError(f"{key} is no text")
    return metadata


def _of_a_cost(cost: Row) -> Row:
    for key in COUNTS:
        if key not in cost:
            raise ValueError(f"{key} is missing")
    return cost


def _with_a_problem(said: Row) -> Row:
    if not isinstance(said.get("problem"), str | None) or "problem" not in said:
        raise ValueError("problem is neither text nor null")
    return said


PromptRecord = Annotated[Row, AfterValidator(_of_a_prompt)]
CostRecord = Annotated[dict[str, Count], AfterValidator(_of_a_cost)]
Said = Annotated[Row, AfterValidator(_with_a_problem)]


class Numbered(Schema):
    """A row of a `Store`, which knows it by its number."""

    number: Count


class PathRecord(Schema):
    """What a search said of one path."""

    score: Share | None
    stopped: Count | None
    first_clear: Count | None
    potential: Share | None


class Outcome(Schema):
    """What a search made of a prompt's paths; `correct` and `codes` where it drew paths of its own."""

    paths: Annotated[list[PathRecord], Field(min_length=1)]
    chosen: Count
    cost: CostRecord
    correct: list[bool] | None = None
    codes: Codes | None = None

    @model_validator(mode="after")
    def _choice_is_there(self) -> Self:
        if self.chosen >= len(self.paths):
            raise ValueError(f"path {self.chosen} is chosen of {len(self.paths)}")
        return self


class PoolRow(Numbered):
    """A prompt's pool: verdicts a judge and path, codes a path, outcomes a row of the table."""

    metadata: PromptRecord
    correct: Annotated[list[list[bool]], Field(min_length=1)]
    reasons: list[str]
    judges: list[Any] | None = None
    codes: list[Codes] | None = None
    searches: dict[str, Outcome]
    began: Seconds
    ended: Seconds

    @model_validator(mode="after")
    def _as_many_each(self) -> Self:
        paths = len(self.correct[0])
        counted = {len(found) for found in self.correct} | {len(self.reasons)}
        if paths < 1 or counted | ({len(self.codes)} if self.codes is not None else set()) != {paths}:
            raise ValueError("verdicts, reasons and codes are not of equally many paths")
        sizes = {len(codes) for codes in [*(self.codes or []), *(o.codes for o in self.searches.values() if o.codes)]}
        if len(sizes) > 1:
            raise ValueError("the images have different numbers of codes")
        return self


class TimingRow(Schema):
    """A measurement: the seconds of one search of one prompt with `n` paths."""

    name: str
    n: Annotated[Count, Field(ge=1)]
    prompt: str
    seconds: Seconds
    began: Seconds
    ended: Seconds


class DiscrepancyRow(Schema):
    """One thing that is wrong with an image."""

    kind: Literal["missing", "extra", "count", "color", "position"]
    object: str
    expected: str = ""
    found: str = ""
    target: str = ""


class Arm(Schema):
    """What a row of Table 5 chose for a prompt, by judge; and after each round, and of the first round's images."""

    correct: list[bool]
    cost: CostRecord
    by_round: list[list[bool]] | None = None
    redrawn: list[list[bool]] | None = None

    @model_validator(mode="after")
    def _as_many_each(self) -> Self:
        if {len(found) for found in [self.correct, *(self.by_round or []), *(self.redrawn or [])]} != {
            len(self.correct)
        }:
            raise ValueError("verdicts are not of equally many judges")
        return self


class SelfCorrectionRow(Numbered):
    """A prompt of Table 5."""

    metadata: PromptRecord
    arms: dict[str, Arm]
    said: list[Said]
    reasons: str
    understood: list[DiscrepancyRow]
    true: list[DiscrepancyRow]
    began: Seconds
    ended: Seconds


class Corrected(Schema):
    """A wrong image: the share of right redraws a way and judge, and what was said to be wrong with it."""

    right: dict[str, list[Share]]
    true: list[DiscrepancyRow]
    found: list[DiscrepancyRow]
    written: list[DiscrepancyRow]


class CorrectionsRow(Numbered):
    """A prompt of a study of corrections."""

    metadata: PromptRecord
    corrected: list[Corrected]
    told: str
    began: Seconds
    ended: Seconds
