"""The kinds of values that recipes hold, with bounds: what the machine can hold, not what is sensible.

A whole number is no text, no truth value and no 3.0; every number is finite; a path is not empty.
"""

import dataclasses
import difflib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, Field, JsonValue
from pydantic.fields import FieldInfo

from imagecot.bounds import MAX_SEED, MIN_SEED
from imagecot.errors import ImagecotError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_LONGEST = 4096  # characters of a path or a name


def _usable(value: object) -> object:
    if not isinstance(value, str | Path):
        raise ValueError("it must be text")
    text = str(value)
    if value == "" or not text.strip():
        raise ValueError("it is empty")
    if len(text) > _LONGEST:
        raise ValueError(f"it has {len(text)} characters, more than {_LONGEST}")
    if not text.isprintable():
        raise ValueError("it holds characters that cannot be printed")
    return value


def _whole(least: int, most: int) -> FieldInfo:
    found: FieldInfo = Field(strict=True, ge=least, le=most)
    return found


def _real(
    *, gt: float | None = None, ge: float | None = None, lt: float | None = None, le: float | None = None
) -> FieldInfo:
    found: FieldInfo = Field(strict=True, allow_inf_nan=False, gt=gt, ge=ge, lt=lt, le=le)
    return found


Place = Annotated[Path, BeforeValidator(_usable)]
Name = Annotated[str, Field(strict=True), BeforeValidator(_usable)]
Flag = Annotated[bool, Field(strict=True)]
Seed = Annotated[int, _whole(MIN_SEED, MAX_SEED)]
Whole = Annotated[int, _whole(0, 1_000_000)]
Count = Annotated[int, _whole(1, 100_000_000)]  # of steps, examples, pairs
Batch = Annotated[int, _whole(1, 100_000)]  # of what is held at once
Few = Annotated[int, _whole(1, 1000)]
Real = Annotated[float, _real(ge=-1e6, le=1e6)]
Weight = Annotated[float, _real(ge=0, le=1e6)]
Positive = Annotated[float, _real(gt=0, le=1e6)]
Epochs = Annotated[float, _real(gt=0, le=10_000)]
Rate = Annotated[float, _real(ge=0, le=1000)]  # of learning
PositiveRate = Annotated[float, _real(gt=0, le=1000)]
Share = Annotated[float, _real(ge=0, le=1)]
ShareBelowOne = Annotated[float, _real(ge=0, lt=1)]
# Of a training, in the words of accelerate; to YAML a bare no is false.
MixedPrecision = Annotated[Literal["no", "bf16", "fp16"], BeforeValidator(lambda said: "no" if said is False else said)]

Width = Annotated[int, _whole(1, 20_000)]
Layers = Annotated[int, _whole(1, 200)]


Sizes = dict[str, JsonValue]


def sizes_of(config: "type[DataclassInstance]", build: Callable[[Sizes], object]) -> Callable[[Sizes], Sizes]:
    """A pydantic check that a dictionary holds sizes of a model: fields of a dataclass, and values that go together.

    build  makes the model's configuration; ImagecotError or ValueError where there can be no such model
    """
    names = [field.name for field in dataclasses.fields(config)]

    def checked(values: Sizes) -> Sizes:
        for name in values:
            if name not in names:
                near = difflib.get_close_matches(str(name), names, n=1)
                raise ValueError(f"{name} is not a known key" + (f" (did you mean {near[0]}?)" if near else ""))
        try:
            build(values)
        except ImagecotError as error:
            raise ValueError(str(error).rstrip(".")) from None
        return values

    return checked


RECIPE = ConfigDict(extra="forbid", allow_inf_nan=False)
"""How every model of a recipe is configured: no unknown keys, only finite numbers."""
