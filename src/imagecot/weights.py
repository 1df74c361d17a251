"""Reading and writing weights: named tensors in safetensors or torch form, all of them finite numbers."""

import json
import pickle
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType
from typing import TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from imagecot.checkpoint import AGAIN, few, find_weights, is_file
from imagecot.contracts.values import JSON
from imagecot.errors import ImagecotError, first_line
from imagecot.files import make_folder, write_atomically, write_whole
from imagecot.memory import is_out_of_memory
from imagecot.naming import printable

Model = TypeVar("Model", bound=nn.Module)


def load_state_dict(
    source: str | Path, device: torch.device | None = None, dtype: torch.dtype | None = None
) -> dict[str, Tensor]:
    """Load all tensors of a checkpoint folder (sharded or not) or of one weight file.

    They stay on the CPU and keep their type unless `device` or `dtype` (of floating-point tensors) is given. From
    safetensors they are read straight to the device.

    Torch files are read with `weights_only=True`: nothing in them is executed. ImagecotError where a file is
    missing, truncated, corrupt, or holds anything but tensors of finite numbers.
    """
    source = Path(source)
    if not source.exists():
        raise ImagecotError(f"{source} does not exist; pass a checkpoint folder or a weight file.")
    state: dict[str, Tensor] = {}
    for file in find_weights(source) if source.is_dir() else [source]:
        loaded = _load_file(file, device)
        read: dict[str, Tensor] = {}
        for name in [*loaded]:  # each is given up before the next is cast
            tensor = loaded.pop(name)
            read[name] = tensor.to(device, dtype if tensor.is_floating_point() else None)
        check_finite(read, file)
        state |= read
    return state


def _load_file(file: Path, device: torch.device | None) -> dict[str, Tensor]:
    if not is_file(file):
        raise ImagecotError(f"{file} is no regular file; pass a checkpoint folder or a weight file.")
    with _damage_told(file):
        state = load_file(file, str(device or "cpu")) if file.suffix == ".safetensors" else _load_torch(file)
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    return named_tensors(state, file)


def load_torch(file: Path, allowed: Sequence[type] = ()) -> object:
    """Return what a torch file holds, read with `weights_only=True`; its tensors are mapped where they can be.

    allowed  classes beside tensors and plain containers of which it may hold instances

    ImagecotError where the file is missing, truncated, corrupt, or holds anything else.
    """
    if not is_file(file):
        raise ImagecotError(f"{file} is no regular file; pass a checkpoint folder or a weight file.")
    with _damage_told(file), torch.serialization.safe_globals([*allowed]):
        return _load_torch(file, mmap=zipfile.is_zipfile(file))


def _load_torch(file: Path, *, mmap: bool = False) -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what torch takes for an archive of another kind
        return torch.load(file, map_location="cpu", weights_only=True, mmap=mmap)


@contextmanager
def _damage_told(file: Path) -> Iterator[None]:
    """Turn what libraries raise for a file that they cannot read into an ImagecotError."""
    try:
        yield
    except pickle.UnpicklingError as error:
        raise ImagecotError(
            f"{file} holds something other than tensors, or is corrupt, and was not loaded; use safetensors."
        ) from error
    except Exception as error:  # a damaged file makes these libraries raise nearly anything
        if is_out_of_memory(error):
            raise
        raise ImagecotError(f"{file} is truncated or corrupt ({printable(first_line(error))}); {AGAIN}.") from error


def named_tensors(state: object, file: Path) -> dict[str, Tensor]:
    """Return a state dict as it is; ImagecotError, naming its file, where it is none."""
    if not isinstance(state, dict) or not all(_is_plain(*entry) for entry in state.items()):
        raise ImagecotError(f"{file} is not a state dict of named tensors; pass the weights of a model.")
    return state


def _is_plain(name: object, value: object) -> bool:
    """Whether an entry of a state dict is a name with a dense tensor of real numbers."""
    return (
        isinstance(name, str)
        and isinstance(value, Tensor)
        and value.layout == torch.strided
        and not value.is_meta
        and not (value.is_quantized or value.is_complex())
    )


def check_finite(state: Mapping[str, Tensor], source: str | Path) -> None:
    """Raise ImagecotError, naming `source` and the tensors, where one holds a number that is not finite."""
    names = [name for name, tensor in state.items() if tensor.is_floating_point()]
    finite = torch.stack([_all_finite(state[name]) for name in names]).tolist() if names else []
    damaged = [name for name, sound in zip(names, finite, strict=True) if not sound]
    if damaged:
        raise ImagecotError(
            f"the weights in {source} are damaged: {len(damaged)} tensor(s) hold numbers that are not finite "
            f"({few(damaged)}); {AGAIN}."
        )


def _all_finite(tensor: Tensor) -> Tensor:
    wide = tensor if tensor.dtype.itemsize > 1 else tensor.to(torch.bfloat16)  # there is no test of 8-bit floats
    return torch.isfinite(wide).all()


class NoInitialWeights(TorchFunctionMode):
    """While it lasts, the functions of `torch.nn.init` leave tensors as they are.

    A model whose weights are read needs none before. On the meta device they would make torch load its compiler.
    """

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """Call a function of torch, or return its first argument where it would be given initial weights."""
        if isinstance(func, FunctionType) and func.__module__ == nn.init.__name__:
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def load_whole(
    make: Callable[[], Model], folder: str | Path, device: torch.device | None = None, dtype: torch.dtype | None = None
) -> Model:
    """Return the model that `make` makes, with the weights in a folder; device, dtype and errors as of the others here.

    Its tensors are made on the meta device: those that are no part of a checkpoint are still to be made.
    """
    with torch.device("meta"), NoInitialWeights():
        model = make()
    load_into(model, load_state_dict(folder, device, dtype), folder)
    return model.eval()


def load_into(model: nn.Module, state: dict[str, Tensor], source: str | Path) -> None:
    """Put `state` into `model` as its own tensors (a model on the meta device becomes a real one).

    ImagecotError, naming `source` and a few names, where keys are missing, unknown or of another shape.
    """
    problems = misfits(model.state_dict(), state)
    if problems:
        raise ImagecotError(f"{source} does not fit its config.json ({type(model).__name__}): it {problems}.")
    model.load_state_dict(state, assign=True)


def misfits(expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """Say what `state` lacks of the `expected` tensors, has beside them, or has in another form; empty if nothing."""
    shared = [name for name in expected if name in state]
    shapes = [
        f"{printable(name)} {tuple(state[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in shared
        if state[name].shape != expected[name].shape
    ]
    types = [
        f"{printable(name)} {state[name].dtype} instead of {expected[name].dtype}"
        for name in shared
        if state[name].is_floating_point() != expected[name].is_floating_point()
    ]
    kinds: list[tuple[str, Iterable[str]]] = [
        ("lacks", [name for name in expected if name not in state]),
        ("has the unknown", [name for name in state if name not in expected]),
        ("has the wrong shape for", shapes),
        ("has the wrong type for", types),
    ]
    found = [(what, list(names)) for what, names in kinds]
    return "; it ".join(f"{what} {len(names)} tensor(s): {few(names)}" for what, names in found if names)


def save_checkpoint(folder: str | Path, config: Mapping[str, JSON], state: Mapping[str, Tensor]) -> None:
    """Write `config.json` and `model.safetensors`, each under a temporary name that is then replaced."""
    folder = make_folder(Path(folder))
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    write_atomically(folder / "model.safetensors", lambda part: save_file(tensors, part, metadata={"format": "pt"}))
    write_whole(folder / "config.json", (json.dumps(config, indent=2) + "\n").encode("utf-8"))
