"""What a training keeps on disk to go on from: whole or not at all, and read back by one sentence where it is damaged.

A state is what moves: weights that are trained, optimizers, and sums and averages, all of them whole, so that any
number of processes goes on from it, with whole weights or with shares. There is no randomness in it: that begins anew
with each part. Torch files are read with `weights_only`: nothing in them is run.
"""

import os
import pickle
import random
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from imagecot import interruption
from imagecot.errors import ImagecotError, first_line
from imagecot.files import clear_write_errors, make_own_folder, write_atomically
from imagecot.memory import is_out_of_memory
from imagecot.peers import said_by_main
from imagecot.reading import check_regular
from imagecot.training.sharding import full, moving, shared_like, whole_weights

if TYPE_CHECKING:
    from accelerate import Accelerator

FROM_START = "delete it to train from the start"
_NAME = re.compile(r"state-(\d{7,12})")
_WEIGHTS = "model.safetensors"
_SCALER = "scaler.pt"  # of float16


class Keepable(Protocol):
    """What else a training goes on from, such as sums of its losses."""

    def state_dict(self) -> Mapping[str, object]:
        """What `load_state_dict` reads."""
        ...

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Go on with what was kept; ValueError for what is none."""
        ...


@dataclass(frozen=True)
class Kept:
    """What a state holds; `others` are kept beside weights and optimizers."""

    accelerator: "Accelerator"
    module: nn.Module
    optimizers: Sequence[torch.optim.Optimizer]
    others: Sequence[Keepable]

    @property
    def weights(self) -> nn.Module:
        """What holds the weights, without what accelerate wraps around it."""
        inner: nn.Module = self.accelerator.unwrap_model(self.module, keep_torch_compile=False)
        return inner


def seed_all(seed: int) -> None:
    """Let every source of global randomness begin with the seed."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def write_state(file: Path, state: object) -> None:
    """Write tensors, and what holds them, as a torch file; ImagecotError where that fails."""

    def write(partial: Path) -> None:
        with partial.open("wb") as opened:  # given a name, torch keeps it in the file, and this one is never the same
            torch.save(state, opened)

    write_atomically(file, write)


def read_state(file: Path, advice: str = FROM_START) -> object:
    """Return what `write_state` wrote, on the CPU; ImagecotError where the file is damaged or holds more than data."""
    from accelerate.utils.other import TORCH_SAFE_GLOBALS

    check_regular(file, advice=advice)
    with refusing_damage(file, advice), torch.serialization.safe_globals(TORCH_SAFE_GLOBALS):
        state: object = torch.load(file, map_location="cpu", weights_only=True)
        _refuse_not_finite(state)
    return state


@contextmanager
def refusing_damage(file: Path, advice: str = FROM_START) -> Iterator[None]:
    """Turn whatever libraries raise inside, of a file that is not what it should be, into one ImagecotError."""
    try:
        yield
    except ImagecotError:
        raise
    except pickle.UnpicklingError:
        raise ImagecotError(f"{file} is damaged (it holds something other than tensors); {advice}.") from None
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise ImagecotError(f"{file} is damaged ({first_line(error)}); {advice}.") from error


def _refuse_not_finite(value: object) -> None:
    """Raise ValueError for a tensor anywhere in `value` that holds NaN or infinity."""
    if isinstance(value, Tensor):
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ValueError("a number in it is not finite")
    elif isinstance(value, dict):
        for part in value.values():
            _refuse_not_finite(part)
    elif isinstance(value, list | tuple):
        for part in value:
            _refuse_not_finite(part)


def save_state(kept: Kept, folder: Path, step: int) -> None:
    """Keep what moves; an older state goes only when the new one is whole. All processes take part, one writes."""
    weights = whole_weights(kept.weights)
    optimizers = [_tensors(full, optimizer.state_dict()) for optimizer in kept.optimizers]
    if kept.accelerator.is_main_process:
        new = folder / f"state-{step:07d}"
        partial = folder / f".{new.name}.{secrets.token_hex(8)}.partial"
        with clear_write_errors(new):
            try:
                make_own_folder(folder)
                partial.mkdir()
                _write(kept, partial, weights, optimizers)
                os.replace(partial, new)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
        for old in folder.glob("state-*"):
            if old != new:
                shutil.rmtree(old, ignore_errors=True)
    interruption.check()


