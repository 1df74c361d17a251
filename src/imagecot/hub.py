"""Models by name: a folder, a shipped name, or a hub id, of which is fetched what the Hugging Face cache lacks.

Whoever looks at a model finds it here, so what is loaded is what was looked at: of a hub id the snapshot that the
cache calls `main`, or as the name says, never whichever comes last.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from imagecot.checkpoint import (
    ADAPTER,
    CONFIG,
    PIPELINE,
    SETTINGS,
    find_weights,
    is_checkpoint,
    is_file,
    is_folder,
    read_config,
)
from imagecot.downloads import download, why
from imagecot.errors import ImagecotError, UsageError
from imagecot.naming import inside

CHECKPOINTS = Path(__file__).parent / "checkpoints"
WEIGHTS = (CONFIG, SETTINGS, ADAPTER, "*.safetensors", "*.bin", "*.index.json")
TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
CHAT = ("chat_template.*", "*processor_config.json", "special_tokens_map.json")
GENERATOR = (*WEIGHTS, *TOKENIZER, *CHAT, PIPELINE, "*/*.json", "*/merges.txt")
VERIFIER = ("*.json", "*.jinja", "*.safetensors", "pytorch_model*.bin", "merges.txt", "tokenizer.model")
DETECTOR = (CONFIG, "*.safetensors", "*.index.json")
FILES = {"generator": GENERATOR, "verifier": VERIFIER, "detector": DETECTOR}
PREPROCESSOR = "preprocessor_config.json"
CLIP = (*DETECTOR, "tokenizer*.json", "vocab.json", "merges.txt")
TEXT = ("tokenizer.json", "vocab.json", "tokenizer.model")  # one of them makes a tokenizer
_ID = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_.-]*/[A-Za-z0-9_][A-Za-z0-9_.-]*)(?:@([A-Za-z0-9_][A-Za-z0-9_./-]*))?")
_COMMIT = re.compile("[0-9a-f]{40}")
_MAIN = "main"
_LONGEST = 4096  # characters of a path


@dataclass(frozen=True)
class HubId:
    """What `owner/name`, `owner/name:folder`, `owner/name@revision` or `owner/name@revision:folder` names.

    folder    in the repository; empty for the whole
    revision  a branch, a tag or a commit
    """

    repository: str
    folder: str = ""
    revision: str = _MAIN

    def __str__(self) -> str:
        return self.repository + f"@{self.revision}" * (self.revision != _MAIN) + f":{self.folder}" * bool(self.folder)


def check_name(role: str, name: object) -> str:
    """Return the name of a model; UsageError for what names none, whatever there is."""
    if not isinstance(name, (str, Path)):
        raise UsageError(f"a {role} is named by text or a path, not {type(name).__name__}.")
    text = str(name) if isinstance(name, Path) else name
    if not text.strip() or len(text) > _LONGEST or not text.isprintable():
        raise UsageError(f"there is no {role} {text[:60]!r}; give a folder, a hub id or a shipped name.")
    return text


def locate(name: str) -> Path | None:
    """Return the folder of a model that is on disk: a folder, a shipped one, or one in the hub's cache.

    A folder that holds no checkpoint stands in the way of no other model.
    """
    if not name.strip() or "\0" in name:
        return None
    folder = Path(name)
    if is_checkpoint(folder):
        return folder
    if "/" not in name and is_checkpoint(CHECKPOINTS / name):
        return CHECKPOINTS / name
    asked = hub_id(name)
    snapshot = _cached(asked) if asked else None
    if asked and snapshot and is_folder(snapshot / asked.folder):
        return snapshot / asked.folder
    return folder if is_folder(folder) else None


def find(name: str, patterns: Sequence[str]) -> Path | None:
    """Return the folder of a model as `locate` does; what the hub's cache lacks of a hub id is fetched.

    patterns  the files wanted of a repository

    None where the name can be nothing of these; ImagecotError where the hub cannot be reached.
    """
    found, asked = locate(name), hub_id(name)
    if asked is None or found == Path(name):
        return found
    return _fetch(asked, patterns)


def related(folder: Path, name: str, look: Callable[[str], Path | None]) -> Path | None:
    """Return the folder of a model that a checkpoint names: inside of it, beside it if it is shipped, or as of `look`.

    look  `locate`, or `find` with patterns
    """
    if not name.strip() or "\0" in name:
        return None
    near = [folder / name] + ([CHECKPOINTS / name] if folder.parent == CHECKPOINTS and "/" not in name else [])
    return next((place for place in near if is_checkpoint(place)), None) or look(name)


def hub_id(name: str) -> HubId | None:
    """What a name says of the hub; None for a name that is no hub id, whatever there is."""
    repository, _, part = name.partition(":")
    found = _ID.fullmatch(repository)
    if not found or part.startswith("/") or ".." in part.split("/") or ".." in (found[2] or ""):
        return None
    return HubId(found[1], part, found[2] or _MAIN)


def _cached(asked: HubId) -> Path | None:
    """The snapshot of a repository that the cache calls so; of `main` the only one where it calls none so."""
    from huggingface_hub import constants

    root = Path(constants.HF_HUB_CACHE) / f"models--{asked.repository.replace('/', '--')}"
    try:
        commit = (root / "refs" / asked.revision).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        snapshots = [folder for folder in (root / "snapshots").glob("*") if is_folder(folder)]
        if asked.revision == _MAIN:
            return snapshots[0] if len(snapshots) == 1 else None
        commit = asked.revision if _COMMIT.fullmatch(asked.revision) else ""
    snapshot = inside(root / "snapshots", commit)
    return snapshot if commit and snapshot and is_folder(snapshot) else None


def _lacks(folder: Path, patterns: Sequence[str]) -> str:
    """What of the wanted files a folder lacks, in words; empty where it is whole."""
    if not is_folder(folder):
        return f"folder {folder.name}"
    if {CONFIG, "*.json"} & set(patterns) and not is_checkpoint(folder):
        return CONFIG
    if "*.safetensors" in patterns and not _has_weights(folder):
        return "complete weights"
    if PREPROCESSOR in patterns and not is_file(folder / PREPROCESSOR):
        return PREPROCESSOR
    reads_text = "merges.txt" in patterns and not is_file(folder / ADAPTER) and not _names_tokenizer(folder)
    if reads_text and not any(is_file(folder / name) for name in TEXT):
        return "tokenizer"
    if tuple(patterns) == TOKENIZER and not is_file(folder / TOKENIZER[0]):
        return TOKENIZER[0]
    return ""


def _names_tokenizer(folder: Path) -> bool:
    """Whether a checkpoint takes its text tokenizer from another model, as Show-o does."""
    try:
        return bool(read_config(folder).get("llm_model_path"))
    except ImagecotError:
        return False


def _has_weights(folder: Path) -> bool:
    try:
        return bool(find_weights(folder))
    except ImagecotError:
        return False


def _fetch(asked: HubId, patterns: Sequence[str]) -> Path:
    """The folder of a hub id with all that is wanted of it, fetched where it is not here."""
    snapshot, part = _cached(asked), asked.folder
    if snapshot and not _lacks(snapshot / part, patterns):
        return snapshot / part
    from huggingface_hub.utils import logging

    wanted = [f"{part}/{pattern}" if part else pattern for pattern in patterns]
    revision = None if asked.revision == _MAIN else asked.revision
    level = logging.get_verbosity()
    logging.set_verbosity_error()  # it says where it falls back to what is here, which is looked at below
    try:
        snapshot = download(asked.repository, revision=revision, only=wanted)
    except Exception as error:  # of the hub's library, of what it connects by, and of the disk
        here = "" if snapshot is None else f" (it lacks {_lacks(snapshot / part, patterns)} there)"
        raise ImagecotError(
            f"{asked} is neither a folder here nor whole in the Hugging Face cache{here}, and cannot be downloaded "
            f"({why(error)}); fetch it on a machine with access or pass the folder of a copy."
        ) from error
    finally:
        logging.set_verbosity(level)
    lacks = _lacks(snapshot / part, patterns)
    if lacks:
        raise ImagecotError(
            f"{asked} has no {lacks} in the Hugging Face cache, and none could be downloaded; fetch it on a machine "
            "with access or pass the folder of a copy."
        )
    return snapshot / part
