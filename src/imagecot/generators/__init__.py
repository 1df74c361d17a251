"""Generators: models that draw an image from a prompt in steps."""

from pathlib import Path
from typing import TYPE_CHECKING

from imagecot import registry
from imagecot.precision import Device, Dtype

if TYPE_CHECKING:
    from imagecot.contracts.generator import Generator

__all__ = ["load_generator"]


def load_generator(name_or_path: str | Path, *, device: Device = None, dtype: Dtype = None) -> "Generator":
    """Load a generator by any of its names: a checkpoint folder, a shipped name, a hub id, `package.module:Class`.

    device  the GPU where there is one, else the CPU
    dtype   of its transformer, as a type or one of `imagecot.precision.PRECISIONS`; by default bfloat16 on a GPU,
            float32 on the CPU

    UsageError for a name that is nothing of these, a class that is no generator, or a device or type that is not there;
    ImagecotError where the checkpoint cannot be had or read.
    """
    return registry.load("generator", name_or_path, device=device, dtype=dtype)