def _write(kept: Kept, folder: Path, weights: Mapping[str, Tensor], optimizers: Sequence[object]) -> None:
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / _WEIGHTS, {"format": "pt"})
    for name, state in zip(_optimizer_files(kept), optimizers, strict=True):
        write_state(folder / name, state)
    for name, other in zip(_other_files(kept), kept.others, strict=True):
        write_state(folder / name, other.state_dict())
    if kept.accelerator.scaler is not None:
        write_state(folder / _SCALER, kept.accelerator.scaler.state_dict())


def _optimizer_files(kept: Kept) -> list[str]:
    return [f"optimizer_{k}.bin" if k else "optimizer.bin" for k in range(len(kept.optimizers))]


def _other_files(kept: Kept) -> list[str]:
    return [f"custom_checkpoint_{k}.pkl" for k in range(len(kept.others))]


def _tensors(change: Callable[[Tensor], Tensor], value: object) -> object:
    """The same with every tensor changed, however deep."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: _tensors(change, inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_tensors(change, inner) for inner in value)
    return value


def resume(kept: Kept, folder: Path) -> int:
    """Load the last whole state; returns the steps it has done. ImagecotError where that is damaged or another's."""
    if kept.accelerator.is_main_process:
        for partial in folder.glob(".state-*.partial"):  # of a process that was killed while it wrote
            shutil.rmtree(partial, ignore_errors=True)
    steps = [int(found[1]) for path in folder.glob("state-*") if (found := _NAME.fullmatch(path.name))]
    step = said_by_main(max(steps, default=0))
    if step:
        state = folder / f"state-{step:07d}"
        with refusing_damage(state, f"delete {state} to train from the start"):
            _load(kept, state)
    return step


def _load(kept: Kept, state: Path) -> None:
    """Load a state; errors as of `resume`, or ValueError where it is none of this training."""
    advice = f"delete {state} to train from the start"
    others = [state / name for name in _other_files(kept)]
    if not any(file.exists() for file in others):
        raise ImagecotError(f"{state} is of an earlier version; {FROM_START}.")
    check_regular(state / _WEIGHTS, advice=advice)
    with refusing_damage(state / _WEIGHTS, advice):
        weights = load_file(state / _WEIGHTS)
        _refuse_not_finite(weights)
    _load_weights(kept.weights, weights)
    for name, optimizer in zip(_optimizer_files(kept), kept.optimizers, strict=True):
        _load_optimizer(optimizer, read_state(state / name, advice))
    for file, other in zip(others, kept.others, strict=True):
        found = read_state(file, advice)
        with refusing_damage(file, advice):
            if not isinstance(found, Mapping):
                raise ValueError("it holds no names")
            other.load_state_dict(found)
    scaler = kept.accelerator.scaler
    if scaler is not None:
        found = read_state(state / _SCALER, advice)
        with refusing_damage(state / _SCALER, advice):
            scaler.load_state_dict(found)


@torch.no_grad()
def _load_weights(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Let what moves of a module have these values; ValueError where they are another's.

    States of earlier versions hold weights that stay as they are, too.
    """
    own, every = moving(module), module.state_dict().keys()
    if missing := [name for name in own if name not in weights]:
        raise ValueError(f"the weight {missing[0]} is missing")
    if foreign := [name for name in weights if name not in every]:
        raise ValueError(f"the model has no weight {foreign[0]}")
    for name, value in own.items():
        if value.shape != weights[name].shape:
            raise ValueError(f"the weight {name} has the shape {tuple(weights[name].shape)}")
        value.copy_(shared_like(weights[name], value))


def _load_optimizer(optimizer: torch.optim.Optimizer, state: object) -> None:
    """Let an optimizer go on with a whole state; ValueError where it is another's, which torch does not compare."""
    if not isinstance(state, dict):
        raise ValueError("the optimizer has no state")
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    own = {
        key: {name: _of(parameters[key], name, value) for name, value in values.items()}
        for key, values in state["state"].items()
    }
    optimizer.load_state_dict({**state, "state": own})


def _of(parameter: Tensor, name: str, value: object) -> object:
    """What an optimizer keeps of a parameter, as the parameter is: whole, or the own share of it."""
    if not isinstance(value, Tensor) or not value.ndim:
        return value
    if value.shape != parameter.shape:
        raise ValueError(f"{name} of the optimizer has the shape {tuple(value.shape)}")
    return shared_like(value, parameter)
