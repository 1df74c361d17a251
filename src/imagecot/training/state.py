"""What a training keeps on disk to go on from: whole or not at all, and read back by one sentence where it is damaged.

A state is accelerate's: weights, optimizers, random states, and what was registered for checkpointing. Torch files are
read with `weights_only`: nothing in them is run. accelerate reads what was registered without that, and passes over a
random state that it cannot read, with which a resumed training is no longer the one that was interrupted, so all files
are looked at before it loads them.
"""

import logging
import os
import pickle
import random
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from imagecot import interruption
from imagecot.errors import ImagecotError, first_line
from imagecot.files import clear_write_errors, make_own_folder, write_atomically
from imagecot.memory import is_out_of_memory
from imagecot.reading import check_regular

if TYPE_CHECKING:
    from accelerate import Accelerator

FROM_START = "delete it to train from the start"
_NAME = re.compile(r"state-(\d{7,12})")


def seed_all(seed: int) -> None:
    """Let every source of randomness that a state keeps begin with the seed, so that states are equal, too."""
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


def save_state(accelerator: "Accelerator", folder: Path, step: int) -> None:
    """Keep optimizer, weights and random states; an older state goes only when the new one is whole."""
    from accelerate.utils import broadcast_object_list

    logging.getLogger("accelerate.utils.other").setLevel(logging.ERROR)  # it warns that tied weights are saved once
    new = folder / f"state-{step:07d}"
    [name] = broadcast_object_list([f".{new.name}.{secrets.token_hex(8)}.partial"])
    partial = folder / name
    with clear_write_errors(new):
        try:
            if accelerator.is_main_process:
                make_own_folder(folder)
                partial.mkdir()
            accelerator.wait_for_everyone()
            accelerator.save_state(str(partial), safe_serialization=True)
            accelerator.wait_for_everyone()
            if accelerator.is_main_process:
                os.replace(partial, new)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    if accelerator.is_main_process:
        for old in folder.glob("state-*"):
            if old != new:
                shutil.rmtree(old, ignore_errors=True)
    accelerator.wait_for_everyone()
    interruption.check()


def resume(accelerator: "Accelerator", folder: Path) -> int:
    """Load the last whole state; returns the steps it has done. ImagecotError where that is damaged or another's."""
    if accelerator.is_main_process:
        for partial in folder.glob(".state-*.partial"):  # of a process that was killed while it wrote
            shutil.rmtree(partial, ignore_errors=True)
    steps = {int(found[1]): path for path in folder.glob("state-*") if (found := _NAME.fullmatch(path.name))}
    if not steps:
        return 0
    step = max(steps)
    state = steps[step]
    randomness = state / f"random_states_{accelerator.process_index}.pkl"
    _check_random_states(randomness, state)
    advice = f"delete {state} to train from the start"
    for file in [*sorted(state.glob("*.bin")), *_registered(accelerator, state)]:
        read_state(file, advice)
    with refusing_damage(state, advice):
        accelerator.load_state(str(state))
        _check_loaded(accelerator)
    return step


def _registered(accelerator: "Accelerator", state: Path) -> list[Path]:
    """The files of what was registered for checkpointing; ImagecotError for a state of a version that kept less."""
    files = [state / f"custom_checkpoint_{k}.pkl" for k in range(len(accelerator._custom_objects))]
    if not any(file.exists() for file in files):
        raise ImagecotError(f"{state} is of an earlier version; delete it to train from the start.")
    return files


def _check_random_states(file: Path, state: Path) -> None:
    """Raise ImagecotError where a file of random states would be passed over by accelerate."""
    advice = f"delete {state} to train from the start"
    states = read_state(file, advice)
    with refusing_damage(file, advice):
        if not isinstance(states, Mapping):
            raise ValueError("it holds no random states")
        random.Random().setstate(states["random_state"])
        np.random.RandomState().set_state(states["numpy_random_seed"])
        torch.Generator().set_state(states["torch_manual_seed"])
        if torch.cuda.is_available():
            states["torch_cuda_manual_seed"][0]


def _check_loaded(accelerator: "Accelerator") -> None:
    """Raise ValueError where what was loaded is no state of this model, which accelerate does not look at."""
    for model in accelerator._models:
        for name, parameter in model.named_parameters():
            if not bool(torch.isfinite(parameter).all()):
                raise ValueError(f"the weight {name} is not finite")
    for optimizer in accelerator._optimizers:
        check_optimizer(optimizer)


def check_optimizer(optimizer: torch.optim.Optimizer) -> None:
    """Raise ValueError where what an optimizer has loaded does not fit its parameters, which torch does not compare."""
    for parameter, own in optimizer.state.items():
        for name, value in own.items():
            if isinstance(value, Tensor) and value.ndim and value.shape != parameter.shape:
                raise ValueError(f"{name} of the optimizer has the shape {tuple(value.shape)}")
