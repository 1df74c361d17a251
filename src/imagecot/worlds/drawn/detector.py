"""The object detectors of the drawn world: small networks that find centres (Zhou et al. 2019).

On a 16 x 16 grid they predict, per cell, the kind whose centre lies there, the box, and the colour; GenEval's rules
(`imagecot.geneval.rules`) do the rest. There are two, of different architecture and data, so that a gain that only one
of them sees is noticed; both are independent of the verifiers.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from imagecot import registry
from imagecot.checkpoint import AGAIN, CONFIG, find_weights
from imagecot.contracts.detector import Detections
from imagecot.contracts.metadata import Metadata
from imagecot.contracts.values import JSON
from imagecot.errors import ImagecotError, UsageError
from imagecot.geneval.detection import judge
from imagecot.geneval.prompts import COLORS
from imagecot.geneval.rules import Judgment, kept_indices
from imagecot.reading import Foreign, read_record
from imagecot.weights import load_into, load_state_dict, save_checkpoint
from imagecot.worlds.drawn.scenes import KINDS, SIZE

STRIDE = 4
GRID = SIZE // STRIDE
_FLOOR = 0.05  # detections below this score are not reported; the lowest threshold of the rules is 0.3
_SAME = 0.5  # boxes of one kind that overlap by half are one object (docs/experiments/detectors.md)
_AT_ONCE = 256

Trunk = Literal["convolutional", "transformer"]


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_conv(channels, channels), _conv(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class _Convolutional(nn.Module):
    """Features (B, width, 16, 16) from two scales."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fine = nn.Sequential(
            _conv(3, width // 2, 2), _conv(width // 2, width, 2), _Residual(width), _Residual(width)
        )
        self.coarse = nn.Sequential(_conv(width, 2 * width, 2), _Residual(2 * width), _Residual(2 * width))
        self.join = nn.Sequential(_conv(3 * width, width), _Residual(width))

    def forward(self, images: Tensor) -> Tensor:
        fine = self.fine(images)
        coarse = F.interpolate(self.coarse(fine), scale_factor=2.0, mode="nearest")
        joined: Tensor = self.join(torch.cat([fine, coarse], 1))
        return joined


