"""What GenEval's metadata may ask for: only what a judge can see, and nothing that is met or failed by any image.

A requirement that no image can meet, or that every image meets, would be scored without a word; so unknown classes,
colours, relations, tags and keys are refused, as are counts that the rules do not reach.
"""

import difflib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from imagecot.contracts.metadata import Metadata
from imagecot.contracts.values import JSON
from imagecot.errors import ImagecotError, UsageError
from imagecot.geneval.prompts import COLORS, RELATIONS, TASKS
from imagecot.prompts import check_prompt
from imagecot.reading import Foreign, Schema, parse, parse_object, read_lines, read_text

MOST_OBJECTS = 16  # of a class, that the rules look at
_ADVICE = "correct it"
_KEYS = ("tag", "include", "exclude", "prompt")
_NEAR, _VERY_NEAR = 0.6, 0.85  # similarity of a key to one that is missing, or to one that is there


def _one_of(what: str, names: Iterable[str]) -> Callable[[str], str]:
    known = tuple(names)

    def check(name: str) -> str:
        if name not in known:
            raise ValueError(f"must be {what} ({', '.join(known)})")
        return name

    return check


Color = Annotated[str, AfterValidator(_one_of("a colour that the detector knows", COLORS))]
Relation = Annotated[str, AfterValidator(_one_of("a relation that the rules know", RELATIONS))]
Tag = Annotated[str, AfterValidator(_one_of("a task of GenEval", TASKS))]


class Need(Schema):
    """So many objects of a class, of a colour, or in a relation to those of an earlier need.

    The defaults stand for what is not asked for; nobody can write them.
    """

    name: str = Field(alias="class")
    count: int = Field(ge=0, le=MOST_OBJECTS)
    color: Color = ""
    position: tuple[Relation, Annotated[int, Field(ge=0)]] = ("", -1)

    @property
    def target(self) -> int:
        """The number of the need that this one's position is relative to; -1 without a position."""
        return self.position[1]


class Limit(Schema):
    """Fewer objects of a class than `count`."""

    name: str = Field(alias="class")
    count: int = Field(ge=1, le=MOST_OBJECTS)


def _some(needs: list[Need]) -> list[Need]:
    if not needs:
        raise ValueError("requires nothing, so every image would be right")
    return needs


class Requirement(Foreign):
    """One prompt and what its images must show; other keys may stand beside these."""

    tag: Tag
    include: Annotated[list[Need], AfterValidator(_some)]
    exclude: list[Limit] = Field(default_factory=list)
    prompt: str

    @model_validator(mode="after")
    def _can_be_met(self) -> "Requirement":
        limits: dict[str, int] = {}
        for limit in self.exclude:
            limits[limit.name] = min(limit.count, limits.get(limit.name, limit.count))
        colors: dict[str, str] = {}
        for index, need in enumerate(self.include):
            where = f"include.{index}"
            if not need.count and (need.color or need.target >= 0 or need.name not in limits):
                raise ValueError(f"{where} requires nothing, since its count is 0")
            if need.count >= limits.get(need.name, MOST_OBJECTS + 1):
                raise ValueError(f"{where} asks for {need.count} of {need.name}, exclude for fewer")
            if need.color and colors.setdefault(need.name, need.color) != need.color:
                raise ValueError(f"{where} asks for a second colour of {need.name}, but the rules look at the same one")
            if need.target >= 0:
                self._check_target(index, need)
        return self

    def _check_target(self, index: int, need: Need) -> None:
        where = f"include.{index}.position"
        if need.target >= index:
            raise ValueError(f"{where} must name an earlier requirement by its number from 0, not {need.target}")
        other = self.include[need.target]
        if other.name == need.name:
            raise ValueError(f"{where} relates {need.name} to itself, which the rules cannot see")
        if not other.count:
            raise ValueError(f"{where} relates {need.name} to {other.name}, of which it wants none")


def parse_metadata(text: str, where: str, known: frozenset[str]) -> Metadata:
    """Return one prompt's metadata; ImagecotError, naming `where`, if no detector of these classes could judge it."""
    values = parse_object(text, where, advice=_ADVICE)
    _refuse_misspelt(values, where)
    required = parse(text, Requirement, where, advice=_ADVICE)
    try:
        check_prompt(required.prompt)
    except UsageError as error:
        raise ImagecotError(f"{where}: {error}") from None
    for name in [need.name for need in required.include] + [limit.name for limit in required.exclude]:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise ImagecotError(
                f"{where} asks for {name[:60]!r}, a class that the detector does not know{hint}; {_ADVICE}."
            )
    return Metadata.of(values)


def _refuse_misspelt(values: Mapping[str, JSON], where: str) -> None:
    for key in values:
        if key in _KEYS:
            continue
        for known in _KEYS:
            near = difflib.SequenceMatcher(None, key.strip().casefold(), known).ratio()
            if near >= (_VERY_NEAR if known in values else _NEAR):
                raise ImagecotError(f"{where}: {key!r} is not a known key (did you mean {known}?); {_ADVICE}.")


def read_metadata(file: Path, known: frozenset[str]) -> Metadata:
    """Read the one requirement of a prompt's folder; ImagecotError where it is missing, malformed or unknown."""
    text = read_text(file, advice="put the prompt's line of the metadata there")
    lines = [line for line in text.split("\n") if line.strip()]
    if len(lines) > 1 and all(line.startswith("{") for line in lines):
        raise ImagecotError(f"{file} has {len(lines)} lines, not one; keep the line of this prompt only.")
    return parse_metadata(text, str(file), known)


def read_prompts(file: Path, classes: Iterable[str]) -> list[Metadata]:
    """Read a metadata file with a requirement a line; UsageError naming the first line that is malformed."""
    known = frozenset(classes)
    advice = "give a file with a line of metadata for each prompt"
    try:
        prompts = [
            parse_metadata(line, f"line {k} of {file}", known)
            for k, line in read_lines(file, failure=UsageError, advice=advice)
        ]
    except UsageError:
        raise
    except ImagecotError as error:
        raise UsageError(str(error)) from None
    if not prompts:
        raise UsageError(f"{file} holds no prompts; {advice}.")
    return prompts
