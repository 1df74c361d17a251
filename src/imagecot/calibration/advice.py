"""Advice on searches, written where searches find it: `search_config.json` in the folder of the verifier."""

import json
from collections.abc import Mapping
from pathlib import Path

from imagecot.checkpoint import AGAIN
from imagecot.contracts.values import JSON
from imagecot.errors import UsageError
from imagecot.files import make_folder, write_text
from imagecot.hub import locate
from imagecot.reading import read_object
from imagecot.search_config import SEARCH_CONFIG, search_defaults

Advice = Mapping[str, Mapping[str, JSON]]


def write_advice(verifier: str, advice: Advice) -> Path:
    """Write settings by the names of searches into a verifier's folder; what it says of others stays. Returns the file.

    UsageError for a verifier that has no folder; ImagecotError where the file is damaged or cannot be written.
    """
    folder = place_of(verifier)
    file = folder / SEARCH_CONFIG
    said = read_object(file, advice=f"mend it, or {AGAIN}") if file.exists() else {}
    # What a folder says of searches goes for all that its base says of them.
    searches: dict[str, JSON] = {
        **search_defaults(verifier).searches,
        **{name: {**one} for name, one in advice.items()},
    }
    write_text(file, json.dumps({**said, "searches": searches}, indent=2, ensure_ascii=False) + "\n")
    return file


def place_of(verifier: str) -> Path:
    """The folder of a verifier that is on disk; UsageError for one that has none."""
    folder = locate(verifier)
    if folder is None:
        raise UsageError(
            f"{verifier} has no folder that advice could be written to; leave out --write, and give --advice FILE."
        )
    return folder


def write_snippet(file: Path, advice: Advice) -> None:
    """Write the same as a file of its own, to be joined with a `search_config.json` by hand."""
    make_folder(file.parent)
    write_text(file, snippet(advice) + "\n")


def snippet(advice: Advice) -> str:
    """The advice as `search_config.json` holds it."""
    return json.dumps({"searches": {name: {**one} for name, one in advice.items()}}, indent=2, ensure_ascii=False)
