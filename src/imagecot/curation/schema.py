"""The rows of curated data: what they hold, how Parquet keeps it, and what is checked wherever they are read."""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Annotated, Generic, Literal, Self, TypeVar, get_args, get_type_hints

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, TypeAdapter, model_validator
from pydantic_core import from_json

from imagecot.bounds import MAX_SEED, MIN_SEED
from imagecot.errors import UsageError
from imagecot.prompts import check_prompt
from imagecot.reading import Foreign

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


class Picture(Foreign):
    """An image as Hugging Face datasets embed it."""

    bytes: Annotated[bytes, Field(min_length=1)]


def _unpacked(value: object) -> bytes:
    return Picture.model_validate(value).bytes


def _embedded(data: bytes) -> dict[str, bytes | None]:
    return {"bytes": data, "path": None}


@dataclass(frozen=True)
class Stored:
    """How Parquet keeps a field.

    kind     what Hugging Face datasets call its type, or `image`
    is_list  whether the field is a list of such values
    """

    kind: str
    is_list: bool = False


Text = Annotated[str, Field(strict=True), Stored("string")]
Id = Annotated[Text, Field(min_length=1, max_length=1000)]
Prompt = Annotated[Text, AfterValidator(_prompt)]
Object = Annotated[Text, AfterValidator(_object)]
Seed = Annotated[int, Field(strict=True, ge=MIN_SEED, le=MAX_SEED), Stored("int64")]
Step = Annotated[int, Field(strict=True, ge=0, le=MOST_STEPS), Stored("int32")]
Code = Annotated[int, Field(strict=True, ge=0, lt=MOST_CODES)]
Codes = Annotated[list[Code], Field(strict=True, min_length=1), Stored("int16", is_list=True)]
Image = Annotated[bytes, BeforeValidator(_unpacked), PlainSerializer(_embedded), Stored("image")]
Question = Literal["orm", "prm", "clarity", "potential", "reflection"]
Label = Literal["yes", "no"]


@dataclass(frozen=True, slots=True)
class RankingRow:
    """One labelled image; older and imported data lack what stands from `codes` on.

    metadata      what GenEval requires, as JSON
    question      that is asked of the image, which shows the path after `step` of `steps`
    seed          of the path
    agreement     of clarity: whether the scorer's verdict on a preview is that on the final image
    image         a PNG, or what else was imported
    codes         (N,), what the image was decoded from; encoding the image again need not give them
    reasons       of a reflection: what is wrong with the image
    before_codes  of an image that was drawn again: the codes of the one before, and what was `told` of that
    fill          of a preview that its generator had to complete: how it did (`imagecot.contracts.Filling`)
    """

    id: Id
    prompt: Prompt
    task: Text
    metadata: Object
    question: Annotated[Question, Stored("string")]
    step: Step
    steps: Step
    seed: Seed
    label: Annotated[Label, Stored("string")]
    agreement: Annotated[Literal["", "yes", "no"], Stored("string")]
    image: Image
    codes: Codes | None = None
    reasons: Text | None = None
    before_codes: Codes | None = None
    told: Text | None = None
    fill: Text | None = None

    @model_validator(mode="after")
    def _step_is_one_of_the_steps(self) -> Self:
        if self.step > self.steps:
            raise ValueError(f"step {self.step} is beyond the {self.steps} steps")
        return self

    @property
    def answer(self) -> str:
        """What a verifier shall say: yes or no, with the reasons where there are any."""
        return f"{self.label}, {self.reasons}" if self.reasons else self.label


@dataclass(frozen=True, slots=True)
class PairRow:
    """An image that fulfils its prompt and one that does not; fields as of `RankingRow`."""

    id: Id
    prompt: Prompt
    task: Text
    metadata: Object
    chosen_seed: Seed
    rejected_seed: Seed
    chosen: Image
    rejected: Image
    chosen_codes: Codes | None = None
    rejected_codes: Codes | None = None
    before_codes: Codes | None = None
    told: Text | None = None

    @model_validator(mode="after")
    def _images_differ(self) -> Self:
        if self.chosen == self.rejected:
            raise ValueError("chosen and rejected are the same image")
        return self


@dataclass(frozen=True, slots=True)
class CorrectionRow:
    """A rejected image, what is wrong with it, and an accepted one; fields as of `RankingRow`.

    difference  the mean difference of the images' pixels, in 0 to 1
    """

    id: Id
    prompt: Prompt
    task: Text
    metadata: Object
    reasons: Annotated[Text, Field(min_length=1)]
    rejected_seed: Seed
    accepted_seed: Seed
    rejected_codes: Codes
    accepted_codes: Codes
    difference: Annotated[float, Field(strict=True, allow_inf_nan=False), Stored("float32")] | None = None
    rejected: Image | None = None
    accepted: Image | None = None


Row = TypeVar("Row", RankingRow, PairRow, CorrectionRow)


@dataclass(frozen=True)
class Form(Generic[Row]):
    """How rows of a class are kept.

    adapter   makes a row of the values of its columns, if they are such, and the values of a row
    columns   how Parquet keeps the fields, by their names and in their order
    required  the columns that all data have
    """

    adapter: TypeAdapter[Row]
    columns: Mapping[str, Stored]
    required: Sequence[str]


def _form(row: type[Row]) -> Form[Row]:
    hints = get_type_hints(row, include_extras=True)
    stored = {field.name: _stored(hints[field.name]) for field in fields(row)}
    columns = {name: how for name, how in stored.items() if how}
    return Form(TypeAdapter(row), columns, [field.name for field in fields(row) if field.default is MISSING])


def _stored(hint: object) -> Stored | None:
    """What a type says of that, or a part of it."""
    parts = (part if isinstance(part, Stored) else _stored(part) for part in get_args(hint))
    return next(filter(None, parts), None)


RANKING, PAIRS, CORRECTIONS = _form(RankingRow), _form(PairRow), _form(CorrectionRow)
