"""File names made of other people's words: only letters, digits, dots, dashes and underscores, and never a path."""

import hashlib
import re
from pathlib import Path

_LONGEST = 80


def safe_name(text: str) -> str:
    """Return `text` where it is a safe file name; else one made of it that no other text has.

    Safe is what starts with a letter, digit or underscore, holds nothing but those, dots and dashes, and is short.
    """
    if re.fullmatch(rf"[A-Za-z0-9_][A-Za-z0-9._-]{{0,{_LONGEST - 1}}}", text):
        return text
    kept = re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-")[: _LONGEST - 17].strip("-")
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{kept}-{digest}" if kept else digest


def inside(folder: Path, name: str) -> Path | None:
    """Return the path of `name` within a folder, links followed; None where it leads out of the folder."""
    root = folder.resolve()
    try:
        found = (root / name).resolve()
    except (OSError, ValueError, RuntimeError):
        return None
    return folder / name if found.is_relative_to(root) and not Path(name).is_absolute() else None


def printable(text: str) -> str:
    """Return `text` with control characters, such as those that steer a terminal, spelt out; line feeds stay."""
    return "".join(
        c if c == "\n" or c.isprintable() or c == "\t" else c.encode("unicode_escape").decode() for c in text
    )
