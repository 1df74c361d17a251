"""The object detector of the drawn world: a small convolutional network that finds centres (Zhou et al. 2019).

It is independent of the verifiers in architecture and data seed. On a 16 x 16 grid it predicts, per cell, the
kind whose centre lies there, the box, and the colour; GenEval's rules (`imagecot.geneval.rules`) do the rest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imagecot.geneval.prompts import COLORS
from imagecot.geneval.rules import Judgment, judge_detections
from imagecot.pictograms.scenes import KINDS, SIZE
from imagecot.weights import load_into, load_state_dict, save_checkpoint

STRIDE = 4
GRID = SIZE // STRIDE
_FLOOR = 0.05  # detections below this score are not reported; the lowest threshold of the rules is 0.3


@dataclass(frozen=True)
class Detections:
    """What is seen in one image: per kind the raw boxes [x0, y0, x1, y1, score], and the colour of each."""

    boxes: dict[str, list[list[float]]]
    colors: dict[str, list[str]]


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


class PictogramDetector(nn.Module):
    """Maps images (B, 3, 64, 64) in [0, 1] to logits and boxes on a 16 x 16 grid."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.width = width
        self.fine = nn.Sequential(
            _conv(3, width // 2, 2), _conv(width // 2, width, 2), _Residual(width), _Residual(width)
        )
        self.coarse = nn.Sequential(_conv(width, 2 * width, 2), _Residual(2 * width), _Residual(2 * width))
        self.join = nn.Sequential(_conv(3 * width, width), _Residual(width))
        self.head = nn.Conv2d(width, len(KINDS) + 4 + len(COLORS), 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return kind logits (B, 12, 16, 16), boxes (B, 4, 16, 16) and colour logits (B, 10, 16, 16) per cell.

        A box is (dx, dy, w, h) in cells, its centre relative to the cell's corner.
        """
        fine = self.fine(images * 2 - 1)
        coarse = F.interpolate(self.coarse(fine), scale_factor=2.0, mode="nearest")
        out = self.head(self.join(torch.cat([fine, coarse], 1)))
        kinds, boxes, colors = out.split([len(KINDS), 4, len(COLORS)], 1)
        return kinds, torch.cat([boxes[:, :2].sigmoid(), boxes[:, 2:].exp()], 1), colors

    @torch.no_grad()
    def detect(self, images: Tensor) -> list[Detections]:
        """Find the objects of images (B, 3, 64, 64) in [0, 1]: the peaks of the centre maps, at most 100 an image."""
        kinds, boxes, colors = self(images)
        scores, best = kinds.sigmoid().max(1)
        peak = scores == F.max_pool2d(scores, 3, 1, 1)
        found = [Detections({}, {}) for _ in images]
        names = colors.argmax(1)
        for b, y, x in (peak & (scores > _FLOOR)).nonzero().tolist():
            dx, dy, w, h = boxes[b, :, y, x].tolist()
            cx, cy, w, h = (x + dx) * STRIDE, (y + dy) * STRIDE, w * STRIDE, h * STRIDE
            kind = KINDS[int(best[b, y, x])]
            row = [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2, float(scores[b, y, x])]
            found[b].boxes.setdefault(kind, []).append(row)
            found[b].colors.setdefault(kind, []).append(COLORS[int(names[b, y, x])])
        return found

    def judge(self, images: Tensor, metadata: Sequence[dict[str, Any]]) -> list[Judgment]:
        """GenEval's verdict on images (B, 3, 64, 64) in [0, 1], one requirement each."""
        detections = self.detect(images)
        return [judge_detections(m, d.boxes, d.colors) for m, d in zip(metadata, detections, strict=True)]

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `config.json` and `model.safetensors` into `folder`."""
        config = {"model_type": "pictogram-detector", "width": self.width}
        save_checkpoint(folder, config, self.state_dict())

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Load a saved detector; ImagecotError where the weights do not fit."""
        from imagecot.weights import read_config

        model = cls(int(read_config(Path(folder))["width"]))
        load_into(model, load_state_dict(folder, None, torch.float32), folder)
        return model.eval()


def load_detector() -> PictogramDetector:
    """The shipped detector."""
    return PictogramDetector.from_pretrained(Path(__file__).parent.parent / "checkpoints" / "tiny-detector")
