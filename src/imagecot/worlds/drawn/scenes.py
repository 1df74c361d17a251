"""Scenes of the drawn world: what is where, drawn from a GenEval requirement, and the picture of it.

A scene is laid out so that the picture is *right* for its requirement: the counts are exact, colours are
the named ones, and a relation holds by GenEval's own rule on the boxes of what was drawn.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate, product

import numpy as np
from PIL import Image, ImageDraw

from imagecot.contracts.metadata import Metadata
from imagecot.geneval.prompts import COLORS
from imagecot.geneval.rules import relations
from imagecot.worlds.drawn.sprites import RGB, SPRITES, mix, sprite

SIZE = 64
"""Side of a picture in pixels."""
_SUPER = 4
_SHADES = 3

Box = tuple[float, float, float, float]

KINDS: tuple[str, ...] = tuple(SPRITES)

PALETTE: dict[str, RGB] = {
    "red": (222, 48, 44),
    "orange": (247, 142, 30),
    "yellow": (251, 216, 44),
    "green": (54, 168, 70),
    "blue": (44, 106, 218),
    "purple": (134, 64, 182),
    "pink": (249, 138, 190),
    "brown": (130, 80, 42),
    "black": (40, 40, 46),
    "white": (251, 251, 251),
}
assert tuple(PALETTE) == COLORS

# Wall and floor: pale and low in saturation, so that every object colour, white included, stands out.
BACKGROUNDS: dict[str, tuple[RGB, RGB]] = {
    "sky": ((188, 214, 232), (170, 200, 158)),
    "sand": ((224, 212, 190), (204, 186, 156)),
    "stone": ((204, 208, 214), (178, 183, 192)),
    "mint": ((194, 222, 212), (166, 200, 190)),
    "lilac": ((212, 204, 226), (188, 178, 206)),
    "rose": ((228, 206, 204), (206, 180, 178)),
}


@dataclass(frozen=True)
class Item:
    """One object of a scene: centre and side of its unit box in pixels, shade in 0..2."""

    kind: str
    color: str
    x: float
    y: float
    side: float
    shade: int


@dataclass(frozen=True)
class Scene:
    """Items on a background; `boxes` are the tight boxes (x0, y0, x1, y1) of what is drawn, in pixels."""

    items: tuple[Item, ...]
    background: str

    @property
    def boxes(self) -> list[Box]:
        """The tight box of each item."""
        return [_box(item) for item in self.items]


def _shaded(color: str, shade: int) -> RGB:
    """The palette's colour, a little darker or lighter by shade."""
    t = (shade - (_SHADES - 1) / 2) / (_SHADES - 1)  # -0.5 .. 0.5
    target: RGB = (255, 255, 255) if t > 0 else (16, 16, 24)
    return mix(PALETTE[color], target, abs(t) * 0.24)


@lru_cache(maxsize=64)
def extent(kind: str) -> tuple[float, float]:
    """Width and height of what is drawn, as a share of the unit box."""
    w, h = sprite(kind, PALETTE["red"], 400).size
    return w / 400, h / 400


def _box(item: Item) -> Box:
    w, h = extent(item.kind)
    w, h = w * item.side / 2, h * item.side / 2
    return item.x - w, item.y - h, item.x + w, item.y + h


@lru_cache(maxsize=64)
def _ground(background: str) -> Image.Image:
    wall, floor = BACKGROUNDS[background]
    side = SIZE * _SUPER
    canvas = Image.new("RGB", (side, side), wall)
    ImageDraw.Draw(canvas).rectangle([0, side * 0.75, side, side], floor)
    return canvas


def draw(scene: Scene, scale: int = 1) -> Image.Image:
    """The picture of a scene, RGB, 64 × 64 pixels (or `scale` times that, for people)."""
    canvas = _ground(scene.background).copy()
    for item in scene.items:
        image = sprite(item.kind, _shaded(item.color, item.shade), round(item.side * _SUPER))
        corner = round(item.x * _SUPER - image.width / 2), round(item.y * _SUPER - image.height / 2)
        canvas.paste(image, corner, image)
    return canvas.reduce(_SUPER) if scale == 1 else canvas.resize((SIZE * scale,) * 2, Image.Resampling.LANCZOS)


