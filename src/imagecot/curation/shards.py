"""Shards: files of Parquet in the form of Hugging Face datasets, in a folder with a card and an identity.

Every row that is read is checked by its class (`schema.py`), which also says what the columns of a file are.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from imagecot.curation.schema import Form, Row, Stored
from imagecot.errors import ImagecotError, UsageError, first_line
from imagecot.files import make_own_folder, write_atomically, write_text
from imagecot.identity import Identity, claim
from imagecot.reading import phrases, read_bytes

if TYPE_CHECKING:
    from datasets import Features

IDENTITY = "curation.json"
KIND = "curation"
_AT_ONCE = 256  # rows that are read at a time
_ADVICE = "remove the row or curate again"


def features(columns: Mapping[str, Stored]) -> "Features":
    """The types of columns."""
    from datasets import Features, Image, List, Value

    found = {}
    for name, stored in columns.items():
        one = Image() if stored.kind == "image" else Value(stored.kind)
        found[name] = List(one) if stored.is_list else one
    return Features(found)


def write_shard(
    file: Path,
    rows: Sequence[Row],
    form: Form[Row],
    *,
    write: Callable[[Path, Callable[[Path], object]], object] = write_atomically,
) -> None:
    """Write rows as one Parquet file; `write` as `write_atomically`, or `publish`."""
    from datasets import Dataset
    from datasets.utils.logging import disable_progress_bar

    disable_progress_bar()
    written = [form.adapter.dump_python(row) for row in rows]
    columns = {name: [values[name] for values in written] for name in form.columns}
    table = Dataset.from_dict(columns, features=features(form.columns))
    write(file, lambda path: table.to_parquet(str(path)))


def read_shards(folder: str | Path, form: Form[Row]) -> Iterator[tuple[str, Row]]:
    """Every row of the shards of a folder, and where it stands.

    UsageError where there are no shards; ImagecotError for a file that is damaged or lacks a column, and naming file,
    row and field for a row that is none, whose id is there twice, or whose codes are not as many as others'.
    """
    seen: set[str] = set()
    length: int | None = None
    coded = [name for name, stored in form.columns.items() if stored.is_list]
    for file in shards(folder):
        for number, values in enumerate(_read_shard(file, form)):
            where = f"row {number} of {file}"
            try:
                found = form.adapter.validate_python(values)
            except ValidationError as error:
                raise ImagecotError(f"{where}: {phrases(error)}; {_ADVICE}.") from None
            if found.id in seen:
                raise ImagecotError(f"{where}: the id {found.id[:80]!r} is there twice; {_ADVICE}.")
            seen.add(found.id)
            for name in coded:
                own = values.get(name)
                if isinstance(own, list):
                    length = length or len(own)
                    if len(own) != length:
                        raise ImagecotError(f"{where}: {name} has {len(own)} codes, others have {length}; {_ADVICE}.")
            yield where, found


def _read_shard(file: Path, form: Form[Row]) -> Iterator[dict[str, object]]:
    """The columns of each row of a file."""
    import pyarrow.parquet

    if not file.is_file():
        raise ImagecotError(f"{file} is no regular file; remove it and curate again.")
    try:
        with pyarrow.parquet.ParquetFile(file) as parquet:
            names = parquet.schema_arrow.names
            lacking = [name for name in form.required if name not in names]
            repeated = [name for name in names if names.count(name) > 1]
            if not lacking and not repeated:
                known = [name for name in form.columns if name in names]
                for batch in parquet.iter_batches(_AT_ONCE, columns=known):
                    yield from batch.to_pylist()
    except Exception as error:  # of a damaged file the decoders raise what they like
        raise ImagecotError(f"{file} is damaged ({first_line(error)[:200]}); delete it and curate again.") from None
    if lacking:
        raise ImagecotError(f"{file} lacks the column {lacking[0]}; curate again.")
    if repeated:
        raise ImagecotError(f"{file} has the column {repeated[0]} twice; curate again.")


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


def unique_ids(rows: Sequence[Row]) -> list[Row]:
    """The rows, where an id that was there before has a number behind it: data that meet here may share ids."""
    seen: Counter[str] = Counter()
    found = []
    for row in rows:
        seen[row.id] += 1
        found.append(row if seen[row.id] == 1 else replace(row, id=f"{row.id} ({seen[row.id]})"))
    return found


def claim_shards(out: Path, identity: Identity) -> None:
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
