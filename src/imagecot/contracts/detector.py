"""What a benchmark asks of a detector: the boxes of every class, and the colour of an object where a rule needs it."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

ColorClassifier = Callable[[str, NDArray[np.float32], list[int]], Sequence[str]]
"""(class, boxes (k, 5) that count, their k indices among the raw detections) -> k names of colours."""


@dataclass(frozen=True)
class Detections:
    """What is seen in one image.

    boxes   class -> raw detections [x1, y1, x2, y2, score] in pixels, x2 and y2 exclusive
    colors  class -> the colour of each of these, or a function that is asked for those that matter
    """

    boxes: Mapping[str, Sequence[Sequence[float]]]
    colors: Mapping[str, Sequence[str]] | ColorClassifier


@runtime_checkable
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

    def record(self) -> Mapping[str, object]:
        """All that its answers depend on, as JSON knows it: weights hash, library versions, dtype, sizes."""
        ...
