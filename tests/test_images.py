"""One picture, whatever its file says about depth, mode and rotation; and sentences for everything else."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from imagecot.errors import ImagecotError
from imagecot.images import MOST_PIXELS, open_picture


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


LEVELS = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
GREY = Image.fromarray(LEVELS)
COLOR = Image.fromarray(np.stack([LEVELS, LEVELS.T.reshape(3, 4), 255 - LEVELS], 2))


def test_grey_of_16_bits_is_grey_of_8_bits():
    deep = Image.fromarray(LEVELS.astype(np.uint16) * 257)
    for form in ("PNG", "TIFF"):
        assert np.array_equal(np.asarray(open_picture(encoded(deep, form))), np.asarray(GREY.convert("RGB")))
    wide = Image.fromarray(LEVELS.astype(np.int32) * 257)
    assert np.array_equal(np.asarray(open_picture(encoded(wide, "TIFF"))), np.asarray(GREY.convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_its_exif_says(orientation):
    back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = COLOR.transpose(back[orientation]) if orientation in back else COLOR
    assert np.array_equal(np.asarray(open_picture(encoded(stored, exif=exif))), np.asarray(COLOR))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I;16"])
def test_every_mode_is_rgb(mode):
    form = {"CMYK": "TIFF", "LAB": "TIFF", "YCbCr": "JPEG", "HSV": "TIFF"}.get(mode, "PNG")
    image = COLOR.convert(mode) if mode not in ("LAB", "HSV", "I;16") else GREY.convert("L")
    opened = open_picture(encoded(image, form))
    assert (opened.mode, opened.size) == ("RGB", (4, 3))


def test_the_first_frame_stands_for_an_animation():
    data = encoded(COLOR, "GIF", save_all=True, append_images=[GREY.convert("RGB")])
    assert open_picture(data).size == (4, 3)


def header(width: int, height: int) -> bytes:
    """A PNG that promises so many pixels and holds none."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is no readable picture"),
        (b"text", "is no readable picture"),
        (encoded(COLOR)[:-40], "is no readable picture"),
        (header(50_000, 50_000), "is no readable picture"),
        (header(MOST_PIXELS // 10_000 + 1, 10_000), f"over {MOST_PIXELS:,}"),
        (header(0, 0), "is no readable picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is no readable picture"),
        (encoded(Image.fromarray(LEVELS.astype(np.float32)), "TIFF"), "floating-point"),
        (encoded(Image.fromarray(LEVELS.astype(np.int32) * 10**7), "TIFF"), "beyond 16 bits"),
    ],
)
def test_what_is_no_picture_is_one_sentence(data, words):
    with pytest.raises(ImagecotError, match=r"^the row's image ") as caught:
        open_picture(data, "the row's image")
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for path, words in (
        (tmp_path, "is a folder"),
        (tmp_path / "pipe.png", "no regular file"),
        (tmp_path / "x", "is missing"),
    ):
        with pytest.raises(ImagecotError, match=words):
            open_picture(path)


@given(st.integers(0, 200), st.binary(min_size=1, max_size=8))
def test_damage_is_a_picture_or_a_sentence(at, bytes_there):
    whole = encoded(COLOR)
    at %= len(whole)
    try:
        assert open_picture(whole[:at] + bytes_there + whole[at + len(bytes_there) :]).mode == "RGB"
    except ImagecotError as error:
        assert "\n" not in str(error)
