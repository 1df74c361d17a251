"""Detectors that are checkpoints: how the registry loads them."""

from typing import TYPE_CHECKING

from imagecot.families import Checkpoint

if TYPE_CHECKING:
    import torch

    from imagecot.geneval.mask2former import Mask2FormerClip
    from imagecot.worlds.drawn.detector import PictogramDetector


def load_pictograms(
    checkpoint: Checkpoint, device: "str | torch.device | None", dtype: "torch.dtype | str | None"
) -> "PictogramDetector":
    """Load a detector of the drawn world; it is small, and stays on the CPU in float32."""
    from imagecot.worlds.drawn.detector import PictogramDetector

    return PictogramDetector.from_pretrained(checkpoint.parts[-1])


def load_mask2former(
    checkpoint: Checkpoint, device: "str | torch.device | None", dtype: "torch.dtype | str | None"
) -> "Mask2FormerClip":
    """Load a Mask2Former with the CLIP that names colours in the benchmark."""
    from imagecot.geneval.clip_colors import ClipColors
    from imagecot.geneval.mask2former import Mask2FormerClip
    from imagecot.geneval.published import CLIP
    from imagecot.precision import as_device, loaded_as

    clip = ClipColors.from_pretrained(CLIP, device=device)
    number_format = None if dtype is None else loaded_as(dtype, as_device(device))
    return Mask2FormerClip.from_pretrained(checkpoint.name, clip, device=device, dtype=number_format)
