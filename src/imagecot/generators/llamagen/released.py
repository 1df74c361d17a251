"""Weights as LlamaGen releases and trains them: torch files, wrapped in several ways.

Nothing is left out in silence, which the reference's loading does: what a file has beside the tensors of the model is
told, and a tensor that is missing or unknown is an error.
"""

import argparse
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import torch
from torch import Tensor, nn

from imagecot.checkpoint import few, find_weights
from imagecot.errors import ImagecotError
from imagecot.generators.llamagen.config import CLASSES
from imagecot.weights import check_finite, load_into, load_state_dict, load_torch, named_tensors

Model = TypeVar("Model", bound=nn.Module)
# What holds the weights in a file of several things, the first that there is; a file may also be the weights alone.
_WRAPPINGS = ("model", "module", "state_dict", "ema")
_PREFIXES = ("module.", "_orig_mod.")  # of models that ran on several GPUs, or compiled
_CACHES = (".kv_cache.k_cache", ".kv_cache.v_cache")  # of a model that has drawn
_TABLES = ("freqs_cis", "causal_mask")  # that follow from the sizes


@dataclass(frozen=True)
class Released:
    """The weights of a file.

    state       by the names of the model
    told        sentences about what else the file had
    block_size  how many codes an image has, as far as the file shows it
    """

    state: dict[str, Tensor]
    told: tuple[str, ...] = ()
    block_size: int | None = None


def load_released(
    make: Callable[[], Model],
    source: str | Path,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
    *,
    spare: Mapping[str, Tensor] = MappingProxyType({}),
) -> tuple[Model, Released]:
    """Return the model that `make` makes, on `device`, with the weights of a folder or file; and what was read.

    dtype  of floating-point tensors; None for that of the file
    spare  what the file may lack

    ImagecotError where the weights cannot be read or do not fit.
    """
    found = read(Path(source))
    return fitted(make, found, source, device, dtype, spare), found


def fitted(
    make: Callable[[], Model],
    found: Released,
    source: str | Path,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
    spare: Mapping[str, Tensor] = MappingProxyType({}),
) -> Model:
    """Return the model that `make` makes with weights that were read; arguments and errors as of `load_released`."""
    with torch.device("meta"):
        model = make()
    state = {
        name: t.to(device, dtype if t.is_floating_point() else None, copy=True)  # the file may be changed later
        for name, t in {**spare, **found.state}.items()
    }
    load_into(model, state, source)
    return model.eval()


def read(source: Path) -> Released:
    """Read the weights of a checkpoint folder or of one file; ImagecotError where they are none of LlamaGen's."""
    files = find_weights(source) if source.is_dir() else [source]
    if len(files) > 1 or files[0].suffix == ".safetensors":
        return _of_model(load_state_dict(source), files[0])
    [file] = files
    held = load_torch(file, (argparse.Namespace,))
    told: list[str] = []
    arguments: object = None
    if isinstance(held, dict):
        arguments = held.get("args")
        inner = next((name for name in _WRAPPINGS if isinstance(held.get(name), dict)), None)
        if inner is not None:
            others = sorted(str(name) for name in held if name != inner)
            if others:
                told.append(f"{file.name}: the weights are those under {inner!r}; left out are {few(others, 8)}.")
            held = held[inner]
    state = named_tensors(held, file)
    check_finite(state, file)
    found = _of_model(state, file)
    return Released(found.state, (*told, *found.told), _trained_size(arguments) or found.block_size)


def _of_model(state: Mapping[str, Tensor], file: Path) -> Released:
    """Take prefixes off the names, and leave out what follows from the sizes."""
    told = []
    names = {name: name for name in state}
    for prefix in _PREFIXES * 2:
        if names and all(short.startswith(prefix) for short in names.values()):
            names = {name: short.removeprefix(prefix) for name, short in names.items()}
            told.append(f"{file.name}: all names began with {prefix!r}, which was taken off.")
    plain = {short: state[name] for name, short in names.items()}
    if any(name.startswith("cls_embedding.embedding_table.") for name in plain):
        raise ImagecotError(f"{file} cannot be loaded: {CLASSES}.")
    surplus = [name for name in plain if name.endswith(_CACHES) or name in _TABLES]
    if surplus:
        told.append(f"{file.name}: left out are {len(surplus)} tensors that a model computes anew: {few(surplus)}.")
    kept = {name: tensor for name, tensor in plain.items() if name not in surplus}
    return Released(kept, tuple(told), _drawn_size(plain))


def _trained_size(arguments: object) -> int | None:
    """How many codes an image had in the training whose arguments a file holds."""
    values = vars(arguments) if isinstance(arguments, argparse.Namespace) else arguments
    if not isinstance(values, dict):
        return None
    size, factor = values.get("image_size"), values.get("downsample_size")
    return (size // factor) ** 2 if type(size) is int and type(factor) is int and factor > 0 else None


def _drawn_size(state: Mapping[str, Tensor]) -> int | None:
    """How many codes an image has by tables that a file has beside the weights; caches are rounded up to 8 rows."""
    text = state.get("cls_embedding.uncond_embedding")
    if text is None:
        return None
    rows = [tensor.shape[2] for name, tensor in state.items() if name.endswith(_CACHES) and tensor.ndim == 4]
    rows += [state["freqs_cis"].shape[0]] if "freqs_cis" in state else []
    codes = max(0, rows[-1] - len(text)) if rows else 0
    side = math.isqrt(codes)
    # Of tiny images several squares are so near.
    return side * side if side > 3 and codes - side * side < 8 else None


def check_size(found: Released, block_size: int, where: str) -> None:
    """Raise ImagecotError where weights show that their images have another number of codes than `block_size`."""
    if found.block_size not in (None, block_size):
        raise ImagecotError(
            f"{where}: images are to have {block_size} codes (block_size), but the weights were trained on or drew "
            f"images of {found.block_size}; use that number, or other weights."
        )
