"""Sizes of models, as their `config.json` says them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Self, TypeAlias

from pydantic import AfterValidator, ConfigDict, Field, ValidationError
from pydantic_core import to_jsonable_python

from imagecot.checkpoint import AGAIN, CONFIG, read_config
from imagecot.contracts.values import JSON
from imagecot.errors import ImagecotError
from imagecot.reading import phrases

MOST_WEIGHTS = 10**11
_MOST_LEVELS = 8
_LONGEST_NAME = 4096


def _printable(name: str) -> str:
    if not name.isprintable():
        raise ValueError("it must be printable")
    return name


Name: TypeAlias = Annotated[str, Field(max_length=_LONGEST_NAME), AfterValidator(_printable)]
PerLevel: TypeAlias = Annotated[
    tuple[Annotated[int, Field(ge=1, le=64)], ...], Field(min_length=1, max_length=_MOST_LEVELS, strict=False)
]
"""A number for each resolution level, level 0 the finest."""
SIZES = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


class JsonConfig:
    """Reading and writing `config.json`; fields that the file does not mention keep the released values."""

    def _contradictions(self) -> Iterator[str]:
        """What of fields that are right by themselves does not go together."""
        yield from ()

    def __post_init__(self) -> None:
        found = [*self._contradictions()]
        if found:
            raise ValueError("; ".join(found))

    @classmethod
    def from_dict(cls, values: Mapping[str, JSON]) -> Self:
        """Take the known fields of `values` and ignore the rest (`_class_name`, `llm_model_path`, ...).

        ImagecotError for values that no model can have.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            raise ImagecotError(f"{cls.__name__} cannot be: {phrases(error)}.") from None

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Read `folder/config.json`; ImagecotError where it is missing, is not JSON or describes no model."""
        values = read_config(Path(folder))
        try:
            return cls.from_dict(values)
        except ImagecotError as error:
            told = str(error).partition(": ")[2].rstrip(".")
            raise ImagecotError(f"{Path(folder) / CONFIG} describes no model: {told}; {AGAIN}.") from None

    def to_dict(self) -> dict[str, JSON]:
        """Return what `config.json` holds."""
        return {"_class_name": type(self).__name__.removesuffix("Config"), **to_jsonable_python(self)}
