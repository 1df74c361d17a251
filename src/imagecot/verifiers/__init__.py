"""Verifiers: models that answer yes/no questions about images."""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from imagecot import registry
from imagecot.contracts.questions import CLARITY, ORM, POTENTIAL, PRM, REFLECTION, Question

if TYPE_CHECKING:
    import torch

    from imagecot.contracts.verifier import Conversation, Verifier
    from imagecot.verifiers.llava_onevision import LlavaOnevisionVerifier

__all__ = [
    "CLARITY",
    "ORM",
    "POTENTIAL",
    "PRM",
    "REFLECTION",
    "Conversation",
    "LlavaOnevisionVerifier",
    "Question",
    "Verifier",
    "load_verifier",
]
_HOMES = {
    "Conversation": "imagecot.contracts",
    "LlavaOnevisionVerifier": "imagecot.verifiers.llava_onevision",
    "Verifier": "imagecot.contracts",
}


def load_verifier(
    name_or_path: str | Path,
    *,
    device: "str | torch.device | None" = None,
    dtype: "torch.dtype | str | None" = None,
) -> "Verifier":
    """Load a verifier by any of its names: a checkpoint folder, a shipped name, a hub id, `package.module:Class`.

    A checkpoint is LLaVA-OneVision as transformers or LLaVA-NeXT write it, or another model of transformers.

    device  the GPU where there is one, else the CPU
    dtype   a type or one of `imagecot.precision.PRECISIONS`; by default bfloat16 on a GPU, float32 on the CPU

    UsageError for a name that is nothing of these, a class that is no verifier, or a device or type that is not there;
    ImagecotError where the checkpoint cannot be had or read, or cannot answer a question.
    """
    verifier: Verifier = registry.load("verifier", name_or_path, device=device, dtype=dtype)
    return verifier


def __getattr__(name: str) -> object:
    # Imported on demand: the command line starts without torch.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
