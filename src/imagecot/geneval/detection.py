"""GenEval's verdict on images by what a detector sees in them."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from imagecot import guard
from imagecot.contracts.detector import Detector
from imagecot.geneval.rules import Judgment, judge_detections

SEEN = 0.3  # the score from which GenEval takes a detection for an object


def judge(
    detector: Detector, images: Sequence[Tensor], metadata: Sequence[Mapping[str, Any]], **options: Any
) -> list[Judgment]:
    """GenEval's verdict on images (3, H, W) float in [0, 1], a requirement each; `options` as in `judge_detections`."""
    found = guard.detect(detector, images)
    return [judge_detections(m, d.boxes, d.colors, **options) for m, d in zip(metadata, found, strict=True)]
