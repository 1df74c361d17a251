"""The objects of the drawn world: one small function a kind, in a unit box, drawn with a supersampled pen.

Every kind has one main colour (the colour that a prompt names) and fixed details in neutral tones, so that
a colour word says all there is to say about an object's colour.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageDraw

RGB = tuple[int, int, int]
Point = tuple[float, float]

INK: RGB = (44, 44, 54)
PAPER: RGB = (250, 248, 242)
METAL: RGB = (148, 154, 166)
GLASS: RGB = (196, 226, 240)
LEAF: RGB = (88, 158, 76)
STEM: RGB = (98, 70, 48)


def mix(a: RGB, b: RGB, t: float) -> RGB:
    """Linear blend of two colours: `a` at t = 0, `b` at t = 1."""
    return tuple(round(x + (y - x) * t) for x, y in zip(a, b, strict=True))  # type: ignore[return-value]


@dataclass(frozen=True)
class Pen:
    """Draws in unit coordinates on a square image of `side` pixels; `main` is the object's colour."""

    draw: ImageDraw.ImageDraw
    side: int
    main: RGB

    @property
    def dark(self) -> RGB:
        """The outline: the main colour in shade, grey for white objects."""
        return mix(self.main, (20, 20, 34), 0.48)

    @property
    def light(self) -> RGB:
        """The highlight."""
        return mix(self.main, (255, 255, 255), 0.42)

    def _width(self, width: float) -> int:
        return max(1, round(width * self.side))

    def ellipse(self, box: Sequence[float], fill: RGB | None, line: RGB | None = None, width: float = 0.045) -> None:
        """An ellipse in the box (x0, y0, x1, y1)."""
        self.draw.ellipse([v * self.side for v in box], fill, line, self._width(width) if line else 0)

    def rect(
        self,
        box: Sequence[float],
        fill: RGB,
        line: RGB | None = None,
        round_: float = 0.0,
        width: float = 0.045,
    ) -> None:
        """A rectangle with corners rounded by `round_`."""
        self.draw.rounded_rectangle(
            [v * self.side for v in box], round_ * self.side, fill, line, self._width(width) if line else 0
        )

    def poly(self, points: Sequence[Point], fill: RGB, line: RGB | None = None, width: float = 0.045) -> None:
        """A polygon, its outline with round joints."""
        scaled = [(x * self.side, y * self.side) for x, y in points]
        self.draw.polygon(scaled, fill)
        if line:
            self.stroke([*points, points[0], points[1]], line, width)

    def stroke(self, points: Sequence[Point], colour: RGB, width: float) -> None:
        """A polyline with round joints and ends."""
        scaled = [(x * self.side, y * self.side) for x, y in points]
        self.draw.line(scaled, colour, self._width(width), joint="curve")
        r = width * self.side / 2
        for x, y in (scaled[0], scaled[-1]):
            self.draw.ellipse([x - r, y - r, x + r, y + r], colour)


def bezier(*points: Point, n: int = 14) -> list[Point]:
    """Points on the Bezier curve with these control points."""
    d = len(points) - 1
    weights = [math.comb(d, k) for k in range(d + 1)]
    curve = []
    for i in range(n + 1):
        t = i / n
        b = [w * t**k * (1 - t) ** (d - k) for k, w in enumerate(weights)]
        curve.append(
            (
                sum(c * p[0] for c, p in zip(b, points, strict=True)),
                sum(c * p[1] for c, p in zip(b, points, strict=True)),
            )
        )
    return curve


def _apple(p: Pen) -> None:
    right = bezier((0.5, 0.27), (0.72, 0.12), (1.0, 0.24), (0.96, 0.56)) + bezier(
        (0.96, 0.56), (0.9, 0.86), (0.72, 1.04), (0.5, 0.94)
    )
    left = [(1 - x, y) for x, y in reversed(right)]
    p.poly(right + left, p.main, p.dark)
    p.poly(bezier((0.2, 0.62), (0.12, 0.42), (0.24, 0.32), (0.36, 0.36), (0.22, 0.42), (0.2, 0.62)), p.light)
    p.stroke(bezier((0.5, 0.3), (0.5, 0.16), (0.56, 0.06)), STEM, 0.07)
    p.poly(bezier((0.54, 0.2), (0.62, 0.0), (0.84, 0.02)) + bezier((0.84, 0.02), (0.78, 0.22), (0.54, 0.2)), LEAF)


def _banana(p: Pen) -> None:
    outer = bezier((0.88, 0.1), (1.06, 0.62), (0.66, 0.98), (0.06, 0.82))
    inner = bezier((0.04, 0.7), (0.42, 0.76), (0.68, 0.56), (0.74, 0.14))
    p.poly(outer + inner, p.main, p.dark)
    p.stroke(bezier((0.3, 0.76), (0.68, 0.74), (0.8, 0.46), n=10), p.light, 0.06)
    p.stroke([(0.81, 0.13), (0.8, 0.04)], STEM, 0.12)
    p.stroke([(0.06, 0.77), (0.05, 0.75)], INK, 0.1)


