"""Ranking data on disk: Parquet shards in the form of Hugging Face datasets, a card, and a page of samples.

A shard is one unit of work and is written whole, so a curation that was killed goes on with the next one and ends with
the rows of one that was not.
"""

import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from imagecot.errors import ImagecotError, UsageError
from imagecot.files import clear_write_errors, write_atomically, write_whole
from imagecot.identity import claim
from imagecot.images import png

Row = dict[str, Any]
QUESTIONS = ("orm", "prm", "clarity", "potential", "reflection")
IDENTITY = "curation.json"
_COLUMNS = ("id", "prompt", "task", "metadata", "question", "step", "steps", "seed", "label", "agreement", "image")
# Columns that older and imported data do not have: of an image its codes and what is wrong with it; of an image that
# was drawn again the codes of the one before and what was said of that.
CODES, REASONS, BEFORE, TOLD = "codes", "reasons", "before_codes", "told"


def make_row(
    metadata: Row, question: str, image: Tensor, step: int, steps: int, seed: int, label: bool, agreement: bool | None,
    codes: Tensor | None = None,
) -> Row:  # fmt: skip
    """One labelled image.

    agreement  whether the scorer's verdict on a preview equals that on the final image
    codes      (N,), what the image was decoded from; encoding the image again need not give them
    """
    return {
        "id": f"{question}-{seed}-{step}",
        "prompt": metadata["prompt"],
        "task": metadata["tag"],
        "metadata": json.dumps(metadata),
        "question": question,
        "step": step,
        "steps": steps,
        "seed": seed,
        "label": "yes" if label else "no",
        "agreement": "" if agreement is None else "yes" if agreement else "no",
        "image": {"bytes": png(image), "path": None},
        CODES: None if codes is None else codes.tolist(),
    }


def answer(row: Row) -> str:
    """What a verifier shall say to a row's question: yes or no, with the reasons where it has any."""
    reasons = row.get(REASONS)
    return f"{row['label']}, {reasons}" if reasons else str(row["label"])


def features(columns: Sequence[str]) -> Any:
    """The types of columns, by their names; text where nothing else is known."""
    from datasets import Features, List, Value
    from datasets import Image as ImageFeature

    def kind(name: str) -> Any:
        if name.endswith("codes"):
            return List(Value("int16"))
        if name in ("image", "chosen", "rejected", "accepted"):
            return ImageFeature()
        if name == "difference":
            return Value("float32")
        return Value("int64" if name.endswith("seed") else "int32" if name in ("step", "steps") else "string")

    return Features({name: kind(name) for name in columns})


def write_shard(file: Path, rows: Sequence[Row], columns: Sequence[str]) -> None:
    """Write rows as one Parquet file; a column that a row does not have is empty there."""
    from datasets import Dataset
    from datasets.utils.logging import disable_progress_bar

    disable_progress_bar()
    table = Dataset.from_dict({name: [row.get(name) for row in rows] for name in columns}, features=features(columns))
    write_atomically(file, lambda path: table.to_parquet(str(path)))


def read_shards(folder: str | Path, columns: Sequence[str]) -> Iterator[tuple[Path, int, Row]]:
    """Every row of the shards of a folder, with its file and number there.

    UsageError where there are none; ImagecotError for a file that is damaged or lacks one of `columns`.
    """
    import pyarrow.parquet

    files = sorted(Path(folder).glob("data/*.parquet"))
    if not files:
        raise UsageError(f"{folder} holds no curated data (no data/*.parquet); run imagecot curate first.")
    for file in files:
        try:
            table = pyarrow.parquet.read_table(file)
        except (OSError, ValueError) as error:
            raise ImagecotError(f"{file} is damaged ({error}); delete it and curate again.") from None
        lacking = [name for name in columns if name not in table.column_names]
        if lacking:
            raise ImagecotError(f"{file} lacks the column {lacking[0]}; curate again.")
        for number, row in enumerate(table.to_pylist()):
            yield file, number, row


def claim_shards(out: Path, identity: Row) -> None:
    """Make a folder ready for the shards of `identity`; UsageError where it holds something else."""
    claim(out / IDENTITY, identity, "curation")
    with clear_write_errors(out):
        (out / "data").mkdir(exist_ok=True)


def write_card(out: Path, task: str, text: str) -> None:
    """Write the README.md of a folder of shards: what the Hugging Face hub needs to show them, then `text`.

    task  the hub's name for what the data are for
    """
    front = f"""---
license: apache-2.0
task_categories: [{task}]
configs:
- config_name: default
  data_files: data/*.parquet
---

"""
    write_whole(out / "README.md", (front + text).encode())


