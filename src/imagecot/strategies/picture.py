"""The picture of a search, for people who see one for the first time: a row a path, a column a step."""

from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont, ImageOps

from imagecot.strategies.trace import shown, shown_steps

if TYPE_CHECKING:
    from imagecot.contracts.search import Candidate
    from imagecot.strategies.trace import Trace

Color = tuple[int, int, int]

CELL, GAP, MARGIN = 112, 10, 36  # side of an image, space between two, border, in pixels
LABEL, VERDICT = 96, 196  # widths of the columns left and right of the images
LEFT = MARGIN + LABEL  # where the images begin
ROW = CELL + 2 * GAP  # height of a row's frame
PITCH = ROW + 2
NOTE = 20  # height of a line between rows
PAPER: Color = (251, 250, 247)
INK: Color = (34, 36, 42)
SOFT: Color = (112, 116, 126)
LINE: Color = (224, 222, 215)
CHOSEN: Color = (31, 122, 77)
CHOSEN_FILL: Color = (232, 244, 236)
STOPPED: Color = (190, 52, 48)
STOPPED_FILL: Color = (250, 234, 231)
SCALE: tuple[Color, ...] = ((200, 66, 56), (226, 168, 62), (46, 146, 92))  # P(yes) = 0, 0.5, 1


