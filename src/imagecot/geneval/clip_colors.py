"""The colour of an object, asked of CLIP as GenEval does: ten colours, zero-shot, on the masked and cropped object.

The one difference from the reference, which ran under float16 autocast, is float32 throughout.
"""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from imagecot.checkpoint import find_weights, read_config
from imagecot.contracts.values import JSON
from imagecot.errors import ImagecotError, UsageError
from imagecot.foreign import foreign, load_model, load_tokenizer
from imagecot.geneval import published
from imagecot.geneval.clip import encoded_texts, image_vectors, text_vectors
from imagecot.geneval.prompts import COLORS
from imagecot.geneval.rules import Boxes
from imagecot.hub import CLIP, check_name, find
from imagecot.precision import as_device

if TYPE_CHECKING:
    from transformers import CLIPModel, PreTrainedModel, PreTrainedTokenizerBase

Model = TypeVar("Model", bound="PreTrainedModel")

TEMPLATES = ("a photo of a {color} {name}", "a photo of a {color}-colored {name}", "a photo of a {color} object")
BACKGROUND = 153  # the reference's #999
# openai/clip-vit-large-patch14, model.safetensors: the weights of open_clip's "ViT-L-14", "openai".
PUBLISHED_SHA256 = "a2bf730a0c7debf160f7a6b50b3aaf3703e7e88ac73de7a314903141db026dcb"
# Mean and standard deviation of CLIP's training images, channels in [0, 1].
_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_BATCH = 16
_STRIP = 1 << 22  # pixels of the largest intermediate image


class ClipColors:
    """Names colours with transformers' `CLIPModel` and its tokenizer; the benchmark's is ViT-L/14 by OpenAI."""

    def __init__(
        self,
        model: "CLIPModel",
        tokenizer: "PreTrainedTokenizerBase",
        *,
        name: str,
        weights: dict[str, str] | None = None,
    ) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer
        self.name, self._weights = name, weights or {}
        self._prototypes: dict[str, Tensor] = {}

    @property
    def official(self) -> bool:
        """Whether these are the weights that the benchmark asks."""
        return list(self._weights.values()) == [PUBLISHED_SHA256]

    @classmethod
    def from_pretrained(cls, folder_or_hub_id: str | Path, *, device: str | torch.device | None = None) -> Self:
        """Load a checkpoint such as openai/clip-vit-large-patch14; ImagecotError where it cannot be had or read."""
        from transformers import CLIPModel

        folder = find_folder(folder_or_hub_id, CLIP, published.CLIP)
        if read_config(folder).get("model_type") != "clip":
            raise UsageError(f"{folder} is not a CLIP checkpoint by its config.json; pass one of CLIP.")
        device = as_device(device)
        tokenizer = load_tokenizer(folder)
        model = nn.Module.to(load_complete(CLIPModel, folder), device)
        with foreign(f"{folder} cannot name a colour", "see that its files belong together"), torch.no_grad():
            tokens = tokenizer(["a cat", "a photo of a cat"], padding=True, return_tensors="pt").to(device)
            encoded_texts(model, tokens)
            image_vectors(model, torch.zeros(1, 3, 224, 224))
        return cls(model, tokenizer, name=Path(folder_or_hub_id).name, weights=file_hashes(find_weights(folder)))

    def record(self) -> dict[str, JSON]:
        """What the answers depend on: name, SHA-256 of the weights (empty if not from disk), dtype and texts."""
        dtype = str(self.model.dtype).removeprefix("torch.")
        return {"name": self.name, "weights": self._weights, "dtype": dtype, "templates": list(TEMPLATES)}

    def prototypes(self, name: str) -> Tensor:
        """Unit vectors (10, D) of the colours of an object called `name`, computed once for each name.

        Each is the mean of three normalised text features, normalised again. "a" stays "a" before a vowel,
        as in the reference.
        """
        if name not in self._prototypes:
            texts = [template.format(color=color, name=name) for color in COLORS for template in TEMPLATES]
            features = text_vectors(self.model, self.tokenizer, texts, self.name)
            features = features.view(len(COLORS), len(TEMPLATES), -1)
            self._prototypes[name] = F.normalize(features.mean(1), dim=-1)
        return self._prototypes[name]

    def classify(
        self, pixels: NDArray[np.uint8], masks: Sequence[NDArray[np.bool_]], boxes: Boxes, name: str
    ) -> list[str]:
        """Name the colour of objects called `name` in one image.

        pixels  (H, W, 3)
        masks   k of (H, W), true on the object
        boxes   (k, 4 or more), x1, y1, x2, y2 in pixels, x2 and y2 exclusive
        """
        prototypes, size = self.prototypes(name), self.model.config.vision_config.image_size
        crops = [masked_crop(pixels, mask, box) for mask, box in zip(masks, boxes, strict=True)]
        answers: list[int] = []
        for start in range(0, len(crops), _BATCH):
            batch = torch.stack([to_input(crop, size) for crop in crops[start : start + _BATCH]])
            answers += (image_vectors(self.model, batch) @ prototypes.T).argmax(1).tolist()
        return [COLORS[i] for i in answers]


