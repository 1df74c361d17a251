"""What rows of curated data must hold, checked wherever they are read."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_core import from_json

from imagecot.bounds import MAX_SEED, MIN_SEED
from imagecot.errors import ImagecotError, UsageError
from imagecot.prompts import check_prompt
from imagecot.reading import Foreign, phrases

MOST_STEPS = 100_000
MOST_CODES = 2**15  # codes are kept in 16 bits


def _prompt(text: str) -> str:
    try:
        return check_prompt(text)
    except UsageError as error:
        raise ValueError(str(error).split(";")[0]) from None


def _object(text: str) -> str:
    if not isinstance(from_json(text, allow_inf_nan=False), dict):
        raise ValueError("no JSON object")
    return text


Id = Annotated[str, Field(min_length=1, max_length=1000)]
Prompt = Annotated[str, AfterValidator(_prompt)]
Metadata = Annotated[str, AfterValidator(_object)]
Seed = Annotated[int, Field(ge=MIN_SEED, le=MAX_SEED)]
Step = Annotated[int, Field(ge=0, le=MOST_STEPS)]
Codes = Annotated[list[Annotated[int, Field(ge=0, lt=MOST_CODES)]], Field(min_length=1)]


class Picture(Foreign):
    """The bytes of an image, as Hugging Face datasets embed it."""

    bytes: Annotated[bytes, Field(min_length=1)]


class RankingRow(Foreign):
    """One labelled image. Older and imported data lack codes, reasons and what a redrawn image was drawn from."""

    id: Id
    prompt: Prompt
    task: str
    metadata: Metadata
    question: Literal["orm", "prm", "clarity", "potential", "reflection"]
    step: Step
    steps: Step
    seed: Seed
    label: Literal["yes", "no"]
    agreement: Literal["", "yes", "no"]
    image: Picture
    codes: Codes | None = None
    reasons: str | None = None
    before_codes: Codes | None = None
    told: str | None = None

    @model_validator(mode="after")
    def _step_is_one_of_the_steps(self) -> Self:
        if self.step > self.steps:
            raise ValueError(f"step {self.step} is beyond the {self.steps} steps")
        return self


class PairRow(Foreign):
    """An image that fulfils its prompt and one that does not."""

    id: Id
    prompt: Prompt
    task: str
    metadata: Metadata
    chosen_seed: Seed
    rejected_seed: Seed
    chosen: Picture
    rejected: Picture
    chosen_codes: Codes | None = None
    rejected_codes: Codes | None = None
    before_codes: Codes | None = None
    told: str | None = None

    @model_validator(mode="after")
    def _images_differ(self) -> Self:
        if self.chosen.bytes == self.rejected.bytes:
            raise ValueError("chosen and rejected are the same image")
        return self


class CorrectionRow(Foreign):
    """A rejected image, what is wrong with it, and an accepted one."""

    id: Id
    prompt: Prompt
    task: str
    metadata: Metadata
    reasons: Annotated[str, Field(min_length=1)]
    rejected_seed: Seed
    accepted_seed: Seed
    rejected_codes: Codes
    accepted_codes: Codes


Schemas = type[RankingRow] | type[PairRow] | type[CorrectionRow]


def checked(
    rows: Iterator[tuple[Path, int, dict[str, Any]]], schema: Schemas, codes: Sequence[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield where each row stands, and the row itself.

    rows   file, number and values, as `read_shards` yields them
    codes  the columns whose image codes must be equally many in all rows

    ImagecotError naming file, row and field for a row that does not fit the schema or whose id is there twice.
    """
    seen: set[str] = set()
    length: int | None = None
    for file, number, row in rows:
        where = f"row {number} of {file}"
        try:
            schema.model_validate(row)
        except ValidationError as error:
            raise ImagecotError(f"{where}: {phrases(error)}; remove the row or curate again.") from None
        if row["id"] in seen:
            raise ImagecotError(f"{where}: the id {row['id'][:80]!r} is there twice; remove the row or curate again.")
        seen.add(row["id"])
        for name in codes:
            own = row.get(name)
            length = length if own is None or length else len(own)
            if own is not None and len(own) != length:
                raise ImagecotError(
                    f"{where}: {name} has {len(own)} codes, others have {length}; remove the row or curate again."
                )
        yield where, row
