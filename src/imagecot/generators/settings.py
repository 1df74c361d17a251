"""Settings of drawing: which there are, and those that a checkpoint brings along in its generation_config.json."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from imagecot.checkpoint import AGAIN, SETTINGS
from imagecot.contracts.values import JSON
from imagecot.errors import UsageError
from imagecot.files import write_whole
from imagecot.reading import Foreign, read_record


def check_known(family: str, asked: Iterable[str], known: Sequence[str]) -> None:
    """Raise UsageError for the first name that is no setting of a family."""
    for name in asked:
        if name not in known:
            raise UsageError(f"{family} has no setting {name!r}; it has {', '.join(known)}.")


def check_budget(memory_budget: object) -> None:
    """Raise UsageError where that is no number of bytes; None is whatever there is."""
    if memory_budget is not None and (type(memory_budget) is not int or memory_budget < 1):
        raise UsageError(f"memory_budget must be a number of bytes, at least 1, not {memory_budget!r}.")


def read_defaults(folder: Path, form: type[Foreign]) -> dict[str, JSON]:
    """Read what the file of a folder says; empty without a file, ImagecotError, naming the field, for what cannot be.

    form  the settings that there are; a null, where it may be, is not said
    """
    file = folder / SETTINGS
    if not file.exists():
        return {}
    return dict(read_record(file, form, advice=AGAIN).model_dump(exclude_unset=True, exclude_none=True))


def write_defaults(folder: Path, settings: Mapping[str, JSON]) -> None:
    """Write the file into a folder."""
    write_whole(folder / SETTINGS, (json.dumps(dict(settings), indent=2) + "\n").encode())
