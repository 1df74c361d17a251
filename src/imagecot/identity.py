"""Which run a folder belongs to: a line of JSON beside the results, compared before anything is added to them."""

import json
from collections.abc import Mapping
from pathlib import Path

from imagecot.contracts.values import JSON
from imagecot.errors import UsageError
from imagecot.files import make_folder, write_text
from imagecot.reading import parse_object, read_lines

Identity = Mapping[str, JSON]


def read_identity(file: Path) -> dict[str, JSON]:
    """Return the JSON object in the first line of a file; UsageError where there is none."""
    advice = f"delete {file.parent} or choose another folder"
    for _, line in read_lines(file, failure=UsageError, advice=advice):
        return parse_object(line, f"{file} is damaged: its first line", failure=UsageError, advice=advice)
    raise UsageError(f"{file} is damaged: it is empty; {advice}.")


def refuse_other(folder: Path, there: Identity, asked: Identity, what: str = "run") -> None:
    """Raise UsageError where a folder's identity is not what is asked for, naming the first difference."""
    asked = json.loads(json.dumps(asked))
    for name, value in asked.items():
        if there.get(name) != value:
            old, new = (_shown(v) for v in (there.get(name), value))
            raise UsageError(
                f"{folder} holds another {what} ({name} {old}, not {new}); choose another folder or delete it."
            )


def _shown(value: JSON) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 100 else text[:100] + "…"


def refuse_occupied(file: Path, identity: Identity, what: str) -> None:
    """Raise UsageError where the folder of `file` holds anything but `identity` and what belongs to it."""
    folder = file.parent
    if folder.is_file():
        raise UsageError(f"{folder} is a file; give a folder to write to.")
    # Looked at before `file`, which other processes of the same run write before anything else.
    occupied = folder.is_dir() and any(not child.name.startswith(".") for child in folder.iterdir())
    if file.is_file():
        refuse_other(folder, read_identity(file), identity, what)
    elif occupied:
        raise UsageError(f"{folder} is not empty and holds no {what}; choose another folder.")


def claim(file: Path, identity: Identity, what: str) -> None:
    """Make the folder of `file` hold `identity`, or make sure that it does already.

    UsageError where it holds something else; ImagecotError where it cannot be written.
    """
    refuse_occupied(file, identity, what)
    if file.is_file():
        return
    make_folder(file.parent)
    write_text(file, json.dumps(identity, ensure_ascii=False) + "\n")
