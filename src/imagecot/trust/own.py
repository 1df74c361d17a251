"""Labelled pictures of the user's: a JSONL file, ranking data, or a folder that `imagecot evaluate geneval` scored."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Protocol

from pydantic import Field

from imagecot.contracts.questions import Question
from imagecot.curation.schema import RANKING, Id, Prompt
from imagecot.curation.shards import read_shards
from imagecot.errors import UsageError
from imagecot.evaluation.folder import read_image
from imagecot.evaluation.state import RESULTS, Row
from imagecot.images import from_png
from imagecot.reading import Foreign, read_records
from imagecot.trust.material import GROUPS, OTHER, PATHS, TRUE, WRONG, Case, Group, Material, farthest
from imagecot.trust.reading import FEWEST

if TYPE_CHECKING:
    from torch import Tensor

_MOST = 60  # pictures of each label that are asked about
_LAYOUT = (
    "give a .jsonl file of image, prompt and label (yes or no), a folder of imagecot curate, or one of imagecot "
    "evaluate geneval"
)
_ADVICE = "correct it or leave it out"


class Line(Foreign):
    """A line of a JSONL file: a picture, relative to the file, the prompt, and whether the picture fulfils it."""

    image: Id
    prompt: Prompt
    label: Literal["yes", "no"] | Annotated[bool, Field(strict=True)]
    question: Literal["orm", "prm", "clarity", "potential"] = "orm"


@dataclass(frozen=True)
class Label:
    """The prompt of a picture, and whether yes is the answer to a question about both."""

    prompt: str
    yes: bool


class Source(Protocol):
    """Labels, and the pictures that they are of."""

    @property
    def labels(self) -> Sequence[Label]:
        """All of them."""
        ...

    def pictures(self, numbers: Sequence[int]) -> "dict[int, Tensor]":
        """The pictures (3, H, W) in [0, 1] of some labels, by their numbers."""
        ...


@dataclass(frozen=True)
class Files:
    """Pictures that are files of their own."""

    labels: Sequence[Label]
    files: Sequence[Path]

    def pictures(self, numbers: Sequence[int]) -> "dict[int, Tensor]":
        """As of `Source`; ImagecotError for one that cannot be read."""
        return {number: read_image(self.files[number]) for number in numbers}


@dataclass(frozen=True)
class Rows:
    """Rows of ranking data about one question."""

    labels: Sequence[Label]
    folder: Path
    question: str

    def pictures(self, numbers: Sequence[int]) -> "dict[int, Tensor]":
        """As of `Source`; the shards are read again, so that only these pictures are opened."""
        wanted, found = set(numbers), {}
        rows = ((where, row) for where, row in read_shards(self.folder, RANKING) if row.question == self.question)
        for number, (where, row) in enumerate(rows):
            if number in wanted:
                found[number] = from_png(row.image, f"{where}: the image")
        return found


def own_material(place: Path, question: Question) -> Material:
    """Up to 60 pictures of each label, spread over the prompts, and choices among those of the most frequent prompts.

    question  whose labels are taken

    UsageError for a place that holds no labelled pictures, or fewer than 5 of a label; ImagecotError, naming the line
    or file, for what cannot be read.
    """
    source = _source(place, question.name)
    labels = source.labels
    counts = Counter(label.yes for label in labels)
    if min(counts[True], counts[False]) < FEWEST:
        raise UsageError(
            f"{place} holds {counts[True]} pictures labelled yes and {counts[False]} labelled no about "
            f"{question.name}; a check needs {FEWEST} of each, and 50 to say much."
        )
    picked = _spread(labels)
    choices = _choices(labels, picked)
    needed = sorted({*picked, *(k for _, numbers in choices for k in numbers)})
    pictures = source.pictures(needed)
    at = {number: k for k, number in enumerate(needed)}
    cases = [Case(at[k], labels[k].prompt, TRUE if labels[k].yes else WRONG) for k in picked]
    cases += _others(cases)
    alike = [labels[needed[case.picture]].prompt for case in cases]
    if len({*alike}) < FEWEST:  # all that can be told is told of these prompts
        alike = [f"picture {case.picture}" for case in cases]
    return Material(
        f"{len(picked)} of {len(labels)} pictures in {place}",
        tuple(pictures[number] for number in needed),
        tuple(cases),
        tuple(
            Group(prompt, tuple(at[k] for k in _different(numbers, pictures))) for prompt, numbers in choices
        ),
        tuple(alike),
    )  # fmt: skip


def _source(place: Path, question: str) -> Source:
    """What a place holds; UsageError where that is nothing known."""
    try:
        is_file, is_folder = place.is_file(), place.is_dir()
    except (OSError, ValueError):
        is_file = is_folder = False
    if is_file:
        return _of_lines(place, question)
    if is_folder and (place / RESULTS).is_file():
        return _of_results(place, question)
    if is_folder and (place / "data").is_dir():
        rows = (row for _, row in read_shards(place, RANKING) if row.question == question)
        labels = [Label(row.prompt, row.label == "yes") for row in rows]
        return Rows(labels, place, question)
    if is_folder and any(place.glob("*/metadata.jsonl")):
        raise UsageError(
            f"{place} holds pictures without labels; run imagecot evaluate geneval --images {place} --out FOLDER, and "
            "give that folder."
        )
    raise UsageError(f"{place} holds no labelled pictures; {_LAYOUT}.")


def _of_lines(file: Path, question: str) -> Files:
    lines = [
        line for _, line in read_records(file, Line, failure=UsageError, advice=_ADVICE) if line.question == question
    ]
    return Files(
        [Label(line.prompt, line.label in ("yes", True)) for line in lines],
        [file.parent / line.image for line in lines],
    )


def _of_results(folder: Path, question: str) -> Files:
    """The pictures of an evaluation and the verdicts on them, which are about finished pictures."""
    if question == "clarity":
        raise UsageError(f"{folder} has no labels of {question}; give ranking data of imagecot curate.")
    rows = [row for _, row in read_records(folder / RESULTS, Row, advice="score the images again")]
    return Files(
        [Label(row.prompt, row.correct) for row in rows],
        [own if (own := folder / row.filename).is_file() else Path(row.filename) for row in rows],
    )


def _spread(labels: Sequence[Label]) -> list[int]:
    """The numbers of up to 60 labels of each kind, the first of each prompt before the second ones."""
    seen: Counter[Label] = Counter()
    turns = []
    for number, label in enumerate(labels):
        turns.append((seen[label], number))
        seen[label] += 1
    ordered = [number for _, number in sorted(turns)]
    return [k for yes in (True, False) for k in [n for n in ordered if labels[n].yes == yes][:_MOST]]


def _choices(labels: Sequence[Label], picked: Sequence[int]) -> list[tuple[str, list[int]]]:
    """For the most frequent prompts: up to 20 of their pictures, made up to 20 by others."""
    found = []
    for prompt, _ in Counter(label.prompt for label in labels).most_common(GROUPS):
        own = [number for number, label in enumerate(labels) if label.prompt == prompt][:PATHS]
        more = [number for number in picked if labels[number].prompt != prompt]
        found.append((prompt, [*own, *more][:PATHS]))
    return found


def _others(cases: Sequence[Case]) -> list[Case]:
    """For each picture of a true prompt the prompt of another one that shares the fewest words with it."""
    true = [(number, case) for number, case in enumerate(cases) if case.kind == TRUE]
    prompts = [case.prompt for _, case in true]
    found = []
    for place, (_, case) in enumerate(true):
        other = farthest(case.prompt, prompts, place + 1)
        if other is not None:
            found.append(Case(case.picture, prompts[other], OTHER, true[other][0]))
    return found


def _different(numbers: Sequence[int], pictures: "dict[int, Tensor]") -> list[int]:
    """The numbers without those of a picture that is there already, of which a judge must say the same."""
    seen: dict[bytes, int] = {}
    for number in numbers:
        picture = pictures[number]
        seen.setdefault(f"{tuple(picture.shape)}".encode() + picture.numpy().tobytes(), number)
    return [*seen.values()]
