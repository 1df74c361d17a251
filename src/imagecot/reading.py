"""Reading text, JSON and JSON lines: one way for all files, and one sentence that names file, line and field.

Text is UTF-8, with or without a byte order mark. Lines end at a line feed and nowhere else, since JSON strings may hold
every other separator. JSON is read by pydantic's parser: NaN, lone surrogates, numbers without end and structures
without bottom are refused and not passed on.
"""

import lzma
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import from_json

from imagecot.contracts.values import JSON
from imagecot.errors import ImagecotError, said

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_MOST_UNPACKED = 1 << 30  # bytes
_SHOWN = 60  # characters of a wrong value that a message repeats


class Schema(BaseModel):
    """What a record or a file of ours must hold: no other fields, no other types, only finite numbers."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Foreign(BaseModel):
    """What is needed of a record or a file that others write: fields that are not named here may stand beside it."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True, allow_inf_nan=False)


Model = TypeVar("Model", bound=BaseModel)
Failure = type[ImagecotError]


def check_regular(file: Path, *, failure: Failure = ImagecotError, advice: str = "check the path") -> None:
    """Raise `failure` where a file is missing or no regular one, such as a folder or a pipe that never ends."""
    with _clear_read_errors(file, failure, advice):
        mode = file.stat().st_mode
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "no regular file"
        raise failure(f"{file} is {what}; {advice}.")


def read_bytes(file: Path, *, failure: Failure = ImagecotError, advice: str = "check the path") -> bytes:
    """Return what a file holds; `failure` where it is missing, no regular file or unreadable."""
    check_regular(file, failure=failure, advice=advice)
    with _clear_read_errors(file, failure, advice):
        return file.read_bytes()


@contextmanager
def _clear_read_errors(file: Path, failure: Failure, advice: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise failure(f"{file} is missing; {advice}.") from None
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        raise failure(f"{file} cannot be read ({said(error)}); {advice}.") from None


def read_text(file: Path, *, failure: Failure = ImagecotError, advice: str = "check the path") -> str:
    """Return the text of a UTF-8 file, or of one packed as .xz, without its byte order mark; `failure` for no text."""
    data = read_bytes(file, failure=failure, advice=advice)
    if file.suffix == ".xz":
        data = _unpacked(data, file, failure, advice)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise failure(f"{file} is not UTF-8 text (byte {error.start}); {advice}.") from None


def _unpacked(data: bytes, file: Path, failure: Failure, advice: str) -> bytes:
    unpacking = lzma.LZMADecompressor(memlimit=_MOST_UNPACKED)
    try:
        text = unpacking.decompress(data, _MOST_UNPACKED)
    except lzma.LZMAError as error:
        raise failure(f"{file} is damaged ({str(error).lower()}); {advice}.") from None
    if not unpacking.eof:
        raise failure(f"{file} is cut off, or holds more than {_MOST_UNPACKED >> 20} MiB; {advice}.")
    return text


def read_lines(
    file: Path, *, failure: Failure = ImagecotError, advice: str = "check the path"
) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text file that are not blank, with their numbers from 1; errors as of `read_text`."""
    for number, line in enumerate(read_text(file, failure=failure, advice=advice).split("\n"), 1):
        if line.strip():
            yield number, line.removesuffix("\r")


def parse_json(text: str | bytes, where: str, *, failure: Failure = ImagecotError, advice: str) -> JSON:
    """Return any JSON value; `failure`, naming `where`, for what is no JSON."""
    try:
        value: JSON = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise failure(f"{where} is not valid JSON ({error}); {advice}.") from None
    return value


def parse_object(text: str | bytes, where: str, *, failure: Failure = ImagecotError, advice: str) -> dict[str, JSON]:
    """Return a JSON object; `failure`, naming `where`, for anything else."""
    value = parse_json(text, where, failure=failure, advice=advice)
    if not isinstance(value, dict):
        raise failure(f"{where} does not hold a JSON object; {advice}.")
    return value


def read_object(file: Path, *, failure: Failure = ImagecotError, advice: str) -> dict[str, JSON]:
    """Return the JSON object that a file holds; `failure` where it holds none."""
    return parse_object(read_text(file, failure=failure, advice=advice), str(file), failure=failure, advice=advice)


def parse(
    text: str | bytes, schema: type[Model], where: str, *, failure: Failure = ImagecotError, advice: str
) -> Model:
    """Return one record of JSON; `failure`, naming `where` and the fields, for what does not fit the schema."""
    parse_json(text, where, failure=failure, advice=advice)
    try:
        return schema.model_validate_json(text)
    except ValidationError as error:
        raise failure(f"{where}: {phrases(error)}; {advice}.") from None


def read_record(file: Path, schema: type[Model], *, failure: Failure = ImagecotError, advice: str) -> Model:
    """Return the one record of JSON that a file holds; errors as of `read_text` and `parse`."""
    return parse(read_text(file, failure=failure, advice=advice), schema, str(file), failure=failure, advice=advice)


def read_records(
    file: Path, schema: type[Model], *, failure: Failure = ImagecotError, advice: str
) -> Iterator[tuple[int, Model]]:
    """Yield the records of a file of JSON lines with their line numbers; errors as of `read_text` and `parse`."""
    for number, line in read_lines(file, failure=failure, advice=advice):
        yield number, parse(line, schema, f"line {number} of {file}", failure=failure, advice=advice)


def phrases(error: ValidationError, most: int = 3) -> str:
    """Say what is wrong with a record: its first few problems, a phrase each, with their fields."""
    found = [_phrase(detail) for detail in error.errors()]
    rest = f"; and {len(found) - most} more problems" if len(found) > most else ""
    return "; ".join(found[:most]) + rest


def _phrase(detail: "ErrorDetails") -> str:
    where = ".".join(map(str, detail["loc"]))
    if detail["type"] == "missing":
        return f"{where} is missing"
    if detail["type"] == "extra_forbidden":
        return f"{where} is not a known key"
    message = detail["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if not where:
        return message
    shown = repr(detail["input"])
    shown = shown if len(shown) <= _SHOWN else shown[:_SHOWN] + "…"
    return f"{where}: {message}, not {shown}"
