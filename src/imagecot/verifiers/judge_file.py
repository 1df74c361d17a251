"""Served judges by name: `https://host/v1#model`, or a YAML file that says more than an address and a model.

Nothing here asks a server, except `load`, which sees that the judge answers.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, ValidationError, field_validator

from imagecot.endpoints import AT_ONCE, KEY, SECONDS, Endpoint
from imagecot.errors import UsageError
from imagecot.precision import Device, Dtype
from imagecot.reading import Schema, phrases, read_text
from imagecot.search_config import askable
from imagecot.yaml_files import parse_yaml

if TYPE_CHECKING:
    from imagecot.verifiers.served import ServedVerifier

_ADVICE = "give an address with a model, such as https://host/v1#model, or a YAML file of a judge"


class Judge(Schema):
    """A judge that a server holds: the keys of its YAML file.

    address      the base address of an interface as OpenAI defined it, with a login and a query where it needs them
    model        how the server calls the model
    concurrency  how many questions are asked side by side
    seconds      what an answer may take, with all tries and the pauses between them
    questions    what is asked in place of the paper's questions, by their names
    answers      a folder where answers are kept and found again; without it every question is asked
    """

    address: Annotated[str, Field(min_length=1, repr=False)]
    model: Annotated[str, Field(min_length=1, max_length=500)]
    concurrency: Annotated[int, Field(ge=1, le=1024)] = AT_ONCE
    seconds: Annotated[float, Field(gt=0, le=86_400)] = SECONDS
    questions: dict[str, str] = Field(default_factory=dict)
    answers: Annotated[str, Field(min_length=1)] | None = None

    @field_validator("model")
    @classmethod
    def _named(cls, value: str) -> str:
        if not value.strip() or not value.isprintable():
            raise ValueError("the name of a model is words that can be printed")
        return value

    @field_validator("questions")
    @classmethod
    def _askable(cls, value: dict[str, str]) -> dict[str, str]:
        return askable(value)

    @property
    def endpoint(self) -> Endpoint:
        """Where it is asked, with the key in OPENAI_API_KEY if there is one; UsageError for no address."""
        return Endpoint(self.address, os.environ.get(KEY, ""), self.seconds, self.concurrency)


def read(text: str) -> Judge:
    """The judge that a name stands for; UsageError, which repeats no password, for one that cannot be read."""
    return _of_address(text) if "://" in text else _of_file(Path(text))


def _of_address(text: str) -> Judge:
    address, _, model = text.partition("#")
    if {*"@?"} & {*address}:
        raise UsageError(
            "an address with a login or a query is no name, since names are written into results; write the address "
            "into a YAML file and name that."
        )
    if not model:
        raise UsageError(f"{address} names a server and no model; {_ADVICE}.")
    return _judge({"address": address, "model": model}, text)


def _of_file(file: Path) -> Judge:
    values = parse_yaml(read_text(file, failure=UsageError, advice=_ADVICE), str(file))
    if not isinstance(values, dict):
        raise UsageError(f"{file} holds no judge; it must be a mapping with an address and a model.")
    return _judge(values, str(file))


def _judge(values: Mapping[str, object], where: str) -> Judge:
    try:
        judge = Judge.model_validate(values)
    except ValidationError as error:
        secret = any(detail["loc"] == ("address",) and detail["type"] != "missing" for detail in error.errors())
        told = "address is no text" if secret else phrases(error)
        raise UsageError(f"{where}: {told}; correct it.") from None
    _ = judge.endpoint
    return judge


def parts(text: str) -> list[tuple[str, str]]:
    """No model of this machine; UsageError where the text cannot be read."""
    _ = read(text)
    return []


def digests(text: str) -> dict[str, str]:
    """SHA-256 of what a file says of the answers: server, model and wording. An address says all itself."""
    if "://" in text:
        return {}
    judge = read(text)
    said = json.dumps([judge.endpoint.shown, judge.model, judge.questions], sort_keys=True)
    return {"file": hashlib.sha256(said.encode()).hexdigest()}


def renamed(text: str, rename: Callable[[str], str]) -> str:
    """The text: it names no verifier."""
    return text


def load(text: str, device: Device, dtype: Dtype) -> "ServedVerifier":
    """The judge, which has answered a question; the server decides where its model runs, and in what format.

    ImagecotError where it cannot be asked.
    """
    from imagecot.verifiers.served import ServedVerifier

    verifier = ServedVerifier(read(text))
    verifier.try_out()
    return verifier
