"""Answers of a served judge that are kept in a folder, so that no question is asked or paid for twice.

A file is named after all that decides the answer: the server, the request with model, wording, prompt and the bytes of
the image, and what is looked for. It holds none of these, and no key.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from imagecot.endpoints import Body
from imagecot.files import make_folder, write_whole
from imagecot.reading import Schema, read_record


class Answer(Schema):
    """An answer of a judge.

    p         the probability of what was looked for in its first token, such as P(yes)
    tokens    what the server counted, read and written
    text      what it wrote
    complete  whether the judge ended it itself
    """

    p: Annotated[float, Field(ge=0, le=1)]
    tokens: Annotated[int, Field(ge=0)]
    text: str
    complete: bool


@dataclass(frozen=True)
class KeptAnswers:
    """The answers in `folder`; without one nothing is kept. Threads and processes may share it."""

    folder: Path | None

    def find(self, name: str) -> Answer | None:
        """The answer of this name, if there is one; ImagecotError where its file is damaged."""
        file = self._file(name)
        if file is None or not file.is_file():
            return None
        return read_record(file, Answer, advice="delete it, and it is asked again")

    def keep(self, name: str, answer: Answer) -> None:
        """Write an answer to its file, whole or not at all; ImagecotError where that is not possible."""
        file = self._file(name)
        if file is not None:
            make_folder(file.parent)
            write_whole(file, f"{answer.model_dump_json()}\n".encode())

    def _file(self, name: str) -> Path | None:
        return None if self.folder is None else self.folder / name[:2] / f"{name}.json"


def name_of(server: str, body: Body, wanted: Sequence[str] | None = None) -> str:
    """The name of the answer to a request.

    wanted  the spellings that are looked for; None for yes and no
    """
    return hashlib.sha256(json.dumps([server, body, wanted], sort_keys=True).encode()).hexdigest()
