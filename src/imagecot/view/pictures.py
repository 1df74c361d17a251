"""The pictures of a page: files of its own, so that it can be copied anywhere; of small ones many in a file."""

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from imagecot.errors import ImagecotError
from imagecot.files import make_folder
from imagecot.images import open_picture
from imagecot.strategies.previews import small

FOLDER = "pictures"
MOST_FILES = 20_000
_LARGEST = 768  # side in pixels of a picture that has to be made smaller
_TILE = 160  # side of a picture of many
_AS_IT_IS = 1 << 19  # bytes up to which a file is taken as it is
_KNOWN = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}


class Pictures:
    """Those under way to the folder of a page; a reference is a name in it, with `#TILE/COLUMNS/ROWS` for one of many.

    left_out  how many were not taken, because there were MOST_FILES or nobody could read them
    """

    def __init__(self, page: Path) -> None:
        self._folder = make_folder(page / FOLDER)
        self._page, self._count, self.left_out = page, 0, 0
        self._known: dict[object, str | None] = {}

    def file(self, file: Path) -> str | None:
        """Take a picture file; None where it is missing or damaged. The same file is taken once."""
        key = file.absolute()
        if key not in self._known:
            try:
                self._known[key] = self.data(file.read_bytes())
            except (OSError, ValueError):
                self._known[key] = self._refused()
        return self._known[key]

    def data(self, data: bytes) -> str | None:
        """Take the bytes of a picture; None where they are none."""
        try:
            kind = _KNOWN.get(_format(data)) if len(data) <= _AS_IT_IS else None
            if kind is None:
                data, kind = small(open_picture(data), _LARGEST), "webp"
        except ImagecotError:
            return self._refused()
        return self._keep(data, kind)

    def picture(self, picture: Image.Image) -> str | None:
        """Take a picture in memory."""
        return self._keep(small(picture, _LARGEST), "webp")

    def many(self, pictures: Sequence[Image.Image]) -> list[str | None]:
        """Take pictures of one size as one file."""
        if not pictures:
            return []
        tiles = [picture.convert("RGB") for picture in pictures]
        for tile in tiles:
            tile.thumbnail((_TILE, _TILE))
        columns = min(len(tiles), 8)
        rows = -(-len(tiles) // columns)
        width, height = tiles[0].size
        sheet = Image.new("RGB", (columns * width, rows * height))
        for k, tile in enumerate(tiles):
            sheet.paste(tile, (k % columns * width, k // columns * height))
        name = self._keep(small(sheet, max(sheet.size)), "webp")
        return [name and f"{name}#{k}/{columns}/{rows}" for k in range(len(tiles))]

    def _keep(self, data: bytes, kind: str) -> str | None:
        if self._count >= MOST_FILES:
            return self._refused()
        name = f"{FOLDER}/{self._count:05d}.{kind}"
        (self._page / name).write_bytes(data)
        self._count += 1
        return name

    def _refused(self) -> str | None:
        self.left_out += 1
        return None


def _format(data: bytes) -> str:
    """The format that the bytes of a picture say, without decoding them; ImagecotError where they are none."""
    try:
        with Image.open(io.BytesIO(data), formats=tuple(_KNOWN)) as image:
            return image.format or ""
    except Exception:
        open_picture(data)  # another format, or damaged: then it says so
        return ""
