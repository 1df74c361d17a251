"""What paths showed on their way, as small pictures beside a trace: the steps that are shown, and all that was judged.

`previews.zip` holds a WebP for each, named `PATH-STEP.webp`: the index of the path in the trace, and the step. A run is
complete without it.
"""

import io
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imagecot.contracts.search import Candidate
from imagecot.errors import ImagecotError, said

if TYPE_CHECKING:
    from PIL import Image

PREVIEWS = "previews.zip"
MOST_PATHS = 64  # whose pictures are kept: those of `trace.shown`, then the first others
_LARGEST = 256  # side in pixels
_NAME = re.compile(r"(\d{1,6})-(\d{1,6})\.webp")
_MOST_FILES, _MOST_BYTES = 1 << 16, 1 << 22  # in all; of one picture
_MADE = (1980, 1, 1, 0, 0, 0)  # equal pictures are equal files

Key = tuple[int, int]  # index of the path, step


def pack(candidates: Sequence[Candidate], paths: Sequence[int], steps: int) -> bytes | None:
    """The file for these paths of a search, of `steps` steps; None where nothing was seen of them."""
    found: dict[Key, Image.Image] = {}
    for index in paths:
        one = candidates[index]
        found |= {(index, step): picture for step, picture in one.previews.items()}
        if one.image is not None:
            found[index, steps] = one.image
    if not found:
        return None
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for (index, step), picture in sorted(found.items()):
            file.writestr(zipfile.ZipInfo(f"{index}-{step}.webp", _MADE), small(picture))
    return buffer.getvalue()


def small(picture: "Image.Image", largest: int = _LARGEST) -> bytes:
    """A picture as WebP, no side longer than `largest` pixels."""
    picture = picture.convert("RGB")
    picture.thumbnail((largest, largest))
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=90, method=2)
    return buffer.getvalue()


def read(folder: Path) -> dict[Key, bytes]:
    """The pictures beside a trace; nothing where there are none, ImagecotError where the file is damaged."""
    path, advice = folder / PREVIEWS, "delete it, or draw the run again"
    if not path.exists():
        return {}
    try:
        with zipfile.ZipFile(path) as file:
            found: dict[Key, bytes] = {}
            for info in file.infolist()[:_MOST_FILES]:
                name = _NAME.fullmatch(info.filename)
                if name and info.file_size <= _MOST_BYTES:
                    found[int(name[1]), int(name[2])] = file.read(info)
            return found
    except OSError as error:
        raise ImagecotError(f"{path} cannot be read ({said(error)}); {advice}.") from None
    except Exception as error:  # of a damaged archive the library raises what it likes
        raise ImagecotError(f"{path} is damaged ({type(error).__name__}); {advice}.") from None
