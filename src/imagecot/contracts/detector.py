"""What GenEval asks of a detector: the boxes of every class, and the colour of an object when a rule needs it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from imagecot.geneval.rules import ColorClassifier, Judgment, judge_detections

SEEN = 0.3  # the score from which GenEval takes a detection for an object


@dataclass(frozen=True)
class Detections:
    """What is seen in one image.

    boxes   class -> raw detections [x1, y1, x2, y2, score] in pixels, x2 and y2 exclusive
    colors  class -> the colour of each of these, or a function that is asked for those that matter
    """

    boxes: Mapping[str, Sequence[Sequence[float]]]
    colors: Mapping[str, Sequence[str]] | ColorClassifier


class Detector(Protocol):
    """Finds objects and names their colours."""

    @property
    def name(self) -> str:
        """What a score by this detector is called after, such as `mask2former-swin-s (mmdet)`."""
        ...

    @property
    def classes(self) -> Collection[str]:
        """The classes that it can find."""
        ...

    def detect(self, images: Sequence[Tensor]) -> list[Detections]:
        """Look at images (3, H, W) float in [0, 1], of any sizes."""
        ...

    def record(self) -> dict[str, Any]:
        """All that its answers depend on, as JSON knows it: weights hash, library versions, dtype, sizes."""
        ...


def judge(
    detector: Detector, images: Sequence[Tensor], metadata: Sequence[Mapping[str, Any]], **options: Any
) -> list[Judgment]:
    """GenEval's verdict on images (3, H, W) float in [0, 1], a requirement each; `options` as in `judge_detections`."""
    found = detector.detect(images)
    return [judge_detections(m, d.boxes, d.colors, **options) for m, d in zip(metadata, found, strict=True)]
