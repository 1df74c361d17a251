"""What a checkpoint folder holds: `config.json`, weights whole or in shards, or an adapter of another checkpoint."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated

from pydantic import Field

from imagecot.contracts.values import JSON
from imagecot.errors import ImagecotError
from imagecot.naming import printable
from imagecot.reading import Foreign, read_object, read_record

CONFIG = "config.json"
SETTINGS = "generation_config.json"  # how a generator likes to be decoded
ADAPTER = "adapter_config.json"  # of peft: the folder holds an adapter, and names its base model
PIPELINE = "model_index.json"  # of diffusers: the folder holds a pipeline, each part in a folder of its own
TRUNK = "transformer"  # the part of a pipeline that draws
WEIGHT_FILES = (
    "model.safetensors",
    "pytorch_model.safetensors",
    "diffusion_pytorch_model.safetensors",
    "pytorch_model.bin",
    "diffusion_pytorch_model.bin",
    "pytorch_model.pt",
    "model.pt",
)
ADAPTER_FILES = ("adapter_model.safetensors", "adapter_model.bin")
AGAIN = "copy or download it again"


class _Index(Foreign):
    """Which shard holds which tensor."""

    weight_map: Annotated[dict[str, str], Field(min_length=1)]


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder is there and says what it holds."""
    return any(is_file(folder / name) for name in (CONFIG, ADAPTER, PIPELINE))


def is_file(path: Path) -> bool:
    """Whether there is a file; no error for a path that cannot be one."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """Whether there is a folder; no error for a path that cannot be one."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def read_config(folder: Path) -> dict[str, JSON]:
    """Read `folder/config.json`, or of a pipeline `model_index.json`; ImagecotError for none, or no JSON object."""
    file = Path(folder) / (PIPELINE if is_pipeline(Path(folder)) else CONFIG)
    if not is_file(file):
        raise ImagecotError(f"{folder} has no config.json; pass a folder that holds a complete checkpoint.")
    return read_object(file, advice=AGAIN)


def is_pipeline(folder: Path) -> bool:
    """Whether a folder holds a pipeline of diffusers."""
    return is_file(folder / PIPELINE) and not is_file(folder / CONFIG)


def parts_of(folder: Path) -> dict[str, Path]:
    """Return the folders of a pipeline's parts by their names, in order; empty for a folder that holds none.

    ImagecotError, naming the part, where one is not there.
    """
    if not is_pipeline(folder):
        return {}
    index = read_object(folder / PIPELINE, advice=AGAIN)
    names = sorted(name for name, kind in index.items() if isinstance(kind, list) and all(map(_is_text, kind)))
    for name in names:
        if not (_stays_inside(name) and is_folder(folder / name)):
            raise ImagecotError(f"{folder} has no folder {few([name])}, a part that its {PIPELINE} names; {AGAIN}.")
    return {name: folder / name for name in names}


def _is_text(value: JSON) -> bool:
    return isinstance(value, str)


def files_of(part: Path) -> list[Path]:
    """The files of a pipeline's part that have a say in what it does: its weights, or the settings of what has none."""
    if is_file(part / CONFIG):
        return find_weights(part)
    return sorted(file for file in part.glob("*") if file.suffix in (".json", ".txt") and is_file(file))


def find_weights(folder: Path) -> list[Path]:
    """Return the weight files of a checkpoint folder: one file, the shards that its index names, or those of all parts.

    A folder that holds no file of a usual name, and a single .pt file, holds that. ImagecotError where there is none,
    or where an index names a file that is not there or not of this folder.
    """
    if is_pipeline(folder):
        return [file for part in parts_of(folder).values() if is_file(part / CONFIG) for file in find_weights(part)]
    shards = {index.name: _shards(index) for index in sorted(folder.glob("*.index.json")) if index.is_file()}
    for name in ADAPTER_FILES if is_file(folder / ADAPTER) else WEIGHT_FILES:
        if (folder / name).is_file():
            return [folder / name]
        if f"{name}.index.json" in shards:
            return _present(folder / f"{name}.index.json", shards[f"{name}.index.json"])
    alone = [file for file in folder.glob("*.pt") if is_file(file)]
    if len(alone) == 1 and not is_file(folder / ADAPTER):
        return alone
    expected = ADAPTER_FILES if is_file(folder / ADAPTER) else WEIGHT_FILES[:4]
    raise ImagecotError(f"{folder} holds no weights; expected one of {', '.join(expected)} or their sharded form.")


def _shards(index: Path) -> list[str]:
    names = sorted(set(read_record(index, _Index, advice=AGAIN).weight_map.values()))
    outside = [name for name in names if not _stays_inside(name)]
    if outside:
        raise ImagecotError(f"{index} names shards that are not in its folder ({few(outside)}); {AGAIN}.")
    return names


def _present(index: Path, names: Sequence[str]) -> list[Path]:
    missing = [name for name in names if not is_file(index.parent / name)]
    if missing:
        raise ImagecotError(
            f"{index} names {len(missing)} shard(s) that are not there ({few(missing)}); download them too."
        )
    return [index.parent / name for name in names]


def _stays_inside(name: str) -> bool:
    """Whether a name stays in its folder. Links are not followed: those of the hub's cache lead elsewhere, rightly."""
    ways = (PurePosixPath(name), PureWindowsPath(name))
    return bool(name.strip()) and "\0" not in name and not any(w.anchor or ".." in w.parts for w in ways)


def few(names: Sequence[str], limit: int = 3) -> str:
    """The first few of some names, which others gave: printable and not too long."""
    shown = [printable(name if len(name) <= 120 else name[:119] + "…").replace("\n", "\\n") for name in names[:limit]]
    return ", ".join(shown) + (f", and {len(names) - limit} more" if len(names) > limit else "")
