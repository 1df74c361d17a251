"""Number formats of a model's weights: float32, bfloat16, or int8 in the linear layers of its transformer (CPU).

On a GPU torch's own choice stays: products of float32 matrices are in float32, convolutions of float32 in TF32, whose
numbers have ten bits. What must equal the numbers of a CPU is computed inside `in_full`.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar, get_args

from imagecot.errors import UsageError, first_line

if TYPE_CHECKING:
    import torch

Precision = Literal["float32", "bfloat16", "int8"]
PRECISIONS = get_args(Precision)
Layers = TypeVar("Layers", bound="torch.nn.Module")
Device: TypeAlias = "str | torch.device | None"
"""A device or its name; None for the GPU where there is one, else the CPU."""
Dtype: TypeAlias = "str | torch.dtype | None"
"""A type of weights or one of PRECISIONS; None leaves the choice to the loader."""


def check_precision(name: str | None) -> None:
    """Raise UsageError for a name that is none of PRECISIONS; None leaves the choice to the device."""
    if name is not None and not (isinstance(name, str) and name in PRECISIONS):
        raise UsageError(f"there is no precision {name!r}; choose one of {', '.join(PRECISIONS)}.")


def has_bfloat16() -> bool:
    """Whether bfloat16 pays here: on a GPU that has it, or on a processor that multiplies in it.

    Where a processor does not (no AVX-512), bfloat16 takes fifty times as long as float32. GPUs before Ampere emulate
    it.
    """
    import torch

    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if not torch.backends.mkldnn.is_available():
        return True
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def as_device(name: Device) -> "torch.device":
    """The device of a name, by default the GPU where there is one; UsageError for one that is not there."""
    import torch

    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type == "meta":
            raise UsageError("nothing is computed on the device meta; give cpu, cuda or another.")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError, ValueError, NotImplementedError) as error:
        raise UsageError(
            f"there is no device {str(name)!r} that torch can use here ({first_line(error).rstrip('.')}); give cpu, "
            "or leave it out."
        ) from error
    return device


def loaded_as(name: Dtype, device: "torch.device") -> "torch.dtype":
    """The type in which weights are read: where nothing is asked for, bfloat16 on a GPU that has it, else float32."""
    import torch

    if isinstance(name, torch.dtype):
        if name not in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
            raise UsageError(f"weights are not loaded as {name}; choose one of {', '.join(PRECISIONS)}.")
        return name
    check_precision(name)
    if name == "int8" and device.type != "cpu":
        raise UsageError(f"int8 runs on a CPU only, not on {device}; use bfloat16.")
    if name is None:
        return torch.bfloat16 if device.type == "cuda" and has_bfloat16() else torch.float32
    return torch.bfloat16 if name == "bfloat16" else torch.float32


@contextmanager
def in_full() -> Iterator[None]:
    """While it lasts, a GPU computes float32 in float32 throughout."""
    import torch

    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.allow_tf32, convolutions.allow_tf32
    products.allow_tf32 = convolutions.allow_tf32 = False
    try:
        yield
    finally:
        products.allow_tf32, convolutions.allow_tf32 = before


def quantize(layers: "Layers") -> "Layers":
    """The layers with int8 weights in their linear maps; activations are quantized as they come (dynamic)."""
    import torch
    from torch.ao.quantization import quantize_dynamic

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces a successor, torchao, whose CPU kernels need a compiler
        found: Layers = quantize_dynamic(layers, {torch.nn.Linear}, dtype=torch.qint8)
    return found