class RankingData:
    """A folder of shards under way: `data/00000.parquet` and so on."""

    def __init__(self, out: Path, identity: Row, units: int) -> None:
        """Open or resume; UsageError where the folder holds something else."""
        self.out, self.units = out, units
        claim_shards(out, identity)

    def shard(self, unit: int) -> Path:
        """The file of a unit."""
        return self.out / "data" / f"{unit:05d}.parquet"

    def missing(self) -> list[int]:
        """Units that are still to be done."""
        return [unit for unit in range(self.units) if not self.shard(unit).is_file()]

    def keep(self, unit: int, rows: Sequence[Row]) -> None:
        """Write the rows of a unit."""
        write_shard(self.shard(unit), rows, (*_COLUMNS, CODES, REASONS, BEFORE, TOLD))

    def finish(self, title: str, how: str) -> Row:
        """Write the card and the page of samples; returns the counts by question and label."""
        counts: Counter[tuple[str, str]] = Counter()
        samples: dict[tuple[str, str], list[Row]] = {}
        for row in read_rows(self.out):
            key = (row["question"], row["label"])
            counts[key] += 1
            if len(samples.setdefault(key, [])) < 8:
                samples[key].append(row)
        write_card(self.out, "image-to-text", _card(title, how, counts))
        _sample_page(samples, self.out / "samples.png")
        return {f"{question}/{label}": count for (question, label), count in sorted(counts.items())}


def read_rows(folder: str | Path) -> Iterator[Row]:
    """Every row of a curated folder, images as PNG bytes, checked.

    ImagecotError naming shard and row for a missing or unreadable image, a label other than yes and no, an unknown
    question, an empty prompt or a repeated id; UsageError where there is no such data.
    """
    seen: set[str] = set()
    for file, number, row in read_shards(folder, _COLUMNS):
        problem = _problem(row, seen)
        if problem:
            raise ImagecotError(f"row {number} of {file}: {problem}; remove the row or curate again.")
        seen.add(row["id"])
        yield row


def _problem(row: Row, seen: set[str]) -> str | None:
    if row["label"] not in ("yes", "no"):
        return f"the label is {row['label']!r}, neither yes nor no"
    if row["question"] not in QUESTIONS:
        return f"the question {row['question']!r} is none of {', '.join(QUESTIONS)}"
    if not (row["prompt"] or "").strip():
        return "the prompt is empty"
    if row["id"] in seen:
        return f"the id {row['id']} is there twice"
    data = (row["image"] or {}).get("bytes")
    if not data:
        return "the image is missing"
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.verify()
    except (OSError, SyntaxError, ValueError):
        return "the image cannot be read"
    return None


def _card(title: str, how: str, counts: Counter[tuple[str, str]]) -> str:
    total = sum(counts.values())
    lines = [
        f"| {q} | {counts[q, 'yes']} | {counts[q, 'no']} |" for q in QUESTIONS if counts[q, "yes"] + counts[q, "no"]
    ]
    return "\n".join(
        [
            f"# {title}",
            "",
            f"{total} labelled images. {how}",
            "",
            "| question | yes | no |",
            "|---|---|---|",
            *lines,
            "",
            "Columns: id, prompt, task, metadata (GenEval's requirement, JSON), question (orm, prm, clarity, "
            "potential or reflection), step of steps, seed of the path, label (yes or no), agreement (clarity only: "
            "whether the scorer's verdict on this preview is that on the final image), image, codes (orm and "
            "reflection: the generator's codes of the image), reasons (reflection: what is wrong, in words).",
            "",
            "![samples](samples.png)",
            "",
        ]
    )


def _sample_page(samples: dict[tuple[str, str], list[Row]], file: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import textwrap

    import matplotlib.pyplot as plt

    keys = sorted(samples)
    figure, axes = plt.subplots(len(keys), 8, figsize=(14, 2.4 * len(keys)), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for line, key in zip(axes, keys, strict=True):
        for axis, row in zip(line, samples[key], strict=False):
            axis.imshow(Image.open(io.BytesIO(row["image"]["bytes"])), interpolation="nearest")
            text = "\n".join(textwrap.wrap(row["prompt"], 24))
            said = "\n".join(textwrap.wrap(answer(row), 28))
            axis.set_title(f"{text}\n{key[0]}, step {row['step']}: {said}", fontsize=7)
    figure.tight_layout()
    write_atomically(file, lambda p: figure.savefig(p, format="png", dpi=80))
    plt.close(figure)


def curate(
    data: RankingData,
    units: Sequence[Sequence[Any]],
    make: Callable[[Sequence[Any]], Iterable[Row]],
    done: Callable[[int], None],
) -> None:
    """Do the missing units: `make` maps the prompts (rows, numbers) of a unit to its rows and depends on them alone."""
    for unit in data.missing():
        data.keep(unit, list(make(units[unit])))
        done(unit + 1)
