"""Ranking data as LLaVA conversations, the JSON form in which the paper released its ORM and PARM data, both ways.

A record has an `id`, an `image` and `conversations` of `{"from": "human" or "gpt", "value": text}`, the first with
`<image>` before its question; a second turn about potential follows the first about clarity. Prompts are read back out
of the questions' wording.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Self

from PIL import Image
from pydantic import Field, ValidationError, model_validator

from imagecot.contracts.questions import CLARITY, ORM, POTENTIAL, PRM, QUESTIONS, REFLECTION, Question
from imagecot.contracts.reflection import without_answer
from imagecot.contracts.values import JSON
from imagecot.curation.dataset import RankingData, read_rows
from imagecot.curation.recipes import CurateImport
from imagecot.curation.schema import Id, Label, Object, RankingRow, Step
from imagecot.curation.schema import Question as Name
from imagecot.errors import ImagecotError, UsageError
from imagecot.files import make_folder, make_own_folder, write_whole
from imagecot.images import from_picture, open_picture, png
from imagecot.interruption import check
from imagecot.naming import inside, safe_name
from imagecot.prompts import check_prompt
from imagecot.reading import Foreign, parse_json, phrases, read_bytes, read_records, read_text
from imagecot.verifiers.chat import IMAGE_TOKEN, RELEASED_CLARITY, RELEASED_POTENTIAL

_ADVICE = "give a JSON list of LLaVA conversations, or one a line"
_A_SHARD = 1000  # rows
_QUESTIONS = {question.name: question for question in QUESTIONS}
_LABELS: dict[str, Label] = {"yes": "yes", "no": "no"}
# What may be asked first, and as which question it is kept.
_FIRST: dict[Question, Name] = {
    ORM: "orm",
    PRM: "prm",
    CLARITY: "clarity",
    REFLECTION: "reflection",
    RELEASED_CLARITY: "clarity",
}
_SECOND = (POTENTIAL, RELEASED_POTENTIAL)


class _Turn(Foreign):
    sender: str = Field(alias="from")
    value: Annotated[str, Field(max_length=100_000)]


class _Record(Foreign):
    """A conversation about one picture. What only exports of ours have stands in the last four fields."""

    id: Id | int
    image: str | Annotated[list[str], Field(min_length=1, max_length=1)]
    conversations: list[_Turn]
    step: Step = 0
    steps: Step | None = None
    task: str = ""
    metadata: Object | dict[str, object] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _step_is_one_of_the_steps(self) -> Self:
        if self.steps is not None and self.step > self.steps:
            raise ValueError(f"step {self.step} is beyond the {self.steps} steps")
        return self


def to_record(row: RankingRow, image: str) -> dict[str, JSON]:
    """One curated row as a conversation about the picture at `image`."""
    question = _QUESTIONS[row.question]
    turns = [question] if question.follows is None else [question.follows, question]
    said = ["yes"] * (len(turns) - 1) + [row.answer]
    conversation: list[JSON] = []
    for number, (turn, spoken) in enumerate(zip(turns, said, strict=True)):
        text = turn.template.replace("{prompt}", row.prompt)
        conversation.append({"from": "human", "value": (IMAGE_TOKEN if number == 0 else "") + text})
        conversation.append({"from": "gpt", "value": spoken})
    return {"id": row.id, "image": image, "conversations": conversation}


def export_llava(folder: Path, out: Path) -> int:
    """Write a curated folder as `data.json` and `images/`; returns the number of records.

    UsageError where `out` is a file or holds another export.
    """
    rows = list(read_rows(folder))
    names = _file_names(rows)
    records = [to_record(row, name) for row, name in zip(rows, names, strict=True)]
    data = (json.dumps(records, indent=1, ensure_ascii=False) + "\n").encode()
    listing = out / "data.json"
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; give a folder to write to.")
    if listing.exists() and read_bytes(listing) != data:
        raise UsageError(f"{out} holds another data.json; choose another folder or delete it.")
    make_folder(out)
    make_own_folder(out / "images")
    for row, name in zip(rows, names, strict=True):
        check()
        write_whole(out / name, row.image)
    write_whole(listing, data)
    return len(records)


def _file_names(rows: Sequence[RankingRow]) -> list[str]:
    """A path in `images/` for each row: never one that leads elsewhere, and never one twice."""
    names: list[str] = []
    taken: set[str] = set()
    for row in rows:
        name = safe_name(row.id)
        while name.casefold() in taken:
            name = safe_name(f"{row.id}#{len(taken)}")
        taken.add(name.casefold())
        names.append(f"images/{name}.png")
    return names


def import_llava(file: Path, images: Path) -> Iterator[RankingRow]:
    """Read conversations as rows, their pictures under `images`: a JSON list of records, or a record a line.

    UsageError where the file holds no such thing, or `images` is no folder; ImagecotError naming the record that is no
    conversation, or whose picture, question or answer cannot be made out.
    """
    if not images.is_dir():
        raise UsageError(f"{images} is no folder; give the one that the paths of the images start from.")
    seen: dict[str, str] = {}
    for where, record in _records(file):
        check()
        try:
            for row in _rows(record, images):
                if seen.setdefault(row.id, where) != where:
                    raise ImagecotError(f"the id {row.id[:80]!r} is that of {seen[row.id]}; give it another one.")
                yield row
        except ImagecotError as error:
            raise ImagecotError(f"{where}: {error}") from None


def curate_import(recipe: CurateImport) -> dict[str, int]:
    """Write conversations as ranking data; returns how many rows there are by question and label.

    Errors as of `import_llava`; UsageError where the output holds something else.
    """
    rows = list(import_llava(recipe.file, recipe.images))
    data = RankingData(recipe.output, {"kind": "import", "rows_sha256": _digest(rows)})
    for number, first in enumerate(range(0, len(rows), _A_SHARD)):
        check()
        data.keep(number, rows[first : first + _A_SHARD])
    return data.finish("Imported ranking data", f"From {recipe.file.name}.")


def _digest(rows: Iterable[RankingRow]) -> str:
    """SHA-256 of rows, pictures included."""
    total = hashlib.sha256()
    for row in rows:
        values: dict[str, JSON] = {
            "prompt": row.prompt,
            "task": row.task,
            "metadata": row.metadata,
            "step": row.step,
            "steps": row.steps,
            "seed": row.seed,
            "agreement": row.agreement,
            "image": hashlib.sha256(row.image).hexdigest(),
            "id": row.id,
            "question": row.question,
            "label": row.label,
        }
        if row.reasons is not None:
            values["reasons"] = row.reasons
        total.update(json.dumps(values).encode())
    return total.hexdigest()


def _records(file: Path) -> Iterator[tuple[str, _Record]]:
    text = read_text(file, failure=UsageError, advice=_ADVICE)
    if not text.lstrip().startswith("["):
        records = [
            (f"line {number} of {file}", record)
            for number, record in read_records(file, _Record, failure=UsageError, advice=_ADVICE)
        ]
    else:
        records = []
        values = parse_json(text, str(file), failure=UsageError, advice=_ADVICE)
        for number, value in enumerate(values if isinstance(values, list) else []):
            try:
                records.append((f"record {number} of {file}", _Record.model_validate(value)))
            except ValidationError as error:
                raise ImagecotError(f"record {number} of {file} is no conversation: {phrases(error)}.") from None
    if not records:
        raise UsageError(f"{file} holds no conversations; {_ADVICE}.")
    yield from records


def _rows(record: _Record, images: Path) -> Iterator[RankingRow]:
    asked = [turn.value for turn in record.conversations if turn.sender == "human"]
    said = [turn.value for turn in record.conversations if turn.sender == "gpt"]
    if len(asked) != len(said) or not 1 <= len(asked) <= 2:
        raise ImagecotError("a conversation has one or two questions with an answer each.")
    question, prompt = _recognise(asked[0].replace(IMAGE_TOKEN, "", 1))
    try:
        check_prompt(prompt)
    except UsageError as error:
        raise ImagecotError(str(error)) from None
    reasons = without_answer(said[0]) if question is REFLECTION else ""
    answers = [_answer(text.removesuffix(reasons).rstrip(" ,:")) for text in said]
    first = RankingRow(
        id=f"{record.id}",
        prompt=prompt,
        task=record.task,
        metadata=record.metadata if isinstance(record.metadata, str) else json.dumps(record.metadata),
        question=_FIRST[question],
        step=record.step,
        steps=record.step if record.steps is None else record.steps,
        seed=0,
        label=answers[0],
        agreement="",
        image=png(from_picture(_picture(record, images))),
        reasons=reasons,
    )
    yield first
    if len(asked) == 2:
        follow_up = _normal(asked[1])
        if follow_up not in {_normal(q.template) for q in _SECOND} or first.question != "clarity":
            raise ImagecotError("the second question is not the one about potential.")
        yield replace(first, id=f"{record.id}-potential", question="potential", label=answers[1], reasons=None)


def _picture(record: _Record, images: Path) -> Image.Image:
    """The picture of a record, which lies in the folder of images."""
    name = record.image if isinstance(record.image, str) else record.image[0]
    file = inside(images, name)
    if file is None:
        raise ImagecotError(f"the image {name[:200]!r} lies outside {images}; give paths that start from there.")
    return open_picture(file)


def _normal(text: str) -> str:
    return " ".join(text.split())


def _recognise(text: str) -> tuple[Question, str]:
    """Which question a text asks, and of which prompt; blanks do not count."""
    for question in _FIRST:
        before, after = (re.escape(_normal(part)) for part in question.template.split("{prompt}"))
        match = re.fullmatch(rf"{before}\s*(.+?)\s*{after}", _normal(text))
        if match:
            return question, match[1]
    raise ImagecotError("the question is none of the paper's (ORM, PRM, clarity, reflection).")


def _answer(text: str) -> Label:
    label = _LABELS.get(text.strip().strip(".").lower())
    if label is None:
        raise ImagecotError(f"the answer {text[:60]!r} is neither yes nor no.")
    return label
