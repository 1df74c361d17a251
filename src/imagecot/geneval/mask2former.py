"""GenEval's detector: Mask2Former Swin-S for objects, CLIP for their colours, mmdet's processing before and after.

transformers' own image processor gives other sizes, masks and scores, so none of it is used. The published
scores were made with mmdet's weights; those of facebook/mask2former-swin-small-coco-instance are of another
training and give a variant of the benchmark.
"""

import math
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import PIL
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from imagecot.checkpoint import few, find_weights, read_config
from imagecot.contracts.detector import Detections
from imagecot.contracts.devices import sent
from imagecot.contracts.values import JSON
from imagecot.errors import ImagecotError, UsageError
from imagecot.foreign import foreign
from imagecot.geneval import published
from imagecot.geneval.clip_colors import ClipColors, file_hashes, find_folder, load_complete
from imagecot.geneval.mmdet_weights import PUBLISHED_SHA256, load_mmdet
from imagecot.geneval.prompts import OBJECT_NAMES
from imagecot.geneval.rules import Boxes
from imagecot.hub import DETECTOR
from imagecot.memory import half_of_free
from imagecot.precision import as_device

LEAST = 0.3  # the lowest threshold of the benchmark: what is less sure than this can never count
SHORT, LONG, DIVISOR, PADDING = 800, 1333, 32, 128  # pixels; PADDING is a grey level
QUERIES = 100
# ImageNet's, RGB, in grey levels.
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
_UNKNOWN = 20  # labels that may be spelt in another way than the benchmark's
_CHUNK = 16  # masks at full size at once
_BYTES, _BYTES_PER_PIXEL = 1 << 31, 1300  # memory of a batch on the CPU; of a forward pass, measured in float32
_SIZES: dict[tuple[int, tuple[int, ...]], str] = {  # of Swin, by width and depths
    (96, (2, 2, 6, 2)): "t",
    (96, (2, 2, 18, 2)): "s",
    (128, (2, 2, 18, 2)): "b",
    (192, (2, 2, 18, 2)): "l",
}