def apart(items: Sequence[Item], gap: float = 0.5) -> bool:
    """Whether all of the items are in the picture and at least `gap` pixels from each other."""
    boxes = [_box(item) for item in items]
    for i, a in enumerate(boxes):
        if a[0] < 0 or a[1] < 0 or a[2] > SIZE or a[3] > SIZE:
            return False
        for b in boxes[:i]:
            if min(a[2], b[2]) - max(a[0], b[0]) > -gap and min(a[3], b[3]) - max(a[1], b[1]) > -gap:
                return False
    return True


def wanted(metadata: Metadata, rng: random.Random) -> list[tuple[str, str]]:
    """The (kind, colour) of each object that a requirement asks for; free colours are drawn.

    Objects of one kind in a counting scene share a colour two times out of three, as things in photos do.
    """
    objects: list[tuple[str, str]] = []
    for need in metadata.include:
        same = rng.random() < 2 / 3
        first = need.color or rng.choice(COLORS)
        for k in range(need.count):
            color = need.color or (first if same or k == 0 else rng.choice(COLORS))
            objects.append((need.name, color))
    return objects


SIDES: dict[int, tuple[int, ...]] = {1: (24, 32), 2: (24,), 3: (24,), 4: (24,)}
"""Sides of the objects' unit boxes in pixels, by the number of objects."""
_GRID = 8
"""Corners of unit boxes are multiples of this: one image token, so that a kind of a size looks the same in codes."""


def place(kind: str, color: str, side: float, rng: random.Random) -> Item:
    """An object anywhere on the grid, in any shade."""
    x, y = (_GRID * rng.randint(0, (SIZE - int(side)) // _GRID) + side / 2 for _ in range(2))
    return Item(kind, color, x, y, side, rng.randrange(_SHADES))


def grid_place(item: Item) -> Item:
    """The object at the place of the grid that is nearest to it."""
    last = (SIZE - int(item.side)) // _GRID
    x, y = (_GRID * min(max(round((v - item.side / 2) / _GRID), 0), last) + item.side / 2 for v in (item.x, item.y))
    return replace(item, x=x, y=y)


def fulfils_relation(items: Sequence[Item], relation: str) -> bool:
    """Whether the second item lies to the first as `relation` says, by GenEval's rule and in no other way."""
    target, subject = (np.array(_box(item), np.float32) for item in items)
    return relations(subject, target) == [relation]


def fulfils_relations(items: Sequence[Item], metadata: Metadata) -> bool:
    """Whether all items lie to each other as a requirement says, which asks for them in this order."""
    ends = list(accumulate(need.count for need in metadata.include))
    groups = [items[end - need.count : end] for end, need in zip(ends, metadata.include, strict=True)]
    return all(
        fulfils_relation((target, subject), need.relation)
        for need, group in zip(metadata.include, groups, strict=True)
        if need.relation
        for subject, target in product(group, groups[need.target])
    )


def compose(metadata: Metadata, rng: random.Random) -> Scene:
    """A random scene that fulfils a GenEval requirement (its `include` list), by rejection.

    Objects vary in side (24 or 32 px alone, 24 px together), place and shade, and do not touch.
    """
    objects = wanted(metadata, rng)
    background = rng.choice(list(BACKGROUNDS))
    for _ in range(5000):
        items = [place(kind, color, rng.choice(SIDES[len(objects)]), rng) for kind, color in objects]
        if not apart(items) or not fulfils_relations(items, metadata):
            continue
        order = list(items)
        rng.shuffle(order)
        return Scene(tuple(order), background)
    raise RuntimeError(f"no room for {len(objects)} objects")  # never seen in 10^5 scenes
