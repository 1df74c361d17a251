"""Images between the three forms they have here: tensors in [0, 1], 8-bit pictures, and the bytes of a PNG.

Whatever comes from outside goes through `open_picture`, so that one file is one picture everywhere.
"""

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from imagecot.errors import ImagecotError, first_line
from imagecot.reading import read_bytes

if TYPE_CHECKING:
    from torch import Tensor

MOST_PIXELS = 100_000_000
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF", "JPEG2000")  # none that starts a program
_DEEP = ("I;16", "I;16L", "I;16B", "I;16N", "I")


def open_picture(source: Path | bytes, where: str = "") -> Image.Image:
    """Read a picture as 8-bit RGB: turned as its EXIF says, 16-bit grey scaled down by 257, transparency left out.

    source  a file, or the bytes of one
    where   what a message calls it; the file itself where nothing is given

    ImagecotError where it is missing, damaged, of more than MOST_PIXELS pixels, or no picture of 8 or 16 bits.
    """
    where = where or (str(source) if isinstance(source, Path) else "a picture")
    data = read_bytes(source, advice="restore it or leave it out") if isinstance(source, Path) else source
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise ImagecotError(
                        f"{where} has {image.width} x {image.height} pixels, over {MOST_PIXELS:,}; make it smaller."
                    )
                image.load()
                return _to_rgb(ImageOps.exif_transpose(image), where)
    except ImagecotError:
        raise
    except Exception as error:  # each format's decoder raises what it likes for a damaged file
        raise ImagecotError(f"{where} is no readable picture ({first_line(error)}); restore it.") from None


def _to_rgb(image: Image.Image, where: str) -> Image.Image:
    if image.mode == "F":
        raise ImagecotError(f"{where} has floating-point pixels, whose range is not known; save it in 8 or 16 bits.")
    if image.mode not in _DEEP:
        return image.convert("RGB")
    levels = np.asarray(image).astype(np.int64)
    if levels.min(initial=0) < 0 or levels.max(initial=0) > 65535:
        raise ImagecotError(f"{where} has grey levels beyond 16 bits; save it in 8 or 16 bits.")
    return Image.fromarray(((levels + 128) // 257).astype(np.uint8)).convert("RGB")


def as_saved(images: "Tensor") -> "Tensor":
    """Return images (B, 3, H, W) in [0, 1] as a file holds them: each number is the nearest of 256 levels, float32.

    Images that were expanded from one stay so.
    """
    if len(images) > 1 and images.stride(0) == 0:
        return as_saved(images[:1]).expand(images.shape)
    return _levels(images) / 255


def _levels(images: "Tensor") -> "Tensor":
    return (images.float().clamp(0, 1) * 255).round()


def to_pictures(images: "Tensor") -> list[Image.Image]:
    """Return images (B, 3, H, W) in [0, 1] as 8-bit pictures."""
    import torch

    pixels = _levels(images).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(np.ascontiguousarray(picture)) for picture in pixels]


def from_picture(picture: Image.Image) -> "Tensor":
    """Return a picture as (3, H, W) float in [0, 1]."""
    import torch

    return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1).float() / 255


def from_png(data: bytes, where: str = "") -> "Tensor":
    """Return the bytes of a PNG, or of any other picture, as (3, H, W) float in [0, 1]; errors as of `open_picture`."""
    return from_picture(open_picture(data, where))


def png(image: "Tensor") -> bytes:
    """Return an image (3, H, W) in [0, 1] as the bytes of a PNG."""
    buffer = io.BytesIO()
    to_pictures(image[None])[0].save(buffer, "PNG")
    return buffer.getvalue()
