"""What the rows of a study's own files hold: checked where they are read, since a file may have been damaged."""

from collections.abc import Mapping
from typing import Annotated, Protocol, Self

from pydantic import AfterValidator, Field, JsonValue, PlainSerializer, PlainValidator, model_validator

from imagecot.contracts import search
from imagecot.contracts.metadata import Metadata
from imagecot.reading import Schema
from imagecot.reflection.discrepancies import Discrepancy
from imagecot.study.kinds import Count, Seconds, Share

Codes = list[Count]


def _metadata(found: object) -> Metadata:
    if isinstance(found, Metadata):
        return found
    if not isinstance(found, Mapping):
        raise ValueError("it is no object")
    for key in ("prompt", "tag"):
        if not isinstance(found.get(key), str):
            raise ValueError(f"{key} is no text")
    return Metadata.of(found)


def _with_a_problem(said: Mapping[str, object]) -> Mapping[str, object]:
    if not isinstance(said.get("problem"), str | None) or "problem" not in said:
        raise ValueError("problem is neither text nor null")
    return said


Prompt = Annotated[Metadata, PlainValidator(_metadata), PlainSerializer(lambda metadata: metadata.as_json())]
Said = Annotated[Mapping[str, object], AfterValidator(_with_a_problem)]  # a reflection, as `described` tells it


class Row(Schema):
    """A row of a file of a study."""

    def as_json(self) -> dict[str, JsonValue]:
        """The row as the file holds it: what was set, in the order of the fields."""
        return self.model_dump(mode="json", exclude_unset=True)


class Spent(Protocol):
    """What says when the work on it began and ended, in seconds since 1970."""

    @property
    def began(self) -> float:
        """When it began."""
        ...

    @property
    def ended(self) -> float:
        """When it ended."""
        ...


class Numbered(Row):
    """A row of a `Store`, which knows it by its number."""

    number: Count


class Counts(Schema):
    """What was spent, without the seconds, which a replayed search does not have."""

    generator_rows: Count
    previews: Count
    judge_calls: Count
    tokens_judged: Count

    @classmethod
    def of(cls, cost: search.Cost) -> Self:
        """The counts of a cost."""
        return cls(
            generator_rows=cost.generator_rows,
            previews=cost.previews,
            judge_calls=cost.judge_calls,
            tokens_judged=cost.tokens_judged,
        )


class PathRow(Schema):
    """What a search said of one path; `fill` is that of the preview whose potential it asked for, if it has one."""

    score: Share | None
    stopped: Count | None
    first_clear: Count | None
    potential: Share | None
    fill: str | None = None

    @property
    def record(self) -> search.PathRecord:
        """The same as a search replays it."""
        return search.PathRecord(self.score, self.stopped, self.first_clear, self.potential)


class Outcome(Schema):
    """What a search made of a prompt's paths; `correct`, `atoms` and `codes` where it drew paths of its own."""

    paths: Annotated[list[PathRow], Field(min_length=1)]
    chosen: Count
    cost: Counts
    correct: list[bool] | None = None
    atoms: list[Share] | None = None
    codes: Codes | None = None

    @model_validator(mode="after")
    def _choice_is_there(self) -> Self:
        if self.chosen >= len(self.paths):
            raise ValueError(f"path {self.chosen} is chosen of {len(self.paths)}")
        return self


class PoolRow(Numbered):
    """A prompt's pool: verdicts a judge and path, codes a path, outcomes a row of the table.

    atoms  the shares of the prompt's parts that are right, a judge and path; earlier versions did not keep them
    """

    metadata: Prompt
    correct: Annotated[list[list[bool]], Field(min_length=1)]
    reasons: list[str]
    atoms: list[list[Share]] | None = None
    judges: list[JsonValue] | None = None
    codes: list[Codes] | None = None
    searches: dict[str, Outcome]
    began: Seconds
    ended: Seconds

    @model_validator(mode="after")
    def _as_many_each(self) -> Self:
        paths = len(self.correct[0])
        counted = {len(self.reasons), *map(len, self.correct), *map(len, self.atoms or [])}
        if paths < 1 or counted | ({len(self.codes)} if self.codes is not None else set()) != {paths}:
            raise ValueError("verdicts, reasons and codes are not of equally many paths")
        sizes = {len(codes) for codes in [*(self.codes or []), *(o.codes for o in self.searches.values() if o.codes)]}
        if len(sizes) > 1:
            raise ValueError("the images have different numbers of codes")
        return self


class TimingRow(Row):
    """A measurement: the seconds of one search of one prompt with `n` paths, and what was counted.

    of  by which settings and models, where those of a row may change
    """

    name: str
    of: str = ""
    n: Annotated[Count, Field(ge=1)]
    prompt: str
    seconds: Seconds
    judge_seconds: Seconds | None = None
    counts: Counts | None = None
    began: Seconds
    ended: Seconds


class Arm(Schema):
    """What a row of Table 5 chose for a prompt, by judge; and after each round, and of the first round's images."""

    correct: list[bool]
    cost: Counts
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

    metadata: Prompt
    arms: dict[str, Arm]
    said: list[Said]
    reasons: str
    understood: list[Discrepancy]
    true: list[Discrepancy]
    began: Seconds
    ended: Seconds


class Corrected(Schema):
    """A wrong image: the share of right redraws a way and judge, and what was said to be wrong with it."""

    right: dict[str, list[Share]]
    true: list[Discrepancy]
    found: list[Discrepancy]
    written: list[Discrepancy]


class CorrectionsRow(Numbered):
    """A prompt of a study of corrections; `told` are the scorer's reasons of its last image, for the next prompt."""

    metadata: Prompt
    corrected: list[Corrected]
    told: str
    began: Seconds
    ended: Seconds


class Seen(Schema):
    """What verifiers said of the previews of a prompt's paths after a step: P(yes) by verifier, question and path.

    fill  how the previews were completed, where their generator had to
    """

    step: Annotated[Count, Field(ge=1)]
    fill: str | None
    answers: dict[str, dict[str, list[Share]]]


class AuditRow(Numbered):
    """A prompt of an audit: verdicts a judge and path, P(yes) to the ORM question of the final images, and before.

    steps  of its paths
    """

    metadata: Prompt
    steps: Annotated[Count, Field(ge=1)]
    correct: Annotated[list[list[bool]], Field(min_length=1)]
    final: dict[str, list[Share]]
    seen: list[Seen]
    began: Seconds
    ended: Seconds

    @model_validator(mode="after")
    def _as_many_each(self) -> Self:
        said = [found for seen in self.seen for by in seen.answers.values() for found in by.values()]
        counts = {len(found) for found in self.correct} | {len(found) for found in [*self.final.values(), *said]}
        if counts != {len(self.correct[0])}:
            raise ValueError("verdicts and answers are not of equally many paths")
        if any(seen.step >= self.steps for seen in self.seen):
            raise ValueError(f"a preview is of no step before the {self.steps}th")
        return self
