"""Images between the three forms they have here: tensors in [0, 1], 8-bit pictures, and the bytes of a PNG."""

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def to_pictures(images: Tensor) -> list[Image.Image]:
    """Return images (B, 3, H, W) in [0, 1] as 8-bit pictures."""
    pixels = (images.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(np.ascontiguousarray(picture)) for picture in pixels]


def from_picture(picture: Image.Image) -> Tensor:
    """Return a picture as (3, H, W) float in [0, 1]."""
    return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1).float() / 255


def from_png(data: bytes) -> Tensor:
    """Return the bytes of a PNG, or of any other picture, as (3, H, W) float in [0, 1]."""
    return from_picture(Image.open(io.BytesIO(data)))


def png(image: Tensor) -> bytes:
    """Return an image (3, H, W) in [0, 1] as the bytes of a PNG."""
    buffer = io.BytesIO()
    to_pictures(image[None])[0].save(buffer, "PNG")
    return buffer.getvalue()
