"""The paths of a run as one moving picture: they emerge side by side, some are stopped, and one is chosen."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageOps

from imagecot.errors import ImagecotError, UsageError
from imagecot.files import write_whole
from imagecot.images import open_picture
from imagecot.strategies import previews
from imagecot.strategies.picture import CHOSEN, STOPPED, Color, font, wrap
from imagecot.strategies.trace import Trace, pictured, shown_steps

MOST = 20  # paths
KINDS = (".webp", ".gif", ".png")
_SCALE = 2  # pixels of the picture for one of a page: screens are finer than that
_CELL, _GAP, _NOTE, _MARGIN = 92, 10, 20, 20  # in pixels of a page, as all below
_CHOICE = 236  # side of the choice
_TITLE = 52
_STEP, _VERDICTS, _CHOSEN = 650, 1800, 4500  # milliseconds


@dataclass(frozen=True)
class Theme:
    """Colours: of the ground, of text, of what is less important, and of the two marks."""

    paper: Color
    ink: Color
    soft: Color
    line: Color
    chosen: Color
    stopped: Color


LIGHT = Theme((255, 255, 255), (31, 35, 40), (89, 99, 110), (209, 217, 224), CHOSEN, STOPPED)
DARK = Theme((13, 17, 23), (230, 237, 243), (145, 152, 161), (61, 68, 77), (63, 185, 80), (248, 120, 113))


def animate(folder: Path, file: Path, *, dark: bool = False) -> None:
    """Write the paths of a finished run as a moving picture: WebP or GIF, or its last frame as PNG.

    folder  of the run, with its `previews.zip`
    dark    for a dark ground instead of a light one

    UsageError for a file of another kind; ImagecotError where the folder holds no run, or one without previews.
    """
    kind = file.suffix.lower()
    if kind not in KINDS:
        raise UsageError(f"{file} is none of the pictures that can be written; end its name in {' or '.join(KINDS)}.")
    trace, seen = Trace.load(folder), previews.read(folder)
    if not seen:
        raise ImagecotError(f"{folder} has no {previews.PREVIEWS}, so its paths cannot be shown; draw the run again.")
    stage = Stage(trace, {key: open_picture(data) for key, data in seen.items()}, DARK if dark else LIGHT)
    frames = stage.frames()
    write_whole(file, _written(frames, kind))


def _written(frames: list[tuple[Image.Image, int]], kind: str) -> bytes:
    stream = io.BytesIO()
    if kind == ".png":
        frames[-1][0].reduce(_SCALE).quantize(256, dither=Image.Dither.NONE).save(stream, "PNG", optimize=True)
        return stream.getvalue()
    (first, *others), durations = [frame for frame, _ in frames], [duration for _, duration in frames]
    how = {"quality": 40, "method": 6} if kind == ".webp" else {"optimize": True}
    first.save(stream, kind[1:].upper(), save_all=True, append_images=others, duration=durations, loop=0, **how)
    return stream.getvalue()


class Stage:
    """The places of paths, and how they look at each moment.

    pictures  what was seen, by the index of the path and the step
    """

    def __init__(self, trace: Trace, pictures: Mapping[tuple[int, int], Image.Image], theme: Theme) -> None:
        self.trace, self.pictures, self.theme = trace, pictures, theme
        self.paths = sorted(pictured(trace.candidates, trace.chosen)[:MOST])
        self.columns = min(5, len(self.paths))
        rows = -(-len(self.paths) // self.columns)
        self.side = _MARGIN + self.columns * (_CELL + _GAP) + _GAP  # where the right part begins
        self.size = (self.side + _CHOICE + _MARGIN, _TITLE + max(rows * (_CELL + _NOTE + _GAP), _CHOICE + 150))

    def frames(self) -> list[tuple[Image.Image, int]]:
        """The frames, and how long each is shown, in milliseconds."""
        steps = shown_steps(self.trace.steps)
        found = [(self._frame(step), _STEP) for step in steps[:-1]]
        found.append((self._frame(steps[-1], judged=True), _VERDICTS))
        return [*found, (self._frame(steps[-1], judged=True, chosen=True), _CHOSEN)]

    def _frame(self, step: int, *, judged: bool = False, chosen: bool = False) -> Image.Image:
        image = Image.new("RGB", (_SCALE * self.size[0], _SCALE * self.size[1]), self.theme.paper)
        title = wrap(f"“{' '.join(self.trace.prompt.split())}”", font(_SCALE * 20, True), _SCALE * self.size[0], 1)[0]
        self._text(image, (_MARGIN, 32), title, 20, self.theme.ink, bold=True)
        for place, index in enumerate(self.paths):
            x = _MARGIN + place % self.columns * (_CELL + _GAP)
            y = _TITLE + place // self.columns * (_CELL + _NOTE + _GAP)
            self._path(image, index, (x, y), step, judged, chosen)
        self._story(image, step, chosen)
        return image

    def _path(self, image: Image.Image, index: int, at: tuple[int, int], step: int, judged: bool, chosen: bool) -> None:
        """A path with its mark and what was said of it."""
        candidate, theme, (x, y) = self.trace.candidates[index], self.theme, at
        picture = self._at(index, step)
        stopped = candidate.truncated_at is not None and step > candidate.truncated_at
        mine = chosen and index == self.trace.chosen
        draw = ImageDraw.Draw(image)
        box = [_SCALE * value for value in (x, y, x + _CELL, y + _CELL)]
        if picture is not None:
            cell = ImageOps.fit(picture, (_SCALE * _CELL, _SCALE * _CELL), Image.Resampling.BICUBIC)
            if stopped or (chosen and not mine):
                cell = Image.blend(Image.new("RGB", cell.size, theme.paper), cell, 0.3 if stopped else 0.55)
            image.paste(cell, (box[0], box[1]))
        draw.rectangle((box[0], box[1], box[2] - 1, box[3] - 1), outline=theme.line, width=_SCALE)
        if mine:
            edge = 4 * _SCALE
            around = (box[0] - edge, box[1] - edge, box[2] + edge - 1, box[3] + edge - 1)
            draw.rounded_rectangle(around, 2 * edge, outline=theme.chosen, width=edge)
        if stopped:
            self._cross(draw, x + _CELL / 2, y + _CELL / 2)
            self._text(image, (x + _CELL / 2, y + _CELL + 16), "stopped", 13, theme.stopped, middle=True)
        elif judged and candidate.score is not None:
            said, color = f"P(yes) {candidate.score:.2f}", theme.chosen if mine else theme.soft
            self._text(image, (x + _CELL / 2, y + _CELL + 16), said, 13, color, bold=mine, middle=True)

    def _at(self, index: int, step: int) -> Image.Image | None:
        """What was seen of a path last at a step."""
        found = [one for path, one in self.pictures if path == index and one <= step]
        return self.pictures[index, max(found)] if found else None

    def _story(self, image: Image.Image, step: int, chosen: bool) -> None:
        """What happens, in words, and in the end the choice."""
        trace, theme, x, y = self.trace, self.theme, self.side, _TITLE
        stopped = sum(one.truncated_at is not None and one.truncated_at < step for one in trace.candidates)
        many, word = len(trace.candidates), "paths" if len(trace.candidates) > 1 else "path"
        draw = ImageDraw.Draw(image)
        if chosen:
            size = _SCALE * _CHOICE
            image.paste(ImageOps.fit(trace.image.convert("RGB"), (size, size), Image.Resampling.BICUBIC),
                        (_SCALE * x, _SCALE * y))  # fmt: skip
        box = [_SCALE * value for value in (x, y, x + _CHOICE, y + _CHOICE)]
        color = theme.chosen if chosen else theme.line
        draw.rectangle((box[0], box[1], box[2] - 1, box[3] - 1), outline=color, width=(3 if chosen else 1) * _SCALE)
        if not chosen:
            self._text(image, (x + _CHOICE / 2, y + _CHOICE / 2 - 8), f"step {step}", 30, theme.ink, True, middle=True)
            self._text(image, (x + _CHOICE / 2, y + _CHOICE / 2 + 20), f"of {trace.steps}", 15, theme.soft, middle=True)
        lines = [(f"{many} {word} of one prompt", theme.ink)]
        if stopped:
            lines.append((f"✕ {stopped} stopped: little potential", theme.stopped))
        if chosen:
            sure = f", P(yes) {trace.choice.score:.2f}" if trace.choice.score is not None else ""
            lines.append((f"✓ path {trace.chosen + 1} chosen{sure}", theme.chosen))
        for number, (text, color) in enumerate(lines):
            self._text(image, (x, y + _CHOICE + 30 + 24 * number), text, 15, color)

    def _cross(self, draw: ImageDraw.ImageDraw, x: float, y: float) -> None:
        arm = 15 * _SCALE
        for sign in (1, -1):
            ends = (_SCALE * x - arm, _SCALE * y - sign * arm, _SCALE * x + arm, _SCALE * y + sign * arm)
            draw.line(ends, self.theme.stopped, 5 * _SCALE)

    def _text(
        self, image: Image.Image, at: tuple[float, float], text: str, size: int, color: Color, bold: bool = False,
        *, middle: bool = False,
    ) -> None:  # fmt: skip
        place = (_SCALE * at[0], _SCALE * at[1])
        ImageDraw.Draw(image).text(place, text, color, font(_SCALE * size, bold), "ms" if middle else "ls")