def _bird(p: Pen) -> None:
    p.stroke([(0.46, 0.78), (0.46, 0.95)], INK, 0.055)
    p.stroke([(0.58, 0.78), (0.58, 0.95)], INK, 0.055)
    p.poly([(0.24, 0.52), (0.02, 0.34), (0.06, 0.62), (0.26, 0.7)], p.main, p.dark)
    p.poly([(0.86, 0.2), (1.0, 0.29), (0.86, 0.36)], (240, 160, 50))
    p.ellipse((0.18, 0.34, 0.82, 0.86), p.main, p.dark)
    p.ellipse((0.54, 0.06, 0.92, 0.46), p.main, p.dark)
    p.poly([(0.58, 0.4), (0.62, 0.3), (0.78, 0.42), (0.74, 0.56), (0.6, 0.54)], p.main)
    p.poly(
        bezier((0.26, 0.52), (0.44, 0.42), (0.64, 0.56)) + bezier((0.64, 0.56), (0.5, 0.8), (0.26, 0.52)),
        p.light,
        p.dark,
        0.03,
    )
    p.ellipse((0.7, 0.15, 0.81, 0.26), PAPER)
    p.ellipse((0.74, 0.18, 0.8, 0.24), INK)


def _boat(p: Pen) -> None:
    p.stroke([(0.5, 0.05), (0.5, 0.66)], STEM, 0.06)
    p.poly([(0.56, 0.07), (0.94, 0.56), (0.56, 0.56)], PAPER, METAL, 0.03)
    p.poly([(0.44, 0.16), (0.44, 0.56), (0.12, 0.56)], PAPER, METAL, 0.03)
    p.poly([(0.02, 0.66), (0.98, 0.66), (0.8, 0.95), (0.2, 0.95)], p.main, p.dark)
    p.stroke([(0.14, 0.75), (0.86, 0.75)], p.light, 0.05)


def _book(p: Pen) -> None:
    p.rect((0.1, 0.06, 0.92, 0.96), p.main, p.dark, 0.06)
    p.rect((0.18, 0.84, 0.9, 0.93), PAPER)
    p.rect((0.1, 0.06, 0.24, 0.96), p.dark, p.dark, 0.05)
    p.rect((0.36, 0.2, 0.8, 0.44), PAPER, None, 0.03)
    p.stroke([(0.44, 0.28), (0.72, 0.28)], METAL, 0.04)
    p.stroke([(0.44, 0.37), (0.64, 0.37)], METAL, 0.04)


def _bottle(p: Pen) -> None:
    body = [(0.4, 0.12), (0.4, 0.3), *bezier((0.4, 0.3), (0.24, 0.4), (0.24, 0.5), n=6), (0.24, 0.92)]
    body += bezier((0.24, 0.92), (0.24, 0.98), (0.3, 0.98), n=4)
    p.poly(body + [(1 - x, y) for x, y in reversed(body)], p.main, p.dark)
    p.rect((0.36, 0.02, 0.64, 0.13), INK, None, 0.03)
    p.rect((0.26, 0.56, 0.74, 0.8), PAPER)
    p.stroke([(0.34, 0.68), (0.66, 0.68)], METAL, 0.05)
    p.stroke([(0.33, 0.44), (0.33, 0.5)], p.light, 0.06)


def _car(p: Pen) -> None:
    p.poly([(0.22, 0.5), (0.34, 0.22), (0.68, 0.22), (0.84, 0.5)], p.main, p.dark)
    p.poly([(0.33, 0.48), (0.4, 0.3), (0.5, 0.3), (0.5, 0.48)], GLASS)
    p.poly([(0.56, 0.48), (0.56, 0.3), (0.64, 0.3), (0.73, 0.48)], GLASS)
    p.rect((0.02, 0.46, 0.98, 0.74), p.main, p.dark, 0.1)
    p.ellipse((0.87, 0.52, 0.96, 0.61), (255, 240, 170))
    for x in (0.14, 0.6):
        p.ellipse((x, 0.58, x + 0.27, 0.85), INK)
        p.ellipse((x + 0.08, 0.66, x + 0.19, 0.77), METAL)


def _chair(p: Pen) -> None:
    for x in (0.2, 0.76):
        p.stroke([(x, 0.6), (x, 0.96)], p.dark, 0.085)
    p.rect((0.14, 0.03, 0.82, 0.52), p.main, p.dark, 0.08)
    for x in (0.34, 0.48, 0.62):
        p.stroke([(x, 0.14), (x, 0.4)], p.dark, 0.05)
    p.rect((0.08, 0.52, 0.9, 0.7), p.main, p.dark, 0.06)
    p.stroke([(0.18, 0.58), (0.78, 0.58)], p.light, 0.04)


