"""Detectors by name: those of the drawn world, or a Mask2Former; and the prompts that their world tests by."""

import os
from typing import TYPE_CHECKING, Any

from imagecot.errors import UsageError

if TYPE_CHECKING:
    from imagecot.contracts.detector import Detector

CLIP = "openai/clip-vit-large-patch14"  # names colours beside a Mask2Former


def detectors(name: str, clip: str = CLIP) -> "tuple[Detector, Detector | None]":
    """The judge by its name, and the second judge of the drawn world."""
    from imagecot.worlds.drawn.detector import DETECTORS, load_detector

    check_detector(name, clip)
    if name in DETECTORS:
        return load_detector(name), load_detector(next(other for other in DETECTORS if other != name))
    from imagecot.geneval.clip_colors import ClipColors
    from imagecot.geneval.mask2former import Mask2FormerClip

    return Mask2FormerClip.from_pretrained(name, ClipColors.from_pretrained(clip)), None


def check_detector(name: str, clip: str = CLIP) -> None:
    """Raise UsageError, before anything is loaded, where a judge is neither a name, nor here, nor on a hub."""
    from imagecot.worlds.drawn.detector import DETECTORS

    if name in DETECTORS:
        return
    shipped = f"{', '.join(DETECTORS)}, a folder, mmdet's .pth"
    for what, given, choice in (("detector", name, shipped), ("CLIP", clip, f"a folder such as that of {CLIP}")):
        if not given.strip() or not (os.path.exists(given) or given.count("/") == 1):
            raise UsageError(f"there is no {what} {given[:200]!r}; choose one of {choice} or a hub id.")


def classes_of(detector: str) -> tuple[str, ...]:
    """The classes that a detector finds, without loading it."""
    from imagecot.geneval.prompts import OBJECT_NAMES
    from imagecot.worlds.drawn.detector import DETECTORS
    from imagecot.worlds.drawn.scenes import KINDS

    return KINDS if detector in DETECTORS else tuple(OBJECT_NAMES)


def benchmark_of(detector: str) -> list[dict[str, Any]]:
    """The prompts, as GenEval metadata, that the world of a detector is tested by."""
    from imagecot.geneval.prompts import load_benchmark_prompts
    from imagecot.worlds.drawn.captions import held_out_prompts
    from imagecot.worlds.drawn.detector import DETECTORS

    return held_out_prompts() if detector in DETECTORS else load_benchmark_prompts()


def held_out_of(detector: str) -> list[str]:
    """The texts of these prompts, which no training may see."""
    return [str(metadata["prompt"]) for metadata in benchmark_of(detector)]
