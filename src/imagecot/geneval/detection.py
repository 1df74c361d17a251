"""GenEval's verdict on images by what a detector sees in them."""

from collections.abc import Sequence

from torch import Tensor

from imagecot import guard
from imagecot.contracts.detector import Detector
from imagecot.contracts.metadata import Metadata
from imagecot.geneval.rules import THRESHOLD, Judgment, judge_detections

SEEN = 0.3  # the score from which GenEval takes a detection for an object


def judge(
    detector: Detector, images: Sequence[Tensor], metadata: Sequence[Metadata], *, threshold: float = THRESHOLD
) -> list[Judgment]:
    """GenEval's verdict on images (3, H, W) float in [0, 1], a requirement each; `threshold` as of the rules."""
    found = guard.detect(detector, images)
    seen = zip(metadata, found, strict=True)
    return [judge_detections(m, d.boxes, d.colors, threshold=threshold) for m, d in seen]