def masked_crop(pixels: NDArray[np.uint8], mask: NDArray[np.bool_], box: NDArray[np.float32]) -> Image.Image:
    """The part of an image (H, W, 3) in a box x1, y1, x2, y2, grey outside the mask (H, W)."""
    x1, y1, x2, y2 = (round(float(v)) for v in box[:4])
    inside = np.s_[y1:y2, x1:x2]
    return Image.fromarray(np.where(mask[inside][..., None], pixels[inside], np.uint8(BACKGROUND)))


def to_input(image: Image.Image, size: int = 224) -> Tensor:
    """CLIP's input (3, size, size) of an RGB image, as open_clip's evaluation transform makes it."""
    values = torch.from_numpy(np.array(resized_middle(image, size))).permute(2, 0, 1).float().div(255)
    return (values - torch.tensor(_MEAN)[:, None, None]) / torch.tensor(_STD)[:, None, None]


def resized_middle(image: Image.Image, size: int) -> Image.Image:
    """Resize the shorter side to `size` (bicubic, antialiased) and cut out the middle (size, size).

    The whole resized image of a crop one pixel wide would have `size`² times its pixels, so only what the
    middle needs is made. Nothing changes by that: Pillow resizes along x, rounds to 8 bits, then resizes every
    column by itself.
    """
    width, height = image.size
    # Rounding as torchvision's Resize (down) and CenterCrop (half to even).
    wide, high = (size, int(size * height / width)) if width <= height else (int(size * width / height), size)
    left, top = round((wide - size) / 2), round((high - size) / 2)
    columns = image.resize((wide, height), Image.Resampling.BICUBIC).crop((left, 0, left + size, height))
    middle = Image.new("RGB", (size, size))
    step = max(1, _STRIP // high)
    for x in range(0, size, step):
        strip = columns.crop((x, 0, min(x + step, size), height))
        strip = strip.resize((strip.width, high), Image.Resampling.BICUBIC)
        middle.paste(strip.crop((0, top, strip.width, top + size)), (x, 0))
    return middle


def find_folder(source: str | Path, files: Sequence[str], example: str) -> Path:
    """The folder of a checkpoint given as such or as a hub id, of whose repository `files` are fetched."""
    found = find(check_name("checkpoint", source), files)
    if found is None:
        raise UsageError(f"there is no checkpoint {str(source)!r}; give a folder or a hub id such as {example}.")
    return found


def load_complete(model_class: "type[Model]", folder: Path) -> "Model":
    """Load a transformers model as float32; ImagecotError if weights are unreadable, missing or of another shape."""
    model, report = load_model(model_class, folder, torch.float32)
    # Neither is used to look at an image: the norm behind a backbone's last stage, and the weights of a loss.
    absent = [k for k in report.missing if "swin.layernorm." not in k and not k.startswith("criterion.")]
    absent += report.mismatched
    if absent:
        raise ImagecotError(
            f"the weights in {folder} do not fit its config.json: {len(absent)} tensor(s) are missing or have another "
            f"shape, such as {min(absent)}; copy or download them again."
        )
    assert isinstance(model, model_class)
    return model


def file_hashes(files: Iterable[Path]) -> dict[str, str]:
    """SHA-256 of files, by file name."""
    hashes = {}
    for file in files:
        with file.open("rb") as data:
            hashes[file.name] = hashlib.file_digest(data, "sha256").hexdigest()
    return hashes
