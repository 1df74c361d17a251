"""Ranking data on disk: Parquet shards in the form of Hugging Face datasets, a card, and a page of samples.

A shard is one unit of work and is written whole, so a curation that was killed goes on with the next one and ends with
the rows of one that was not.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from imagecot.contracts.metadata import Metadata
from imagecot.curation.page import SAMPLES, Sample, card, write_samples
from imagecot.curation.schema import RankingRow, checked
from imagecot.errors import ImagecotError, UsageError, first_line
from imagecot.files import make_own_folder, write_atomically, write_text
from imagecot.identity import claim, read_identity, refuse_occupied
from imagecot.images import open_picture, png
from imagecot.interruption import check
from imagecot.reading import read_bytes

Row = dict[str, Any]
IDENTITY = "curation.json"
KIND = "curation"
SETTINGS = "settings"  # of who draws, in an identity
_AT_ONCE = 256  # rows that are read at a time
_COLUMNS = ("id", "prompt", "task", "metadata", "question", "step", "steps", "seed", "label", "agreement", "image")
# Columns that older and imported data do not have: of an image its codes and what is wrong with it; of an image that
# was drawn again the codes of the one before and what was said of that.
CODES, REASONS, BEFORE, TOLD = "codes", "reasons", "before_codes", "told"


def make_row(
    metadata: Metadata, question: str, image: Tensor, step: int, steps: int, seed: int, label: bool, agreement: bool | None,
    codes: Tensor | None = None,
) -> Row:  # fmt: skip
    """One labelled image.

    agreement  whether the scorer's verdict on a preview equals that on the final image
    codes      (N,), what the image was decoded from; encoding the image again need not give them
    """
    return {
        "id": f"{question}-{seed}-{step}",
        "prompt": metadata.prompt,
        "task": metadata.tag,
        "metadata": metadata.text,
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
    for file in shards(folder):
        for number, row in enumerate(_read_shard(file, columns)):
            yield file, number, row


def shards(folder: str | Path) -> list[Path]:
    """The shards of a curated folder in their order; UsageError where there are none, ImagecotError where one lacks."""
    files = sorted(Path(folder).glob("data/*.parquet"))
    if not files:
        raise UsageError(f"{folder} holds no curated data (no data/*.parquet); run imagecot curate first.")
    own = [int(file.stem) for file in files if re.fullmatch(r"\d{5,}", file.stem)]
    lacking = next((number for number, found in enumerate(own) if number != found), None)
    if lacking is not None:
        raise ImagecotError(
            f"{files[0].with_name(f'{lacking:05d}.parquet')} is missing; run the command that made {folder} again."
        )
    return files


def content(folder: str | Path) -> str:
    """SHA-256 of what the shards of a folder hold, wherever it lies; errors as of `shards`."""
    total = hashlib.sha256()
    for file in shards(folder):
        total.update(hashlib.sha256(read_bytes(file, advice="curate again")).digest())
    return total.hexdigest()


def contents(folders: Sequence[Path], option: str) -> list[str]:
    """The `content` of several folders; UsageError, naming the option, where two hold the same."""
    found: dict[str, Path] = {}
    for folder in folders:
        other = found.setdefault(content(folder), folder)
        if other is not folder:
            raise UsageError(f"{option} names the same data twice ({other} and {folder}); leave one out.")
    return [*found]


def unique_ids(rows: list[Row]) -> list[Row]:
    """The rows, where an id that was there before has a number behind it: data that meet here may share ids."""
    seen: Counter[str] = Counter()
    found = []
    for row in rows:
        seen[row["id"]] += 1
        found.append(row if seen[row["id"]] == 1 else {**row, "id": f"{row['id']} ({seen[row['id']]})"})
    return found


def _read_shard(file: Path, columns: Sequence[str]) -> Iterator[Row]:
    import pyarrow.parquet

    if not file.is_file():
        raise ImagecotError(f"{file} is no regular file; remove it and curate again.")
    try:
        with pyarrow.parquet.ParquetFile(file) as parquet:
            names = parquet.schema_arrow.names
            lacking = [name for name in columns if name not in names]
            repeated = [name for name in names if names.count(name) > 1]
            if not lacking and not repeated:
                for batch in parquet.iter_batches(_AT_ONCE):
                    yield from batch.to_pylist()
    except Exception as error:  # of a damaged file the decoders raise what they like
        raise ImagecotError(f"{file} is damaged ({first_line(error)[:200]}); delete it and curate again.") from None
    if lacking:
        raise ImagecotError(f"{file} lacks the column {lacking[0]}; curate again.")
    if repeated:
        raise ImagecotError(f"{file} has the column {repeated[0]} twice; curate again.")


def claim_shards(out: Path, identity: Row) -> None:
    """Make a folder ready for the shards of `identity`; UsageError where it holds something else."""
    claim(out / IDENTITY, identity, KIND)
    make_own_folder(out / "data")


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
    write_text(out / "README.md", front + text)


class RankingData:
    """A folder of shards under way: `data/00000.parquet` and so on. It is claimed when the first of them is written."""

    def __init__(self, out: Path, identity: Row, units: int) -> None:
        """Open or resume; UsageError where the folder holds something else."""
        self.out, self.units, self.identity = out, units, dict(identity)
        refuse_occupied(out / IDENTITY, identity, KIND)

    def shard(self, unit: int) -> Path:
        """The file of a unit."""
        return self.out / "data" / f"{unit:05d}.parquet"

    def missing(self) -> list[int]:
        """Units that are still to be done."""
        return [unit for unit in range(self.units) if not self.shard(unit).is_file()]

    @property
    def claimed(self) -> bool:
        """Whether anything was written."""
        return (self.out / IDENTITY).is_file()

    def settle(self, known: Row) -> None:
        """Make what is known once the models are loaded a part of the identity, as far as the folder tells it too.

        UsageError where it tells something else.
        """
        file = self.out / IDENTITY
        there = read_identity(file) if file.is_file() else known
        self.identity |= {name: value for name, value in known.items() if name in there}
        refuse_occupied(file, self.identity, KIND)

    def claim(self) -> None:
        """Make the folder this curation's own; errors as of `claim_shards`."""
        claim_shards(self.out, self.identity)

    def keep(self, unit: int, rows: Sequence[Row]) -> None:
        """Write the rows of a unit."""
        self.claim()
        write_shard(self.shard(unit), rows, (*_COLUMNS, CODES, REASONS, BEFORE, TOLD))

    def finish(self, title: str, how: str) -> Row:
        """Write the card and the page of samples; returns the counts by question and label.

        ImagecotError where there is no row.
        """
        counts: Counter[tuple[str, str]] = Counter()
        samples: dict[tuple[str, str], list[Sample]] = {}
        for row in read_rows(self.out):
            key = (row["question"], row["label"])
            counts[key] += 1
            if len(samples.setdefault(key, [])) < SAMPLES:
                samples[key].append(Sample(row["image"]["bytes"], row["prompt"], row["step"], answer(row)))
        if not counts:
            raise ImagecotError(f"{self.out} holds no labelled image; delete it and curate from other data.")
        write_card(self.out, "image-to-text", card(title, how, counts))
        write_samples(samples, self.out / "samples.png")
        return {f"{question}/{label}": count for (question, label), count in sorted(counts.items())}


def read_rows(folder: str | Path) -> Iterator[Row]:
    """Every row of a curated folder, images as the bytes of a picture that can be read.

    ImagecotError naming shard, row and field for what does not fit `RankingRow`, an image that cannot be read, or a
    repeated id; UsageError where there is no such data.
    """
    for where, row in checked(read_shards(folder, _COLUMNS), RankingRow, (CODES, BEFORE)):
        open_picture(row["image"]["bytes"], f"{where}: the image")
        yield row


def curate(
    data: RankingData,
    units: Sequence[Sequence[Any]],
    make: Callable[[Sequence[Any]], Iterable[Row]],
    done: Callable[[int], None],
) -> None:
    """Do the missing units: `make` maps the prompts (rows, numbers) of a unit to its rows and depends on them alone.

    Units without rows are written with the first one that has some: a curation without any row claims no folder.
    """
    empty: list[int] = []
    for unit in data.missing():
        check()
        rows = list(make(units[unit]))
        if rows or data.claimed:
            for earlier in empty:
                data.keep(earlier, [])
            data.keep(unit, rows)
            empty = []
        else:
            empty.append(unit)
        done(unit + 1)
