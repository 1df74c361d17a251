"""The models that can be named on the command line: where they are, how large, and what their weights are."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from imagecot.generators import ADAPTER, CHECKPOINTS, HUB_GENERATORS

_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt")


@dataclass(frozen=True)
class Model:
    """A row of `imagecot models`. size is in bytes on disk; None where nothing is there, or not known."""

    name: str
    kind: str
    parameters: str | None
    licence: str | None
    size: int | None

    @property
    def on_disk(self) -> bool:
        """Whether the weights are here."""
        return self.size is not None


# name -> kind, parameters, licence where its page states one that is known here
HUB_MODELS: dict[str, tuple[str, str | None, str | None]] = {
    **{name: ("generator", "1.4 B", None) for name in HUB_GENERATORS},
    "showlab/magvitv2": ("image tokenizer", "95.4 M", None),
    "llava-hf/llava-onevision-qwen2-7b-ov-hf": ("verifier", "8.0 B", "apache-2.0"),
    "lmms-lab/llava-onevision-qwen2-7b-ov": ("verifier", "8.0 B", "apache-2.0"),
    "ZiyuG/Image-Generation-CoT:orm_ft": ("verifier", "8.0 B", None),
    "ZiyuG/Image-Generation-CoT:parm": ("verifier", "8.0 B", None),
}
SHIPPED_LICENCE = "apache-2.0"


def kind_of(folder: Path) -> str | None:
    """Say what a checkpoint folder holds by its config.json; None where that cannot be told."""
    if (folder / ADAPTER).is_file():
        base = _base_of(folder)
        found = locate(base) if base else None
        return kind_of(found) if found else HUB_MODELS.get(base, (None,))[0]
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(config, dict):
        return None
    if "llm_vocab_size" in config:
        return "generator"
    if "code_bits" in config:
        return "image tokenizer"
    if config.get("model_type") == "pictogram-detector":
        return "detector"
    # LLaVA-NeXT, in which the paper's verifiers are published, has the second.
    return "verifier" if "vision_config" in config or "mm_vision_tower" in config else None


def _base_of(folder: Path) -> str:
    """The model that an adapter belongs to; empty where its file cannot be read."""
    try:
        return str(json.loads((folder / ADAPTER).read_text(encoding="utf-8"))["base_model_name_or_path"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def shipped(kind: str) -> list[str]:
    """Return the names of the checkpoints of one kind that the package contains."""
    return [folder.name for folder in _shipped_folders() if kind_of(folder) == kind]


def _shipped_folders() -> list[Path]:
    return sorted({file.parent for name in ("config.json", ADAPTER) for file in CHECKPOINTS.glob(f"*/{name}")})


def known(kind: str) -> list[str]:
    """Return the shipped names and hub ids of one kind, for completion and for the nearest match."""
    return shipped(kind) + [name for name, (of, _, _) in HUB_MODELS.items() if of == kind]


def locate(name: str) -> Path | None:
    """Return the folder of a model that is on disk: a folder, a shipped one, or one in the hub's cache."""
    for folder in (Path(name), CHECKPOINTS / name):
        if folder.is_dir():
            return folder
    repository, _, part = name.partition(":")
    if repository.count("/") != 1:
        return None
    from huggingface_hub.constants import HF_HUB_CACHE

    snapshots = Path(HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}" / "snapshots"
    found = [folder / part for folder in sorted(snapshots.glob("*")) if (folder / part).is_dir()]
    return found[-1] if found else None


def weight_files(folder: Path) -> list[Path]:
    """Return the files of a checkpoint folder that hold weights."""
    return sorted(file for file in folder.glob("*") if file.suffix in _WEIGHT_SUFFIXES and file.is_file())


def weights_of(role: str, name: str) -> dict[str, str]:
    """Return SHA-256 by role for a named model: weights, settings, image tokenizer.

    Empty where the model is not on disk.
    """
    folder = locate(name)
    if folder is None:
        return {}
    digests = {role: _digest(weight_files(folder))}
    whose = "" if role.startswith("generator") else f"{role}_"
    if (folder / ADAPTER).is_file():
        digests = weights_of(f"{role}_base", _base_of(folder)) | digests
    if kind_of(folder) == "generator":
        settings = folder / "generation_config.json"
        if settings.is_file():
            digests[f"{whose}generation_config"] = _digest([settings])
    if kind_of(folder) == "generator" and (folder / "config.json").is_file():
        tokenizer = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("vq_model", "")
        inside = folder / tokenizer
        tokenizer_folder = inside if inside.is_dir() else locate(tokenizer)
        if tokenizer and tokenizer_folder is not None:
            digests[f"{whose}image_tokenizer"] = _digest(weight_files(tokenizer_folder))
    return digests


def _digest(files: list[Path]) -> str:
    """Return the SHA-256 of a file as sha256sum prints it; of several files, that of their digests."""
    digests = []
    for file in files:
        blob = os.path.basename(os.readlink(file)) if file.is_symlink() else ""
        if len(blob) == 64:  # the hub's cache names large files by their SHA-256
            digests.append(blob)
        else:
            with file.open("rb") as data:
                digests.append(hashlib.file_digest(data, "sha256").hexdigest())
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()


def known_words(name: str) -> frozenset[str] | None:
    """Return the words that a generator was trained on: `known_words` in its config.json, None without."""
    folder = locate(name)
    if folder is None:
        return None
    if (folder / ADAPTER).is_file():
        return known_words(_base_of(folder))
    try:
        words = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("known_words")
    except (OSError, ValueError, AttributeError):
        return None
    return frozenset(str(word).lower() for word in words) if isinstance(words, list) else None


def list_models() -> list[Model]:
    """Return the shipped models, then those of the hub, with what is known of each."""
    rows = []
    for folder in _shipped_folders():
        kind = kind_of(folder) or "unknown"
        rows.append(Model(folder.name, kind, _parameters(folder), SHIPPED_LICENCE, _size(folder)))
    for name, (kind, parameters, licence) in HUB_MODELS.items():
        here = locate(name)
        rows.append(Model(name, kind, parameters, licence, _size(here) if here else None))
    order = {"generator": 0, "image tokenizer": 1, "verifier": 2}
    return sorted(rows, key=lambda row: order.get(row.kind, 3))


def _size(folder: Path) -> int | None:
    """Return the bytes of a folder's weights; None where it holds none."""
    return sum(file.stat().st_size for file in weight_files(folder)) or None


def _parameters(folder: Path) -> str | None:
    """Count the parameters of a checkpoint from the headers of its safetensors files."""
    total = 0
    for file in folder.glob("*.safetensors"):
        with file.open("rb") as data:
            header = json.loads(data.read(int.from_bytes(data.read(8), "little")))
        for name, entry in header.items():
            count = 1
            for side in entry.get("shape", []):
                count *= side
            total += count if name != "__metadata__" else 0
    return f"{total / 1e6:.1f} M" if total else None