class Mask2FormerClip:
    """A detector around transformers' `Mask2FormerForUniversalSegmentation` and `ClipColors`.

    What has a class probability of LEAST or less is not reported, so a judge's threshold must not be lower.
    """

    def __init__(
        self,
        model: transformers.Mask2FormerForUniversalSegmentation,
        clip: ClipColors,
        *,
        name: str,
        dtype: torch.dtype = torch.float32,
        weights: dict[str, str] | None = None,
        official: bool = False,
    ) -> None:
        config = model.config
        if config.num_labels != len(OBJECT_NAMES) or config.num_queries != QUERIES:
            raise ImagecotError(
                f"GenEval needs a detector of {len(OBJECT_NAMES)} classes and {QUERIES} queries, but {name} has "
                f"{config.num_labels} and {config.num_queries}; use one trained on COCO instances."
            )
        _check_classes({int(index): label for index, label in (config.id2label or {}).items()}, name)
        if dtype not in (torch.float32, torch.bfloat16):
            raise UsageError(f"the detector runs in float32 or bfloat16, not {dtype}.")
        self.model, self.clip, self.name, self.dtype = model.eval(), clip, name, dtype
        self._weights = weights or {}
        self.official = official and clip.official and dtype == torch.float32

    @property
    def classes(self) -> tuple[str, ...]:
        """The benchmark's 80 objects, by the index of the network's classes."""
        return OBJECT_NAMES

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        clip: ClipColors,
        *,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> Self:
        """Load a detector.

        source  mmdet's `.pth` (the benchmark's own), or a folder or hub id in the form of transformers
        device  the GPU where there is one, else the CPU
        dtype   of the network's products, float32 if not given; everything after the network is float32

        UsageError for a source that is nothing of these; ImagecotError where it cannot be had or read.
        """
        device = as_device(device)
        path, official = Path(source), False
        if path.suffix == ".pth":
            model, weights = load_mmdet(path), file_hashes([path])
            official = weights[path.name].startswith(PUBLISHED_SHA256)
            origin = "mmdet" if official else f"file {path.name}"
        else:
            folder = find_folder(source, DETECTOR, published.DETECTOR)
            if read_config(folder).get("model_type") != "mask2former":
                raise UsageError(f"{folder} is not a Mask2Former by its config.json; pass a detector.")
            model = load_complete(transformers.Mask2FormerForUniversalSegmentation, folder).eval()
            with foreign(f"{folder} cannot look at an image"), torch.no_grad():
                out = model(torch.zeros(1, 3, 64, 64))
                instances(out.class_queries_logits[0].float(), out.masks_queries_logits[0].float(), 64, 64)
            weights = file_hashes(find_weights(folder))
            origin = f"folder {path.resolve().name}" if path.is_dir() else str(source).split("/")[0]
        name = detector_name(model.config, origin)
        dtype = dtype or torch.float32
        return cls(nn.Module.to(model, device), clip, name=name, dtype=dtype, weights=weights, official=official)

    def record(self) -> dict[str, JSON]:
        """All that the answers depend on; `official` is true for the benchmark's own weights, both in float32."""
        return {
            "detector": self.name,
            "official": self.official,
            "weights": self._weights,
            "dtype": str(self.dtype).removeprefix("torch."),
            "image_size": f"short side {SHORT}, long side at most {LONG}, bilinear, padded to {DIVISOR}",
            "thresholds": {"class_probability": LEAST, "mask_logit": 0.0},
            "clip": self.clip.record(),
            "versions": {
                "torch": torch.__version__,
                "transformers": transformers.__version__,
                "pillow": PIL.__version__,
                "numpy": np.__version__,
                "python": platform.python_version(),
            },
        }

    @torch.no_grad()
    def detect(self, images: Sequence[Tensor]) -> list[Detections]:
        """Look at images (3, H, W) float in [0, 1], of any sizes; those of one padded size share a batch."""
        found: dict[int, Detections] = {}
        groups: dict[tuple[int, int], list[int]] = {}
        for i, image in enumerate(images):
            if image.ndim != 3 or image.shape[0] != 3 or not image.numel() or not image.is_floating_point():
                raise UsageError(
                    f"a detector takes images (3, H, W) in [0, 1], got {tuple(image.shape)} {image.dtype}."
                )
            groups.setdefault(sizes(*image.shape[1:])[1], []).append(i)
        for padded, members in groups.items():
            count = self._micro_batch(padded)
            for part in (members[k : k + count] for k in range(0, len(members), count)):
                levels = [(sent(images[i], self.model.device).float() * 255).round().clamp(0, 255) for i in part]
                # Autocast, not bfloat16 weights: the decoder's sampling points need more than eight bits.
                with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
                    out = self.model(torch.stack([prepare(image) for image in levels]))
                for i, image, logits, masks in zip(
                    part, levels, out.class_queries_logits.float(), out.masks_queries_logits.float(), strict=True
                ):
                    found[i] = self._detections(image, *instances(logits, masks, *image.shape[1:]))
        return [found[i] for i in range(len(images))]

    def _detections(self, image: Tensor, labels: Tensor, rows: Tensor, masks: Tensor) -> Detections:
        pixels = image.byte().permute(1, 2, 0).cpu().numpy()
        boxes: dict[str, list[list[float]]] = {}
        shapes: dict[str, list[NDArray[np.bool_]]] = {}
        for label, row, mask in zip(labels.tolist(), rows.tolist(), masks.numpy(), strict=True):
            # By index: a few label strings of a checkpoint differ from the benchmark's.
            boxes.setdefault(OBJECT_NAMES[label], []).append(row)
            shapes.setdefault(OBJECT_NAMES[label], []).append(mask)

        def colors(name: str, kept: Boxes, indices: list[int]) -> list[str]:
            return self.clip.classify(pixels, [shapes[name][i] for i in indices], kept, name)

        return Detections(boxes, colors)

    def _micro_batch(self, padded: tuple[int, int]) -> int:
        """How many images of a padded size (H, W) fit in memory at once."""
        device = self.model.device
        budget = half_of_free(device, _BYTES) if device.type == "cuda" else _BYTES
        return max(1, budget // (padded[0] * padded[1] * _BYTES_PER_PIXEL))


def _check_classes(labels: Mapping[int, str], name: str) -> None:
    """Raise ImagecotError where a detector by its own labels has other classes than COCO's, or in another order."""
    if all(re.fullmatch(r"LABEL_\d+", str(label)) for label in labels.values()):
        return  # it says nothing of its classes
    place = {known: i for i, known in enumerate(OBJECT_NAMES)}
    elsewhere = [f"{label} ({i})" for i, label in labels.items() if label in place and place[label] != i]
    unknown = [str(label) for label in labels.values() if label not in place]
    if elsewhere or len(unknown) > _UNKNOWN:
        raise ImagecotError(
            f"the classes of {name} (id2label in its config.json) are not COCO's in their order: "
            f"{few(elsewhere or unknown)}; use a detector trained on COCO instances."
        )


def detector_name(config: transformers.PreTrainedConfig, origin: str) -> str:
    """What a score is called after: the size of the network and whose weights they are."""
    swin = getattr(config, "backbone_config", None)
    size = getattr(swin, "embed_dim", 0), tuple(getattr(swin, "depths", ()))  # another backbone has none
    return f"mask2former-swin-{_SIZES.get(size, 'custom')} ({origin})"


def sizes(height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """An image's (H, W) for the network: resized, and then padded."""
    scale = min(LONG / max(height, width), SHORT / min(height, width))
    resized = int(height * scale + 0.5), int(width * scale + 0.5)
    return resized, (math.ceil(resized[0] / DIVISOR) * DIVISOR, math.ceil(resized[1] / DIVISOR) * DIVISOR)


def prepare(levels: Tensor) -> Tensor:
    """The network's input (3, H', W') from grey levels (3, H, W), whole numbers in 0 to 255 as float32."""
    (height, width), padded = sizes(*levels.shape[1:])
    # As OpenCV's linear resizing of 8-bit images: no antialiasing, rounded to whole levels.
    resized = F.interpolate(levels[None], (height, width), mode="bilinear", align_corners=False)[0].add(0.5).floor()
    image = F.pad(resized, (0, padded[1] - width, 0, padded[0] - height), value=PADDING)
    mean, std = (sent(torch.tensor(values), levels.device)[:, None, None] for values in (_MEAN, _STD))
    return (image - mean) / std


def instances(
    class_logits: Tensor, mask_logits: Tensor, height: int, width: int, least: float = LEAST
) -> tuple[Tensor, Tensor, Tensor]:
    """mmdet's instances of an image (H, W), from the most probable class on.

    class_logits  (100, 81) float32, the last is "no object"
    mask_logits   (100, h, w) float32, at a quarter of the padded size

    Returns labels (k,), rows x1, y1, x2, y2, score (k, 5) and masks (k, H, W), on the CPU, of those among the 100
    most probable pairs of query and class that are surer than `least`. The score is the probability times the
    mean of the mask's sigmoid inside it, so at most the probability: nothing above `least` is lost.
    """
    classes = class_logits.shape[1] - 1
    probabilities, index = class_logits.softmax(-1)[:, :-1].flatten().topk(QUERIES)
    count = int((probabilities > least).sum())  # they fall; this is all that the host waits for
    probabilities, index = probabilities[:count], index[:count]
    resized, padded = sizes(height, width)
    rows, masks = [mask_logits.new_zeros(0, 5)], [torch.zeros(0, height, width, dtype=torch.bool)]
    for start in range(0, len(index), _CHUNK):
        at = slice(start, start + _CHUNK)
        # Two steps with a cut between them: one step to the original size would give other masks.
        logits = F.interpolate(mask_logits[index[at] // classes][None], padded, mode="bilinear", align_corners=False)
        logits = logits[..., : resized[0], : resized[1]]
        logits = F.interpolate(logits, (height, width), mode="bilinear", align_corners=False)[0]
        inside = logits > 0
        quality = (logits.sigmoid() * inside).sum((1, 2)) / (inside.sum((1, 2)) + 1e-6)
        rows.append(torch.cat([mask_boxes(inside), (probabilities[at] * quality)[:, None]], 1))
        masks.append(inside.cpu())
    return (index % classes).cpu(), torch.cat(rows).cpu(), torch.cat(masks)


def mask_boxes(masks: Tensor) -> Tensor:
    """Boxes (k, 4) float32 around masks (k, H, W): x1, y1, x2, y2, x2 and y2 exclusive; zeros where empty."""

    def ends(hit: Tensor) -> tuple[Tensor, Tensor]:
        return hit.int().argmax(1), hit.shape[1] - hit.flip(1).int().argmax(1)  # argmax takes the first

    (x1, x2), (y1, y2) = ends(masks.any(1)), ends(masks.any(2))
    return torch.stack([x1, y1, x2, y2], 1).float() * masks.flatten(1).any(1)[:, None]