class _Transformer(nn.Module):
    """Features (B, width, 16, 16) from patches of 8 x 8 pixels, each of which speaks for four cells."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner, side = 2 * width, GRID // 2
        self.patches = nn.Conv2d(3, inner, 2 * STRIDE, 2 * STRIDE)
        self.position = nn.Parameter(torch.randn(1, side * side, inner) * 0.02)
        layer = nn.TransformerEncoderLayer(
            inner, 4, 4 * inner, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, 4, norm=nn.LayerNorm(inner), enable_nested_tensor=False)
        self.cells = nn.Linear(inner, 4 * width)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.patches(images)
        states = self.cells(self.layers(patches.flatten(2).transpose(1, 2) + self.position))
        return F.pixel_shuffle(states.transpose(1, 2).unflatten(2, patches.shape[2:]), 2)


_TRUNKS: dict[str, type[nn.Module]] = {"convolutional": _Convolutional, "transformer": _Transformer}


class _Sizes(Foreign):
    """What config.json says of a detector."""

    model_type: Literal["pictogram-detector"]
    width: Annotated[int, Field(ge=8, le=1_024, multiple_of=4)]
    trunk: Trunk


class PictogramDetector(nn.Module):
    """Maps images (B, 3, 64, 64) in [0, 1] to logits and boxes on a 16 x 16 grid."""

    def __init__(self, width: int = 64, trunk: Trunk = "convolutional") -> None:
        super().__init__()
        self.width, self.trunk_name = width, trunk
        self.trunk = _TRUNKS[trunk](width)
        self.head = nn.Conv2d(width, len(KINDS) + 4 + len(COLORS), 1)
        self.weights: str | None = None

    @property
    def name(self) -> str:
        """What a score by this detector is called after."""
        return f"pictograms ({self.trunk_name})"

    @property
    def classes(self) -> tuple[str, ...]:
        """The kinds of the drawn world."""
        return KINDS

    def record(self) -> dict[str, JSON]:
        """All that the answers depend on: the weights' SHA-256, versions, type, size."""
        return {
            "detector": self.name,
            "weights": self.weights,
            "dtype": "float32",
            "image_size": SIZE,
            "floor": _FLOOR,
            "overlap": _SAME,
            "versions": {"torch": torch.__version__},
        }

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return kind logits (B, 12, 16, 16), boxes (B, 4, 16, 16) and colour logits (B, 10, 16, 16) per cell.

        A box is (dx, dy, w, h) in cells, its centre relative to the cell's corner.
        """
        out = self.head(self.trunk(images * 2 - 1))
        kinds, boxes, colors = out.split([len(KINDS), 4, len(COLORS)], 1)
        return kinds, torch.cat([boxes[:, :2].sigmoid(), boxes[:, 2:].exp()], 1), colors

    @torch.no_grad()
    def detect(self, images: Sequence[Tensor]) -> list[Detections]:
        """Find the objects of images (3, H, W) in [0, 1]: the peaks of the centre maps, boxes in pixels of the image.

        Of two boxes of one kind that overlap by half the surer is the object, the other one is left out. Images of
        other sizes than 64 x 64 are looked at in this one. ImagecotError for what is no image.
        """
        if any(image.ndim != 3 or len(image) != 3 or not image.numel() for image in images):
            raise ImagecotError("a detector looks at images (3, H, W); give it such.")
        found: list[Detections] = []
        for first in range(0, len(images), _AT_ONCE):
            part = images[first : first + _AT_ONCE]
            peaks = self._peaks(torch.stack([_fitted(image) for image in part]))
            found += [_scaled(one, image.shape) for one, image in zip(peaks, part, strict=True)]
        return found

    def _peaks(self, images: Tensor) -> list[Detections]:
        kinds, boxes, colors = self(images)
        scores, best = kinds.sigmoid().max(1)
        peak = scores == F.max_pool2d(scores, 3, 1, 1)
        rows: list[dict[str, list[list[float]]]] = [{} for _ in images]
        tints: list[dict[str, list[str]]] = [{} for _ in images]
        names = colors.argmax(1)
        for b, y, x in (peak & (scores > _FLOOR)).nonzero().tolist():
            dx, dy, w, h = boxes[b, :, y, x].tolist()
            cx, cy, w, h = (x + dx) * STRIDE, (y + dy) * STRIDE, w * STRIDE, h * STRIDE
            kind = KINDS[int(best[b, y, x])]
            row = [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2, float(scores[b, y, x])]
            rows[b].setdefault(kind, []).append(row)
            tints[b].setdefault(kind, []).append(COLORS[int(names[b, y, x])])
        return [_told_once(boxes, colors) for boxes, colors in zip(rows, tints, strict=True)]

    def judge(self, images: Tensor | Sequence[Tensor], metadata: Sequence[Metadata]) -> list[Judgment]:
        """GenEval's verdict on images (3, 64, 64) in [0, 1], one requirement each."""
        return judge(self, list(images), metadata)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `config.json` and `model.safetensors` into `folder`."""
        config: dict[str, JSON] = {"model_type": "pictogram-detector", "width": self.width, "trunk": self.trunk_name}
        save_checkpoint(folder, config, self.state_dict())

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Load a saved detector; ImagecotError where the weights do not fit."""
        folder = Path(folder)
        config = read_record(folder / CONFIG, _Sizes, advice=AGAIN)
        model = cls(config.width, config.trunk)
        load_into(model, load_state_dict(folder, None, torch.float32), folder)
        [weights] = find_weights(folder)
        model.weights = hashlib.sha256(weights.read_bytes()).hexdigest()
        return model.eval()


def _fitted(image: Tensor) -> Tensor:
    """An image (3, H, W) in the size that the detector was trained on."""
    if image.shape[1:] == (SIZE, SIZE):
        return image
    return F.adaptive_avg_pool2d(image[None].float(), SIZE)[0]


def _told_once(boxes: Mapping[str, list[list[float]]], colors: Mapping[str, list[str]]) -> Detections:
    """Detections without those of an object that is seen twice, the others in their order."""
    kept = {
        kind: sorted(kept_indices(np.array(rows, np.float32), threshold=0, max_objects=len(rows), max_overlap=_SAME))
        for kind, rows in boxes.items()
    }
    return Detections(
        {kind: [boxes[kind][k] for k in places] for kind, places in kept.items()},
        {kind: [colors[kind][k] for k in places] for kind, places in kept.items()},
    )


def _scaled(found: Detections, shape: torch.Size) -> Detections:
    """Detections with their boxes in pixels of an image (3, H, W)."""
    if tuple(shape[1:]) == (SIZE, SIZE):
        return found
    y, x = (size / SIZE for size in shape[1:])
    boxes = {
        kind: [[row[0] * x, row[1] * y, row[2] * x, row[3] * y, row[4]] for row in rows]
        for kind, rows in found.boxes.items()
    }
    return Detections(boxes, found.colors)


def load_detector(name: str = "pictograms") -> PictogramDetector:
    """A detector of the drawn world by its name; UsageError for another one."""
    detector = registry.load("detector", name)
    if not isinstance(detector, PictogramDetector):
        raise UsageError(f"{name} is no detector of the drawn world.")
    return detector
