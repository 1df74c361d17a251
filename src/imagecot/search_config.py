"""How a checkpoint likes to be searched with: `search_config.json` in its folder, which travels with the weights.

What a folder does not say its base says, where it is an adapter. None of it changes the weights, so it is no part of
their SHA-256; what a search takes from it stands in the trace with all other settings.
"""

from collections.abc import Callable, Mapping
from functools import reduce
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from imagecot.adapters import lineage
from imagecot.checkpoint import AGAIN, is_file
from imagecot.contracts.questions import QUESTIONS
from imagecot.files import write_whole
from imagecot.hub import locate
from imagecot.reading import Schema, read_record

SEARCH_CONFIG = "search_config.json"

Name = Annotated[str, Field(min_length=1, max_length=4096)]
Value = bool | int | float | str | None
_FOLLOWING = {question.name for question in QUESTIONS if question.follows is not None}


class SearchDefaults(Schema):
    """What goes where a user says nothing: the fields of `search_config.json`. A null is said, not left to the base.

    Of a verifier: searches, the settings it likes to be searched with, by the names of searches; questions, the wording
    it was trained on where that is not the paper's, by the names of questions.
    Of a model that draws and judges: roles, what it is listed as where that is not both.
    Of a generator: search, the one that is taken; verifiers, who judges in each search; corrector, who draws again what
    is wrong; world, what its prompts are about.
    """

    searches: dict[Name, dict[Name, Value]] = Field(default_factory=dict)
    questions: dict[Name, Name] = Field(default_factory=dict)
    search: Name | None = None
    verifiers: dict[Name, Name] = Field(default_factory=dict)
    corrector: Name | None = None
    world: Name | None = None
    roles: tuple[Literal["generator", "verifier"], ...] | None = None

    @field_validator("questions")
    @classmethod
    def _askable(cls, value: dict[str, str]) -> dict[str, str]:
        return askable(value)


def askable(questions: dict[str, str]) -> dict[str, str]:
    """Another wording of the paper's questions, by their names; ValueError for what cannot be asked in their place."""
    known = {question.name for question in QUESTIONS}
    for name, template in questions.items():
        if name not in known:
            raise ValueError(f"there is no question {name[:60]!r}; they are {', '.join(sorted(known))}")
        if ("{prompt}" in template) == (name in _FOLLOWING):
            need = "no {prompt}, which was said before" if name in _FOLLOWING else "{prompt} where the prompt goes"
            raise ValueError(f"the template of {name} must have {need}")
    return questions


def read_search_config(folder: Path) -> SearchDefaults | None:
    """Read the file of one folder; None where there is none, ImagecotError, naming the field, where it is damaged."""
    file = folder / SEARCH_CONFIG
    return read_record(file, SearchDefaults, advice=f"mend it, or {AGAIN}") if file.exists() else None


def defaults_of(parts: list[Path]) -> SearchDefaults:
    """What the folders of a model say, its base first: each field by the last folder that has it."""
    said = filter(None, map(read_search_config, parts))
    return reduce(lambda base, own: base.model_copy(update=own.model_dump(exclude_unset=True)), said, SearchDefaults())


def search_defaults(name: str, look: Callable[[str], Path | None] = locate) -> SearchDefaults:
    """What a model that is on disk says, by its name; without any file, or where nothing is on disk, nothing.

    ImagecotError where a file is damaged, or the base of an adapter is missing.
    """
    folder = look(name)
    return defaults_of(lineage(folder, look)) if folder is not None else SearchDefaults()


def copy_search_config(base: str | Path, folder: Path, questions: Mapping[str, str] | None = None) -> None:
    """Give a folder of whole weights what the model that they were trained from says of searching.

    base       its name or folder; of an adapter its base speaks too
    questions  the wording that the weights were trained on, where they have their own

    An adapter needs no file: it reads that of its base. What the folder says itself is kept. ImagecotError where a file
    is damaged or cannot be written.
    """
    if is_file(folder / SEARCH_CONFIG):
        return
    said = search_defaults(str(base)).model_dump()
    config = SearchDefaults.model_validate(said | ({"questions": dict(questions)} if questions else {}))
    if config != SearchDefaults():
        write_whole(folder / SEARCH_CONFIG, f"{config.model_dump_json(indent=2, exclude_defaults=True)}\n".encode())
