"""The models that can be named on the command line: where they are, how large, and what their weights are."""

import hashlib
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from imagecot import hub
from imagecot.adapters import lineage
from imagecot.checkpoint import (
    ADAPTER,
    CONFIG,
    PIPELINE,
    SETTINGS,
    TRUNK,
    files_of,
    find_weights,
    is_file,
    parts_of,
    read_config,
)
from imagecot.contracts.values import JSON
from imagecot.errors import ImagecotError
from imagecot.families import FAMILIES, kinds_of
from imagecot.hub import FILES, WEIGHTS, find, locate, related
from imagecot.search_config import defaults_of

# Of a model that draws, or sees by codes: its parts with weights of their own, and the fields of its config.json that
# name them.
PART_FIELDS = {"image_tokenizer": "vq_model", "text_encoder": "text_encoder"}
_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt")
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Model:
    """A row of `imagecot models`.

    kinds  its roles, or what part of a model it is
    size   in bytes on disk; None where nothing is there, or not known
    """

    name: str
    kinds: tuple[str, ...]
    parameters: str | None
    licence: str | None
    size: int | None

    @property
    def on_disk(self) -> bool:
        """Whether the weights are here."""
        return self.size is not None


# name -> kinds, parameters, licence where its page states one that is known here. Of a repository with several models a
# folder is named behind a colon: the paper's fine-tuned ORM, and its PARM.
HUB_MODELS: dict[str, tuple[tuple[str, ...], str | None, str | None]] = {
    "showlab/show-o": (("generator", "verifier"), "1.4 B", None),
    "showlab/show-o-512x512": (("generator", "verifier"), "1.4 B", None),
    "deepseek-community/Janus-Pro-1B": (("generator", "verifier"), "2.1 B", None),
    "deepseek-community/Janus-Pro-7B": (("generator", "verifier"), "7.4 B", None),
    "showlab/magvitv2": (("image tokenizer",), "95.4 M", None),
    "llava-hf/llava-onevision-qwen2-7b-ov-hf": (("verifier",), "8.0 B", "apache-2.0"),
    "lmms-lab/llava-onevision-qwen2-7b-ov": (("verifier",), "8.0 B", "apache-2.0"),
    "ZiyuG/Image-Generation-CoT:orm_ft": (("verifier",), "8.0 B", None),
    "ZiyuG/Image-Generation-CoT:parm": (("verifier",), "8.0 B", None),
    "amused/amused-256": (("generator",), "603.5 M", "openrail++"),
    "amused/amused-512": (("generator",), "608.3 M", "openrail++"),
    "facebook/mask2former-swin-small-coco-instance": (("detector",), None, None),
}
SHIPPED_LICENCE = "apache-2.0"


def licence_of(name: str) -> str | None:
    """The licence of a model that is shipped, or whose page states one that is known here."""
    if "/" not in name and is_file(hub.CHECKPOINTS / name / "README.md"):
        return SHIPPED_LICENCE
    return HUB_MODELS[name][2] if name in HUB_MODELS else None


def kinds_of_folder(folder: Path) -> tuple[str, ...]:
    """What a checkpoint folder holds by its config.json, or its base's: all its roles; empty where nobody can tell.

    Where its `search_config.json` says roles, it has no others.
    """
    try:
        parts = lineage(folder, locate)
        kinds, said = kinds_of(read_config(parts[0])), defaults_of(parts).roles
        return kinds if said is None else tuple(kind for kind in kinds if kind in said)
    except ImagecotError:
        return ()


def base_config(name: str) -> dict[str, JSON]:
    """The config.json of a model that is on disk, or of its base; empty where there is none that can be read."""
    folder = locate(name)
    try:
        return read_config(lineage(folder, locate)[0]) if folder is not None else {}
    except ImagecotError:
        return {}


def shipped(kind: str) -> list[str]:
    """Return the names of the checkpoints of one kind that the package contains."""
    return [folder.name for folder in _shipped_folders() if kind in kinds_of_folder(folder)]


def _shipped_folders() -> list[Path]:
    return sorted({file.parent for name in (CONFIG, ADAPTER, PIPELINE) for file in hub.CHECKPOINTS.glob(f"*/{name}")})


def known(kind: str) -> list[str]:
    """Return the shipped names and hub ids of one kind, for completion and for the nearest match."""
    return shipped(kind) + [name for name, (kinds, _, _) in HUB_MODELS.items() if kind in kinds]


def weight_files(folder: Path) -> list[Path]:
    """Return the files of a checkpoint folder that hold weights, whether or not they are read."""
    places = ("*", "*/*") if is_file(folder / PIPELINE) else ("*",)
    found = [file for place in places for file in folder.glob(place)]
    return sorted(file for file in found if file.suffix in _WEIGHT_SUFFIXES and is_file(file))


