"""Into which parts a prompt falls: as a caller or a file says, as its words are read, or as a chat model says."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, JsonValue, model_validator

from imagecot.contracts.metadata import Metadata
from imagecot.contracts.values import JSON
from imagecot.errors import UsageError
from imagecot.geneval.parts import parts_of
from imagecot.geneval.prompts import normalise
from imagecot.geneval.reading import read_prompt
from imagecot.reading import Foreign, read_bytes, read_records
from imagecot.verifiers.chat_splitting import ChatSplitter, Parts, short, usable

_ADVICE = 'a line needs a prompt and its parts, such as {"prompt": "a fox in the snow", "parts": ["a fox", "snow"]}'


class _Line(Foreign):
    """A line of a file: a prompt with its parts, or with what GenEval's metadata say that it asks for."""

    prompt: Annotated[str, Field(min_length=1)]
    parts: Annotated[list[str], AfterValidator(lambda parts: list(usable(parts)))] | None = None
    include: list[JsonValue] | None = None

    @model_validator(mode="after")
    def _splits(self) -> Self:
        if not self.listed:
            raise ValueError("there are no parts")
        return self

    @property
    def listed(self) -> Parts:
        """The parts."""
        if self.parts is not None:
            return tuple(self.parts)
        try:
            return parts_of(Metadata.of({"tag": "", "prompt": self.prompt, "include": self.include or []}))
        except (ValueError, IndexError) as error:  # a need without a name, a relation without a target
            raise ValueError(f"include is no requirement of GenEval ({error})") from None


@dataclass(frozen=True)
class Splitter:
    """Tells the parts of prompts: each is a prompt that asks for one thing alone.

    told  parts by prompts, which go before all else; case and blanks play no part
    file  SHA-256 of the file that they come from; "" where they come from none
    chat  who is asked about prompts that are neither told nor of GenEval's wording
    """

    told: Mapping[str, Sequence[str]] = field(default_factory=dict)
    file: str = ""
    chat: ChatSplitter | None = None

    def __post_init__(self) -> None:
        try:
            told = {normalise(prompt): usable(parts) for prompt, parts in self.told.items()}
        except ValueError as error:
            raise UsageError(f"the parts of a prompt cannot be used: {error}.") from None
        object.__setattr__(self, "told", told)

    @classmethod
    def read(cls, file: Path, chat: ChatSplitter | None = None) -> Self:
        """Read the parts of prompts from JSON lines, or what GenEval's metadata say of them.

        UsageError where there are no lines, or one has no parts, or others than one before.
        """
        told: dict[str, Parts] = {}
        for number, line in read_records(file, _Line, failure=UsageError, advice=_ADVICE):
            if told.setdefault(normalise(line.prompt), line.listed) != line.listed:
                raise UsageError(f"line {number} of {file} splits a prompt otherwise than an earlier line; keep one.")
        if not told:
            raise UsageError(f"{file} is empty; {_ADVICE}.")
        return cls(told, hashlib.sha256(read_bytes(file, failure=UsageError)).hexdigest(), chat)

    @property
    def settings(self) -> Mapping[str, JSON]:
        """What parts depend on, where it is more than the words of prompts."""
        found: dict[str, JSON] = {}
        if self.told:
            told = sorted((prompt, *parts) for prompt, parts in self.told.items())
            found["told"] = self.file or hashlib.sha256(repr(told).encode()).hexdigest()
        if self.chat is not None:
            found["chat"] = dict(self.chat.settings)
        return found

    def split(self, prompts: Sequence[str]) -> list[Parts]:
        """The parts of each prompt, at least one.

        UsageError for a prompt that nobody can split; ImagecotError where the chat model does not answer.
        """
        found = {prompt: self._known(prompt) for prompt in dict.fromkeys(prompts)}
        unknown = [prompt for prompt, parts in found.items() if parts is None]
        if unknown and self.chat is None:
            raise UsageError(
                f"{short(unknown[0])!r} cannot be read into parts; word it as GenEval does, such as 'a photo of two "
                "cups', name a chat model that splits prompts (atoms[chat=ADDRESS#MODEL]:VERIFIER), or give the parts "
                "in a file (atoms[parts=FILE]:VERIFIER)."
            )
        if unknown and self.chat is not None:
            found |= zip(unknown, self.chat.split(unknown), strict=True)
        return [parts for prompt in prompts if (parts := found[prompt]) is not None]

    def _known(self, prompt: str) -> Parts | None:
        told = self.told.get(normalise(prompt))
        if told is not None:
            return tuple(told)
        requirement = read_prompt(prompt)
        return None if requirement is None else parts_of(requirement)