@lru_cache
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The font of pictures."""
    package = find_spec("matplotlib")  # which is not imported for its fonts: that takes longer than the picture
    assert package is not None and package.origin is not None
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(package.origin).parent / "mpl-data" / "fonts" / "ttf" / name, size)


def wrap(text: str, font: ImageFont.FreeTypeFont, width: int, lines: int) -> list[str]:
    """Break text into at most `lines` lines of `width` pixels; what does not fit ends in an ellipsis."""
    result, line = [], ""
    for word in text[: 200 * lines].split():  # more never fits, and measuring it takes time
        longer = f"{line} {word}".strip()
        if line and font.getlength(longer) > width:
            result.append(line)
            line = word
        else:
            line = longer
    result.append(line)
    if len(result) > lines:
        result = [*result[: lines - 1], " ".join(result[lines - 1 :])]
    for index, line in enumerate(result):
        if font.getlength(line) > width:
            while line and font.getlength(line + "…") > width:
                line = line[:-1]
            result[index] = line.rstrip() + "…"
    return result


def verdict_color(p_yes: float) -> Color:
    """Return red at 0, amber at 0.5, green at 1, and mixtures between."""
    low, high, t = (SCALE[0], SCALE[1], p_yes * 2) if p_yes < 0.5 else (SCALE[1], SCALE[2], p_yes * 2 - 1)
    red, green, blue = (round(a + (b - a) * t) for a, b in zip(low, high, strict=True))
    return red, green, blue


def _explanation(trace: "Trace") -> str:
    took = f"{trace.steps} step{'s' if trace.steps > 1 else ''}"
    forked = any(candidate.forks is not None for candidate in trace.candidates)
    drawn = sum(candidate.forks is None and not candidate.round for candidate in trace.candidates)
    if drawn == 1 and not forked:
        text = f"How the image emerged, from left to right, while the generator took {took}."
    else:
        text = (
            f"The generator drew this prompt {drawn} times. Each row is one of these paths: how its image "
            f"emerged, from left to right, in {took}."
        )
    if trace.verifier is not None:
        text += " At the end, how sure the verifier is that the image shows the prompt, as P(yes)"
        text += "; the surest was chosen." if len(trace.candidates) > 1 else "."
    if forked:
        text += " Some left another path on the way, at the step below their names."
    if trace.kept < len(trace.candidates):
        text += " Red marks a path that was stopped because the verifier saw little future for it."
    if any(_blank(trace, trace.candidates[index]) for index in shown(trace.candidates, trace.chosen)):
        text += " Where a place is empty, the image was not decoded."
    if trace.rounds:
        text += " Then the verifier said what is wrong with the best image, and it was drawn again."
    return text


def _blank(trace: "Trace", candidate: "Candidate") -> bool:
    """Whether a step that the candidate did has no image to show."""
    last = trace.steps - 1 if candidate.truncated_at is None else candidate.truncated_at
    return any(step <= last and step not in candidate.previews for step in shown_steps(trace.steps))


def _notes(trace: "Trace") -> list[str]:
    """Return what the verifier said in each round of reflection, to stand below the paths that it looked at."""
    notes = []
    for number, found in enumerate(trace.rounds, 1):
        said = " ".join(found.reflection.text.split()) or "nothing"
        odd = f" ({found.reflection.problem})" if found.reflection.problem else ""
        after = "It was drawn again:" if found.drawn else "So nothing was drawn again."
        opening = f"Round {number}. What is wrong with path {found.candidate + 1}?"
        notes.append(f"{opening} The verifier: “{said}”{odd}, P(yes) {found.reflection.p_yes:.2f}. {after}")
    return notes


@dataclass(frozen=True)
class Row:
    """A path and its place in the picture.

    number  of the path, from 1
    chosen  whether it is marked as the choice
    steps   those that have a column; the last is that of the image
    top     upper edge of the row's frame, in pixels
    width   of the picture
    """

    candidate: "Candidate"
    number: int
    chosen: bool
    steps: list[int]
    top: int
    width: int

    @property
    def middle(self) -> float:
        """Half the height of the frame."""
        return self.top + ROW / 2

    @property
    def right(self) -> int:
        """Where the columns end."""
        return _right(self.steps)

    @property
    def reached(self) -> list[int]:
        """Those of the steps that the path did."""
        last = self.candidate.truncated_at
        return [step for step in self.steps if last is None or step <= last]

    @property
    def end(self) -> int:
        """Where the columns of these steps end."""
        return _right(self.reached)


def _right(steps: list[int]) -> int:
    """Where the columns of so many steps end."""
    return LEFT + len(steps) * (CELL + GAP)


def draw_steps(trace: "Trace") -> Image.Image:
    """Return the picture of a trace whose shown candidates have their previews."""
    steps = shown_steps(trace.steps)
    paths = shown(trace.candidates, trace.chosen)
    notes = _notes(trace)
    # The choice first, the others in their order; with rounds of reflection, the order of the story.
    paths.sort(key=lambda index: trace.candidates[index].round if notes else index != trace.chosen)
    right = _right(steps)
    width = max(right + (VERDICT if trace.verifier is not None else GAP) + MARGIN, 720)
    title = wrap(f"“{' '.join(trace.prompt.split())}”", font(26, True), width - 2 * MARGIN, 2)
    lead = wrap(_explanation(trace), font(15), width - 2 * MARGIN, 4)
    top = MARGIN + 36 * len(title) + 6 + 22 * len(lead) + 46
    said = [wrap(note, font(14), width - 2 * MARGIN, 3) for note in notes]
    below = [NOTE * len(lines) + GAP for lines in said]  # a note stands below the last row of its round
    rows: list[Row] = []
    for index in paths:
        candidate, chosen = trace.candidates[index], index == trace.chosen and len(trace.candidates) > 1
        y = top + len(rows) * PITCH + sum(below[: candidate.round])
        rows.append(Row(candidate, index + 1, chosen, steps, y, width))
    footer = wrap(_footer(trace, len(rows)), font(13), width - 2 * MARGIN, 3)
    height = top + len(rows) * PITCH + sum(below) + 8 + 18 * len(footer) + MARGIN

    # Shapes are drawn at twice the size and reduced, so that their edges are smooth; text and images are not.
    shapes = Image.new("RGB", (2 * width, 2 * height), PAPER)
    for row in rows:
        _draw_shapes(ImageDraw.Draw(shapes), row)
    image = shapes.resize((width, height), Image.Resampling.BOX)
    draw = ImageDraw.Draw(image)
    y = MARGIN
    for line in title:
        draw.text((MARGIN, y), line, INK, font(26, True))
        y += 36
    y += 6
    for line in lead:
        draw.text((MARGIN, y), line, SOFT, font(15))
        y += 22
    for column, step in enumerate(steps):
        x = LEFT + column * (CELL + GAP) + CELL / 2
        last = step == trace.steps
        draw.text((x, top - 12), f"step {step}" + (" · done" if last else ""), INK, font(14, last), "ms")
    for row in rows:
        _draw_row(image, row)
    for number, lines in enumerate(said):
        y = PITCH + max(row.top for row in rows if row.candidate.round == number)
        for line in lines:
            draw.text((MARGIN, y + GAP / 2), line, INK, font(14))
            y += NOTE
    for number, line in enumerate(reversed(footer)):
        draw.text((MARGIN, height - MARGIN - 18 * number), line, SOFT, font(13), "ls")
    return image


def _footer(trace: "Trace", rows: int) -> str:
    parts = []
    if rows < len(trace.candidates):
        parts.append(f"{rows} of {len(trace.candidates)} paths shown, the best first")
    if trace.kept < len(trace.candidates):
        parts.append(f"{trace.kept} of {len(trace.candidates)} ran to the end")
    parts.append(f"generator {trace.generator}")
    if "corrector" in trace.settings:
        parts.append(f"corrector {trace.settings['corrector']}")
    if trace.verifier is not None:
        parts.append(f"verifier {trace.verifier}")
    return " · ".join([*parts, f"search {trace.strategy}", f"seed {trace.seed}", f"{trace.cost.seconds:.1f} s"])


def _draw_shapes(draw: ImageDraw.ImageDraw, row: Row) -> None:
    """Draw a row's frame, bar and stop mark, at twice the size."""

    def box(x0: float, y0: float, x1: float, y1: float, radius: float, **colors: object) -> None:
        corners = (round(2 * x0), round(2 * y0), round(2 * x1) - 1, round(2 * y1) - 1)
        draw.rounded_rectangle(corners, round(2 * radius), **colors)  # type: ignore[arg-type]

    candidate, top, right = row.candidate, row.top, row.right
    if row.chosen:
        box(MARGIN - 12, top, row.width - MARGIN + 12, top + ROW, 12, fill=CHOSEN_FILL, outline=CHOSEN, width=4)
        box(MARGIN, row.middle + 6, MARGIN + 72, row.middle + 28, 11, fill=CHOSEN)
    if candidate.truncated_at is not None:
        x = row.end
        box(x, top + GAP, right - GAP, top + GAP + CELL, 8, fill=STOPPED_FILL)
        y, arm = row.middle - 22, 9
        for sign in (1, -1):
            middle = (x + right - GAP) / 2
            ends = [(2 * (middle - arm), 2 * (y - sign * arm)), (2 * (middle + arm), 2 * (y + sign * arm))]
            draw.line(ends, STOPPED, 8)
    elif candidate.score is not None:
        x, y, length = right + 14, row.middle + 8, VERDICT - 28
        box(x, y, x + length, y + 10, 5, fill=LINE)
        filled = max(10.0, length * candidate.score)
        box(x, y, x + filled, y + 10, 5, fill=verdict_color(candidate.score))


