"""Nothing leaves this machine that is about it: paths become names, and a secret stops everything."""

import os
import re
from functools import cache
from pathlib import Path

from imagecot.errors import UsageError

_TEXT = {".json", ".jsonl", ".md", ".yaml", ".yml", ".txt", ".csv", ".html", ".svg", ".toml", ".jinja", ".js", ".css"}
_SECRETS = re.compile(r"\b(?:hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{20,}|AKIA[A-Z0-9]{16})\b")
_NAMED_SO = re.compile(r"(?:^|_)(?:TOKEN|KEY|SECRET|PASSWORD)$")
_SHORTEST = 12  # of a value of the environment that is taken for a secret
_WINDOWS = r"[A-Za-z]:\\{1,2}Users(?:\\{1,2}[^\s\"'`<>|*?:,;()\[\]{}\\]+)+"


def is_text(name: str) -> bool:
    """Whether a file is read by people, or holds text, by its name."""
    return Path(name).suffix.lower() in _TEXT


def check_secrets(name: str, text: str) -> None:
    """Raise UsageError, naming file and line, for what looks like a token, or is one of this environment."""
    for number, line in enumerate(text.splitlines(), 1):
        if _SECRETS.search(line) or any(secret in line for secret in _own_secrets()):
            raise UsageError(
                f"line {number} of {name} holds what looks like a secret token, and nothing was pushed; remove it, and "
                "withdraw the token where others may have seen it."
            )


def _own_secrets() -> list[str]:
    from huggingface_hub import get_token

    values = [value for name, value in os.environ.items() if _NAMED_SO.search(name.upper())]
    return [value for value in (*values, get_token() or "") if len(value) >= _SHORTEST]


def without_paths(text: str) -> str:
    """The text, with paths in the working folder relative to it, and of other local paths the last part alone."""
    return _local().sub(lambda found: _shortened(found[0]), text)


def local_path(text: str) -> str | None:
    """The first absolute path of this machine that a text holds."""
    found = _local().search(text)
    return found[0] if found else None


@cache
def _local() -> re.Pattern[str]:
    """Absolute paths that begin with a folder of this machine, or where homes are."""
    tops = {"home", "root", "Users", *(place.name for place in Path("/").iterdir() if place.is_dir())}
    names = "|".join(re.escape(name) for name in sorted(tops))
    part = r"[^\s\"'`<>|*?:,;()\[\]{}\\/]+"
    return re.compile(rf"(?:(?:file://)|(?<![\w./:<~+-]))/(?:{names})(?:/{part})+/?|{_WINDOWS}")


def _shortened(path: str) -> str:
    plain = path.removeprefix("file://").replace("\\\\", "/").replace("\\", "/").rstrip("/")
    here = f"{Path.cwd().as_posix()}/"
    return plain.removeprefix(here) if plain.startswith(here) else plain.rpartition("/")[2]
