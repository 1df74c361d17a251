"""Reading and writing checkpoints: a folder with `config.json` and weights in safetensors or torch form."""

import json
import pickle
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from imagecot.errors import ImagecotError, first_line
from imagecot.files import write_atomically, write_whole

WEIGHT_FILES = (
    "model.safetensors",
    "pytorch_model.safetensors",
    "diffusion_pytorch_model.safetensors",
    "pytorch_model.bin",
    "diffusion_pytorch_model.bin",
    "pytorch_model.pt",
    "model.pt",
)


def read_config(folder: Path) -> dict[str, Any]:
    """Read `folder/config.json`; ImagecotError where it is missing or no JSON object."""
    file = Path(folder) / "config.json"
    if not file.is_file():
        raise ImagecotError(f"{folder} has no config.json; pass a folder that holds a complete checkpoint.")
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ImagecotError(f"{file} is not valid JSON ({error}); copy or download it again.") from error
    if not isinstance(values, dict):
        raise ImagecotError(f"{file} does not hold a JSON object; copy or download it again.")
    return values


def find_weights(folder: Path) -> list[Path]:
    """Return the weight files of a checkpoint folder: one file, or the shards that its index names.

    ImagecotError where there is none, or where the index names a file that is not there.
    """
    for name in WEIGHT_FILES:
        if (folder / name).is_file():
            return [folder / name]
        index = folder / f"{name}.index.json"
        if index.is_file():
            return _shards(index)
    raise ImagecotError(
        f"{folder} holds no weights; expected one of {', '.join(WEIGHT_FILES[:4])} or their sharded form."
    )


def _shards(index: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ImagecotError(f"{index} is not a valid index of shards; copy or download it again.") from error
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise ImagecotError(
            f"{index} names {len(missing)} shard(s) that are not there ({_few(missing)}); download them too."
        )
    return [index.parent / name for name in names]


def load_state_dict(
    source: str | Path, device: torch.device | None = None, dtype: torch.dtype | None = None
) -> dict[str, Tensor]:
    """Load all tensors of a checkpoint folder (sharded or not) or of one weight file.

    They stay on the CPU and keep their type unless `device` or `dtype` (of floating-point tensors) is given.

    Torch files are read with `weights_only=True`: nothing in them is executed. ImagecotError where a file is
    missing, truncated, corrupt, or holds anything but tensors.
    """
    source = Path(source)
    if not source.exists():
        raise ImagecotError(f"{source} does not exist; pass a checkpoint folder or a weight file.")
    state: dict[str, Tensor] = {}
    for file in [source] if source.is_file() else find_weights(source):
        for name, tensor in _load_file(file).items():
            state[name] = tensor.to(device, dtype if tensor.is_floating_point() else None)
    return state


def _load_file(file: Path) -> dict[str, Tensor]:
    if file.suffix == ".safetensors":
        try:
            return load_file(file)
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            raise ImagecotError(f"{file} is truncated or corrupt ({error}); copy or download it again.") from error
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ImagecotError(
            f"{file} holds something other than tensors, or is corrupt, and was not loaded; use safetensors."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ImagecotError(f"{file} is truncated or corrupt ({first_line}); copy or download it again.") from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ImagecotError(f"{file} is not a state dict of named tensors; pass the weights of a model.")
    return state


def load_into(model: nn.Module, state: dict[str, Tensor], source: str | Path) -> None:
    """Put `state` into `model` as its own tensors (a model on the meta device becomes a real one).

    ImagecotError, naming `source` and a few names, where keys are missing, unknown or of another shape.
    """
    expected = model.state_dict()
    missing = [name for name in expected if name not in state]
    unknown = [name for name in state if name not in expected]
    shapes = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in expected
        if name in state and state[name].shape != expected[name].shape
    ]
    kinds = [("lacks", missing), ("has the unknown", unknown), ("has the wrong shape for", shapes)]
    problems = [f"{what} {len(names)} tensor(s): {_few(names)}" for what, names in kinds if names]
    if problems:
        raise ImagecotError(
            f"{source} does not fit its config.json ({type(model).__name__}): it {'; it '.join(problems)}."
        )
    model.load_state_dict(state, assign=True)


def _few(names: list[str], limit: int = 3) -> str:
    return ", ".join(names[:limit]) + (f", and {len(names) - limit} more" if len(names) > limit else "")


def save_checkpoint(folder: str | Path, config: dict[str, Any], state: dict[str, Tensor]) -> None:
    """Write `config.json` and `model.safetensors`, each under a temporary name that is then replaced."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}

    def write(partial: Path) -> None:
        save_file(tensors, partial, metadata={"format": "pt"})
        partial.chmod(0o644)  # safetensors writes files that only their owner may read

    write_atomically(folder / "model.safetensors", write)
    write_whole(folder / "config.json", (json.dumps(config, indent=2) + "\n").encode("utf-8"))


@contextmanager
def reading_weights(folder: Path) -> Iterator[None]:
    """Keep transformers silent while it loads a folder, and turn what it raises into one ImagecotError.

    What does not fit is for the caller to say, from the loading report.
    """
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    except (SafetensorError, OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise ImagecotError(
            f"the weights in {folder} cannot be read ({first_line(error)}); copy or download them again."
        ) from error
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
