"""Figures of matplotlib: written as files, with other people's words as they are, as far as the font has them."""

import io
import textwrap
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from imagecot.files import write_whole
from imagecot.naming import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.ft2font import FT2Font

_NO_GLYPH = "□"
_LEVELS = 32  # of a colour; white stays white
_COLORS = 256


def save(figure: "Figure", file: Path, dpi: int) -> None:
    """Lay a finished figure out and write it as a PNG file; ImagecotError where that fails."""
    figure.tight_layout()
    write_whole(file, png(figure, dpi))


def png(figure: "Figure", dpi: int) -> bytes:
    """A finished figure as PNG."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=dpi, metadata={"Software": None})
    return stream.getvalue()


def packed(drawn: bytes) -> bytes:
    """A PNG of lines and areas in few colours: half the bytes, and no difference that is seen."""
    steps = [round(round(level * (_LEVELS - 1) / 255) * 255 / (_LEVELS - 1)) for level in range(256)]
    stream = io.BytesIO()
    with Image.open(io.BytesIO(drawn)) as picture:
        few = picture.convert("RGB").point(steps * 3).quantize(_COLORS, dither=Image.Dither.NONE)
    few.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def literal(text: str) -> str:
    """Return `text` for a figure: no dollar sign is a formula, and nothing is left that cannot be drawn.

    Control characters and lone surrogates are spelt out; what the font lacks becomes a box. Line feeds stay.
    """
    return _without_formulas(_drawable(text))


def wrapped(text: str, width: int, most: int) -> str:
    """Return `text` for a figure in at most `most` lines of `width` characters; an ellipsis ends what is cut off."""
    lines = textwrap.wrap(_drawable(text[: 2 * width * most]), width, max_lines=most, placeholder=" …")
    return _without_formulas("\n".join(lines))


def _without_formulas(text: str) -> str:
    # Last of all: a line must not end between the backslash and its dollar sign.
    return text.replace("$", r"\$")


def _drawable(text: str) -> str:
    spelt = printable(text.replace("\t", " "))
    return "".join(c if c == "\n" or _font().get_char_index(ord(c)) else _NO_GLYPH for c in spelt)


@cache
def _font() -> "FT2Font":
    from matplotlib import font_manager

    return font_manager.get_font(font_manager.findfont(font_manager.FontProperties()))