def weights_of(role: str, name: str) -> dict[str, str]:
    """Return SHA-256 by role for a named model: weights, settings, image tokenizer.

    They are those of the files that are loaded; what the hub's cache lacks is fetched. Empty where there is no such
    model; ImagecotError where a part of it is missing or damaged.
    """
    kind = next((kind for kind in FAMILIES if role.startswith(kind)), "generator")

    def look(wanted: str) -> Path | None:
        return find(wanted, FILES[kind])

    folder = look(name)
    if folder is None:
        return {}
    parts = lineage(folder, look)
    draws = kind == "generator" and kind in kinds_of(read_config(parts[0]))
    digests: dict[str, str] = {}
    for level, part in zip(reversed(range(len(parts))), parts, strict=True):
        mine = role + "_base" * level
        owner = "" if role.startswith("generator") else f"{mine}_"
        places = parts_of(part)
        digests[mine] = digest_of(find_weights(places.pop(TRUNK, part)))
        digests |= {f"{owner}{name}": digest_of(files_of(place)) for name, place in places.items()}
        if draws and is_file(part / SETTINGS):
            digests[f"{owner}generation_config"] = digest_of([part / SETTINGS])
        if part is parts[0]:  # a verifier may see by codes
            for what, field in PART_FIELDS.items():
                place = _named(part, field)
                digests |= {f"{owner}{what}": digest_of(find_weights(place))} if place else {}
    return digests


def _named(folder: Path, field: str) -> Path | None:
    """The folder of a part that a field of a generator's config.json names; None where it names none that is known."""
    name = read_config(folder).get(field)
    return related(folder, name, lambda wanted: find(wanted, WEIGHTS)) if isinstance(name, str) else None


def digest_of(files: Sequence[Path]) -> str:
    """Return the SHA-256 of a file as sha256sum prints it; of several files, that of their digests."""
    digests = []
    for file in files:
        blob = Path(os.readlink(file)) if file.is_symlink() else Path()
        if blob.parent.name == "blobs" and _SHA256.fullmatch(blob.name):  # the hub's cache names large files by it
            digests.append(blob.name)
        else:
            with file.open("rb") as data:
                digests.append(hashlib.file_digest(data, "sha256").hexdigest())
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()


def known_words(name: str) -> frozenset[str] | None:
    """Return the words that a generator was trained on: `known_words` in its config.json, None without."""
    words = base_config(name).get("known_words")
    return frozenset(str(word).lower() for word in words) if isinstance(words, list) else None


def list_models() -> list[Model]:
    """Return the shipped models, then those of the hub, with what is known of each."""
    rows = []
    for folder in _shipped_folders():
        rows.append(Model(folder.name, kinds_of_folder(folder), _parameters(folder), SHIPPED_LICENCE, _size(folder)))
    for name, (said, parameters, licence) in HUB_MODELS.items():
        here = locate(name)
        # A config.json may not say that a model was trained to judge.
        kinds = tuple(dict.fromkeys((*(kinds_of_folder(here) if here else ()), *said)))
        rows.append(Model(name, kinds, parameters, licence, _size(here) if here else None))
    order = {"generator": 0, "image tokenizer": 1, "verifier": 2}
    return sorted(rows, key=lambda row: min((order.get(kind, 3) for kind in row.kinds), default=3))


def _size(folder: Path) -> int | None:
    """Return the bytes of a folder's weights; None where it holds none."""
    try:
        return sum(file.stat().st_size for file in weight_files(folder)) or None
    except OSError:
        return None


def parameters_of(name: str) -> float | None:
    """How many parameters a model has, an adapter's base for it; None where nothing that is known here tells."""
    folder = locate(name)
    try:
        counted = _counted(lineage(folder, locate)[0]) if folder is not None else None
    except ImagecotError:  # the base is not here
        return None
    said = HUB_MODELS[name][1] if name in HUB_MODELS else None
    if counted or not said:
        return counted
    number, unit = said.split()
    return float(number) * {"M": 1e6, "B": 1e9}[unit]


def _parameters(folder: Path) -> str | None:
    counted = _counted(folder)
    return f"{counted / 1e6:.1f} M" if counted else None


def _counted(folder: Path) -> int | None:
    """The parameters of a checkpoint by the headers of its safetensors files; None where there are none, or damaged."""
    try:
        where = folder / TRUNK if is_file(folder / PIPELINE) else folder
        return sum(_count(file) for file in where.glob("*.safetensors") if is_file(file)) or None
    except (OSError, SafetensorError):
        return None


def _count(file: Path) -> int:
    """How many numbers a safetensors file holds, by its header."""
    with safe_open(file, framework="numpy") as tensors:
        return sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.offset_keys())