def _draw_row(image: Image.Image, row: Row) -> None:
    """Draw a row's images and texts."""
    draw = ImageDraw.Draw(image)
    candidate, middle, right = row.candidate, row.middle, row.right
    label_y = middle - 4 if row.chosen else middle + 5
    if candidate.forks is not None:
        text = f"fork of {candidate.forks + 1} at {candidate.forked_at}"
        draw.text((MARGIN, label_y + (46 if row.chosen else 18)), text, SOFT, font(11), "ls")
    draw.text((MARGIN, label_y), f"path {row.number}", INK, font(15, row.chosen), "ls")
    if row.chosen:
        draw.text((MARGIN + 36, middle + 22), "chosen", (255, 255, 255), font(13, True), "ms")
    for column, step in enumerate(row.reached):
        preview = candidate.image if step == row.steps[-1] else candidate.previews.get(step)
        if preview is not None:
            cell = _fit(preview)
            x = LEFT + column * (CELL + GAP) + (CELL - cell.width) // 2
            y = row.top + GAP + (CELL - cell.height) // 2
            image.paste(cell, (x, y))
            draw.rectangle((x, y, x + cell.width - 1, y + cell.height - 1), outline=LINE)
    if candidate.truncated_at is not None:
        x0, x1 = row.end, right - GAP
        last = candidate.verdicts[-1] if candidate.verdicts else None
        reason = {"potential": "little potential"}.get(last.question, "rejected") if last else "rejected"
        for y, line, bold in ((20, f"stopped at step {candidate.truncated_at}", True), (40, reason, False)):
            size = 13 if font(13, bold).getlength(line) <= x1 - x0 else 11
            draw.text(((x0 + x1) / 2, middle + y - 4), line, STOPPED, font(size, bold), "ms")
        if last is not None:
            draw.text((right + 14, middle), f"P(yes) {last.p_yes:.2f}", STOPPED, font(18), "ls")
            draw.text((right + 14, middle + 20), f"asked for {last.question}", SOFT, font(13), "ls")
    elif candidate.score is not None:
        draw.text((right + 14, middle - 4), f"P(yes) {candidate.score:.2f}", INK, font(18, row.chosen), "ls")


def _fit(picture: Image.Image) -> Image.Image:
    """Return the picture as large as a cell holds it, not stretched; very small ones keep their pixels visible."""
    method = Image.Resampling.NEAREST if max(picture.size) < 32 else Image.Resampling.LANCZOS
    return ImageOps.contain(picture.convert("RGB"), (CELL, CELL), method)