def _clock(p: Pen) -> None:
    p.ellipse((0.03, 0.03, 0.97, 0.97), p.main, p.dark)
    p.ellipse((0.19, 0.19, 0.81, 0.81), PAPER, p.dark, 0.03)
    for k in range(4):
        a = k * math.pi / 2
        x, y = 0.5 + 0.25 * math.cos(a), 0.5 + 0.25 * math.sin(a)
        p.ellipse((x - 0.03, y - 0.03, x + 0.03, y + 0.03), METAL)
    p.stroke([(0.5, 0.5), (0.5, 0.27)], INK, 0.06)
    p.stroke([(0.5, 0.5), (0.66, 0.58)], INK, 0.06)


def _cup(p: Pen) -> None:
    p.ellipse((0.6, 0.28, 0.98, 0.72), None, p.dark, 0.13)
    p.ellipse((0.63, 0.31, 0.95, 0.69), None, p.main, 0.06)
    body = [(0.06, 0.2), (0.12, 0.8), *bezier((0.12, 0.8), (0.15, 0.95), (0.3, 0.95), n=5)]
    p.poly(body + [(0.82 - x, y) for x, y in reversed(body)], p.main, p.dark)
    p.ellipse((0.05, 0.1, 0.77, 0.3), p.light, p.dark)
    p.ellipse((0.14, 0.14, 0.68, 0.26), STEM)
    p.stroke([(0.2, 0.42), (0.23, 0.72)], p.light, 0.06)


def _kite(p: Pen) -> None:
    p.stroke(bezier((0.5, 0.68), (0.32, 0.78), (0.66, 0.86), (0.42, 0.97)), INK, 0.045)
    for x, y in ((0.45, 0.8), (0.52, 0.9)):
        p.poly([(x - 0.1, y - 0.05), (x + 0.1, y + 0.05), (x + 0.1, y - 0.05), (x - 0.1, y + 0.05)], p.main)
    p.poly([(0.5, 0.02), (0.88, 0.32), (0.5, 0.72), (0.12, 0.32)], p.main, p.dark)
    p.poly([(0.5, 0.1), (0.79, 0.32), (0.5, 0.32)], p.light)
    p.poly([(0.5, 0.32), (0.5, 0.62), (0.21, 0.32)], p.light)
    p.stroke([(0.5, 0.05), (0.5, 0.7)], p.dark, 0.035)
    p.stroke([(0.14, 0.32), (0.86, 0.32)], p.dark, 0.035)


def _umbrella(p: Pen) -> None:
    p.stroke([(0.5, 0.1), (0.5, 0.84), *bezier((0.5, 0.84), (0.52, 0.98), (0.66, 0.97), (0.67, 0.84))], STEM, 0.065)
    dome = bezier((0.02, 0.54), (0.06, 0.02), (0.94, 0.02), (0.98, 0.54), n=20)
    hem: list[Point] = []
    for k in range(4):
        a, b = 0.98 - 0.24 * k, 0.98 - 0.24 * (k + 1)
        hem += bezier((a, 0.54), ((a + b) / 2, 0.41), (b, 0.54), n=6)
    p.poly(dome + hem, p.main, p.dark)
    p.stroke(bezier((0.5, 0.16), (0.3, 0.24), (0.27, 0.46)), p.dark, 0.03)
    p.stroke(bezier((0.5, 0.16), (0.7, 0.24), (0.73, 0.46)), p.dark, 0.03)
    p.stroke(bezier((0.16, 0.4), (0.2, 0.26), (0.32, 0.2)), p.light, 0.045)
    p.stroke([(0.5, 0.03), (0.5, 0.14)], STEM, 0.05)


SPRITES: dict[str, Callable[[Pen], None]] = {
    "apple": _apple,
    "banana": _banana,
    "bird": _bird,
    "boat": _boat,
    "book": _book,
    "bottle": _bottle,
    "car": _car,
    "chair": _chair,
    "clock": _clock,
    "cup": _cup,
    "kite": _kite,
    "umbrella": _umbrella,
}


@lru_cache(maxsize=4096)
def sprite(kind: str, main: RGB, side: int) -> Image.Image:
    """One object on a transparent ground, cropped to what is drawn.

    Args:
        kind: a key of `SPRITES`.
        main: the object's colour.
        side: side of the unit box in pixels of the supersampled canvas.
    """
    margin = round(side * 0.06)
    layer = Image.new("RGBA", (side + 2 * margin, side + 2 * margin))
    body = Image.new("RGBA", (side, side))
    SPRITES[kind](Pen(ImageDraw.Draw(body), side, main))
    layer.paste(body, (margin, margin))
    return layer.crop(layer.getbbox())
