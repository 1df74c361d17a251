"""Verifiers: models that answer yes/no questions about images."""

from pathlib import Path
from typing import TYPE_CHECKING

from imagecot import registry
from imagecot.contracts.questions import CLARITY, ORM, POTENTIAL, PRM, REFLECTION, Question
from imagecot.lazily import attributes
from imagecot.precision import Device, Dtype

if TYPE_CHECKING:
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


def load_verifier(name_or_path: str | Path, *, device: Device = None, dtype: Dtype = None) -> "Verifier":
    """Load a verifier by any of its names: a checkpoint folder, a shipped name, a hub id, `package.module:Class`.

    A checkpoint is LLaVA-OneVision as transformers or LLaVA-NeXT write it, or another model of transformers.

    device  the GPU where there is one, else the CPU
    dtype   a type or one of `imagecot.precision.PRECISIONS`; by default bfloat16 on a GPU, float32 on the CPU

    UsageError for a name that is nothing of these, a class that is no verifier, or a device or type that is not there;
    ImagecotError where the checkpoint cannot be had or read, or cannot answer a question.
    """
    return registry.load("verifier", name_or_path, device=device, dtype=dtype)


# Imported on demand: the command line starts without torch.
__getattr__ = attributes(
    "imagecot",
    {
        "Conversation": "contracts.verifier",
        "LlavaOnevisionVerifier": "verifiers.llava_onevision",
        "Verifier": "contracts.verifier",
    },
)
