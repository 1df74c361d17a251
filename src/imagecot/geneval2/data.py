"""The data of GenEval 2: a prompt a line, with the questions about it, their answers and the skill of each.

    {"prompt": "two red apples", "atom_count": 3, "skills": ["count", "attribute", "object"],
     "vqa_list": [["How many apples are in the image?", "two"], ["Are the apples red?", "Yes"],
                  ["Are there any apples in the image?", "Yes"]]}

A line that cannot be scored as it was meant is refused. Skills are whatever the data call so.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from imagecot.contracts.metadata import Metadata
from imagecot.errors import ImagecotError, UsageError
from imagecot.geneval2.answers import is_answer
from imagecot.prompts import check_prompt
from imagecot.reading import Foreign, parse, read_bytes, read_lines, read_text

_ADVICE = "correct it, or download geneval2_data.jsonl of facebookresearch/GenEval2 again"
_ONE = "one"


def _words(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be empty")
    return text


def _answer(text: str) -> str:
    if not is_answer(text):
        raise ValueError("must be Yes, No or a number word from zero to ten")
    return text


Words = Annotated[str, AfterValidator(_words)]
Answer = Annotated[str, AfterValidator(_answer)]


class Row(Foreign):
    """One line of the data, in the published keys.

    atom_count  what the prompt is composed of: all questions, but for those about an "a" that is not counted
    vqa_list    questions and their right answers
    skills      what each question tests
    """

    prompt: str
    atom_count: int = Field(ge=1)
    vqa_list: list[tuple[Words, Answer]]
    skills: list[Words]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        questions, skills = len(self.vqa_list), len(self.skills)
        if not questions:
            raise ValueError("vqa_list is empty, so there is nothing to score")
        if skills != questions:
            raise ValueError(f"skills has {skills} entries, but vqa_list has {questions}")
        least = questions - sum(answer.lower() == _ONE for _, answer in self.vqa_list)
        if not least <= self.atom_count <= questions:
            raise ValueError(
                f"atom_count is {self.atom_count}, but vqa_list has {questions} questions, of which "
                f"{questions - least} with the answer {_ONE} need not count"
            )
        return self

    @property
    def atoms(self) -> list[tuple[str, str, str]]:
        """Question, answer and skill of each."""
        return [(question, answer, skill) for (question, answer), skill in zip(self.vqa_list, self.skills, strict=True)]


class _Named(Foreign):
    """What is needed of a `metadata.jsonl`: which prompt the images are of."""

    prompt: str


@dataclass(frozen=True)
class Benchmark:
    """The rows of a file by their prompts, in its order.

    digest  SHA-256 of the file
    """

    file: Path
    rows: dict[str, Row]
    metadata: dict[str, Metadata]
    digest: str

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read a file; UsageError, naming line and field, for the first line that cannot be scored."""
        advice = "give geneval2_data.jsonl of facebookresearch/GenEval2, or lines like its own"
        rows: dict[str, Row] = {}
        metadata: dict[str, Metadata] = {}
        first: dict[str, int] = {}
        for number, line in read_lines(file, failure=UsageError, advice=advice):
            where = f"line {number} of {file}"
            row = parse(line, Row, where, failure=UsageError, advice=_ADVICE)
            try:
                check_prompt(row.prompt)
            except UsageError as error:
                raise UsageError(f"{where}: {error}") from None
            same = first.setdefault(row.prompt, number)
            if same != number:
                raise UsageError(f"{where}: prompt is that of line {same} again, so it would weigh double; {_ADVICE}.")
            rows[row.prompt] = row
            metadata[row.prompt] = Metadata(str(row.atom_count), row.prompt, (), text=line.strip())
        if not rows:
            raise UsageError(f"{file} holds no prompts; {advice}.")
        digest = hashlib.sha256(read_bytes(file, failure=UsageError, advice=advice)).hexdigest()
        return cls(file, rows, metadata, digest)

    def first(self, per_count: int | None) -> Self:
        """Of each atom count the first so many rows; all of them for None."""
        if per_count is None:
            return self
        kept: dict[str, Row] = {}
        taken: dict[int, int] = {}
        for prompt, row in self.rows.items():
            taken[row.atom_count] = taken.get(row.atom_count, 0) + 1
            if taken[row.atom_count] <= per_count:
                kept[prompt] = row
        return type(self)(self.file, kept, {prompt: self.metadata[prompt] for prompt in kept}, self.digest)

    def named_by(self, file: Path) -> Metadata:
        """The row whose prompt a `metadata.jsonl` says; ImagecotError where it is none of these."""
        advice = "put the prompt's line of the data there"
        said = parse(read_text(file, advice=advice), _Named, str(file), advice=advice)
        return self.of_prompt(said.prompt, str(file))

    def of_prompt(self, prompt: str, where: str) -> Metadata:
        """The row of a prompt; ImagecotError, naming where it stands, for one that is none of these."""
        found = self.metadata.get(prompt)
        if found is None:
            raise ImagecotError(f"{where} names {prompt[:60]!r}, which is no prompt of {self.file} that is asked for.")
        return found
