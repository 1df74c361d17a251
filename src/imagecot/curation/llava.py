"""Ranking data as LLaVA conversations, the JSON form in which the paper released its ORM and PARM data, both ways.

A record has an `id`, an `image` and `conversations` of `{"from": "human" or "gpt", "value": text}`, the first with
`<image>` before its question; a second turn about potential follows the first about clarity. Prompts are read back out
of the questions' wording.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from imagecot.curation.dataset import REASONS, Row, answer, read_rows
from imagecot.errors import ImagecotError, UsageError
from imagecot.files import clear_write_errors, write_whole
from imagecot.geneval.discrepancies import without_answer
from imagecot.geneval.folder import read_image
from imagecot.images import png
from imagecot.verifiers.questions import (
    CLARITY,
    IMAGE_TOKEN,
    ORM,
    POTENTIAL,
    PRM,
    QUESTIONS,
    REFLECTION,
    RELEASED_CLARITY,
    RELEASED_POTENTIAL,
    Question,
)

_QUESTIONS = {question.name: question for question in QUESTIONS}
_FIRST = (ORM, PRM, CLARITY, REFLECTION, RELEASED_CLARITY)
_SECOND = (POTENTIAL, RELEASED_POTENTIAL)


def to_record(row: Row, image: str) -> dict[str, Any]:
    """One curated row as a conversation about the picture at `image`."""
    question = _QUESTIONS[row["question"]]
    turns = [question] if question.follows is None else [question.follows, question]
    said = ["yes"] * (len(turns) - 1) + [answer(row)]
    conversation = []
    for number, (turn, spoken) in enumerate(zip(turns, said, strict=True)):
        text = turn.template.replace("{prompt}", row["prompt"])
        conversation.append({"from": "human", "value": (IMAGE_TOKEN if number == 0 else "") + text})
        conversation.append({"from": "gpt", "value": spoken})
    return {"id": row["id"], "image": image, "conversations": conversation}


def export_llava(folder: Path, out: Path) -> int:
    """Write a curated folder as `data.json` and `images/`; returns the number of records."""
    with clear_write_errors(out):
        (out / "images").mkdir(parents=True, exist_ok=True)
    records = []
    for row in read_rows(folder):
        name = f"images/{row['id']}.png"
        write_whole(out / name, row["image"]["bytes"])
        records.append(to_record(row, name))
    write_whole(out / "data.json", (json.dumps(records, indent=1, ensure_ascii=False) + "\n").encode())
    return len(records)


def import_llava(file: Path, images: Path) -> Iterator[Row]:
    """Read conversations as rows, their pictures under `images`.

    UsageError where the file is no such list; ImagecotError naming the record whose picture, question or answer cannot
    be made out.
    """
    try:
        records = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} cannot be read as JSON ({error}).") from None
    if not isinstance(records, list) or not records:
        raise UsageError(f"{file} must hold a list of conversations.")
    for number, record in enumerate(records):
        try:
            yield from _rows(record, images)
        except (KeyError, TypeError, AttributeError) as error:
            raise ImagecotError(
                f"record {number} of {file} is no conversation ({error} is missing or wrong)."
            ) from None
        except ImagecotError as error:
            raise ImagecotError(f"record {number} of {file}: {error}") from None


def _rows(record: Mapping[str, Any], images: Path) -> Iterator[Row]:
    turns = record["conversations"]
    asked = [turn["value"] for turn in turns if turn["from"] == "human"]
    said = [turn["value"] for turn in turns if turn["from"] == "gpt"]
    if len(asked) != len(said) or not 1 <= len(asked) <= 2:
        raise ImagecotError("a conversation has one or two questions with an answer each.")
    question, prompt = _recognise(asked[0].replace(IMAGE_TOKEN, "", 1))
    picture = read_image(images / record["image"])
    step = int(record.get("step", 0))
    base = {
        "prompt": prompt,
        "task": str(record.get("task", "")),
        "metadata": json.dumps(record.get("metadata", {})),
        "step": step,
        "steps": int(record.get("steps", step)),
        "seed": 0,
        "agreement": "",
        "image": {"bytes": png(picture), "path": None},
    }
    reasons = without_answer(said[0]) if question is REFLECTION else ""
    answers = [_answer(text.removesuffix(reasons).rstrip(" ,:")) for text in said]
    yield {**base, "id": f"{record['id']}", "question": question.name, "label": answers[0], REASONS: reasons}
    if len(asked) == 2:
        follow_up = _normal(asked[1])
        if follow_up not in {_normal(q.template) for q in _SECOND} or question.name != "clarity":
            raise ImagecotError("the second question is not the one about potential.")
        yield {**base, "id": f"{record['id']}-potential", "question": "potential", "label": answers[1]}


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


def _answer(text: str) -> str:
    word = text.strip().strip(".").lower()
    if word not in ("yes", "no"):
        raise ImagecotError(f"the answer {text!r} is neither yes nor no.")
    return word
