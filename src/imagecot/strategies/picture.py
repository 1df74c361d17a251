"""The picture of a search, for people who see one for the first time: a row a path, a column a step."""

from functools import lru_cache
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
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, size)


def _wrap(text: str, font: ImageFont.FreeTypeFont, width: int, lines: int) -> list[str]:
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
    if trace.n == 1:
        text = f"How the image emerged, from left to right, while the generator took {took}."
    else:
        text = (
            f"The generator drew this prompt {trace.n} times. Each row is one of these paths: how its image "
            f"emerged, from left to right, in {took}."
        )
    if trace.verifier is not None:
        text += " At the end, how sure the verifier is that the image shows the prompt, as P(yes)"
        text += "; the surest was chosen." if trace.n > 1 else "."
    if trace.kept < len(trace.candidates):
        text += " Red marks a path that was stopped because the verifier saw little future for it."
    if trace.rounds:
        text += " Then the verifier said what is wrong with the best image, and it was drawn again."
    return text


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


def draw_steps(trace: "Trace") -> Image.Image:
    """Return the picture of a trace whose shown candidates have their previews."""
    steps = shown_steps(trace.steps)
    rows = shown(trace.candidates, trace.chosen)
    notes = _notes(trace)
    # The choice first, the others in their order; with rounds of reflection, the order of the story.
    rows.sort(key=lambda index: trace.candidates[index].round if notes else index != trace.chosen)
    left = MARGIN + LABEL
    right = left + len(steps) * (CELL + GAP)
    width = max(right + (VERDICT if trace.verifier is not None else GAP) + MARGIN, 720)
    title = _wrap(f"“{' '.join(trace.prompt.split())}”", _font(26, True), width - 2 * MARGIN, 2)
    lead = _wrap(_explanation(trace), _font(15), width - 2 * MARGIN, 4)
    top = MARGIN + 36 * len(title) + 6 + 22 * len(lead) + 46
    said = [_wrap(note, _font(14), width - 2 * MARGIN, 3) for note in notes]
    below = [NOTE * len(lines) + GAP for lines in said]  # a note stands below the last row of its round
    tops = [top + k * PITCH + sum(below[: trace.candidates[index].round]) for k, index in enumerate(rows)]
    footer = _wrap(_footer(trace, len(rows)), _font(13), width - 2 * MARGIN, 3)
    height = top + len(rows) * PITCH + sum(below) + 8 + 18 * len(footer) + MARGIN

    # Shapes are drawn at twice the size and reduced, so that their edges are smooth; text and images are not.
    shapes = Image.new("RGB", (2 * width, 2 * height), PAPER)
    for y, index in zip(tops, rows, strict=True):
        _draw_shapes(ImageDraw.Draw(shapes), trace, index, steps, left, y, right, width)
    image = shapes.resize((width, height), Image.Resampling.BOX)
    draw = ImageDraw.Draw(image)
    y = MARGIN
    for line in title:
        draw.text((MARGIN, y), line, INK, _font(26, True))
        y += 36
    y += 6
    for line in lead:
        draw.text((MARGIN, y), line, SOFT, _font(15))
        y += 22
    for column, step in enumerate(steps):
        x = left + column * (CELL + GAP) + CELL / 2
        last = step == trace.steps
        draw.text((x, top - 12), f"step {step}" + (" · done" if last else ""), INK, _font(14, last), "ms")
    for y, index in zip(tops, rows, strict=True):
        _draw_row(image, trace, index, steps, left, y, right)
    for number, lines in enumerate(said):
        y = PITCH + max(y for y, index in zip(tops, rows, strict=True) if trace.candidates[index].round == number)
        for line in lines:
            draw.text((MARGIN, y + GAP / 2), line, INK, _font(14))
            y += NOTE
    for number, line in enumerate(reversed(footer)):
        draw.text((MARGIN, height - MARGIN - 18 * number), line, SOFT, _font(13), "ls")
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


def _columns_reached(candidate: "Candidate", steps: list[int]) -> int:
    """Return how many of the shown steps a path did."""
    if candidate.truncated_at is None:
        return len(steps)
    return sum(step <= candidate.truncated_at for step in steps)


def _draw_shapes(
    draw: ImageDraw.ImageDraw,
    trace: "Trace",
    index: int,
    steps: list[int],
    left: int,
    top: int,
    right: int,
    width: int,
) -> None:
    """Draw a row's frame, bar and stop mark, at twice the size."""

    def box(x0: float, y0: float, x1: float, y1: float, radius: float, **colors: object) -> None:
        corners = (round(2 * x0), round(2 * y0), round(2 * x1) - 1, round(2 * y1) - 1)
        draw.rounded_rectangle(corners, round(2 * radius), **colors)  # type: ignore[arg-type]

    candidate = trace.candidates[index]
    if index == trace.chosen and len(trace.candidates) > 1:
        box(MARGIN - 12, top, width - MARGIN + 12, top + ROW, 12, fill=CHOSEN_FILL, outline=CHOSEN, width=4)
        box(MARGIN, top + ROW / 2 + 6, MARGIN + 72, top + ROW / 2 + 28, 11, fill=CHOSEN)
    reached = _columns_reached(candidate, steps)
    if candidate.truncated_at is not None:
        x = left + reached * (CELL + GAP)
        box(x, top + GAP, right - GAP, top + GAP + CELL, 8, fill=STOPPED_FILL)
        y, arm = top + ROW / 2 - 22, 9
        for sign in (1, -1):
            middle = (x + right - GAP) / 2
            ends = [(2 * (middle - arm), 2 * (y - sign * arm)), (2 * (middle + arm), 2 * (y + sign * arm))]
            draw.line(ends, STOPPED, 8)
    if candidate.score is not None and candidate.truncated_at is None:
        x, y, length = right + 14, top + ROW / 2 + 8, VERDICT - 28
        box(x, y, x + length, y + 10, 5, fill=LINE)
        filled = max(10.0, length * candidate.score)
        box(x, y, x + filled, y + 10, 5, fill=verdict_color(candidate.score))


def _draw_row(
    image: Image.Image, trace: "Trace", index: int, steps: list[int], left: int, top: int, right: int
) -> None:
    """Draw a row's images and texts."""
    draw = ImageDraw.Draw(image)
    candidate = trace.candidates[index]
    chosen = index == trace.chosen and len(trace.candidates) > 1
    middle = top + ROW / 2
    label_y = middle - 4 if chosen else middle + 5
    draw.text((MARGIN, label_y), f"path {index + 1}", INK, _font(15, chosen), "ls")
    if chosen:
        draw.text((MARGIN + 36, middle + 22), "chosen", (255, 255, 255), _font(13, True), "ms")
    reached = _columns_reached(candidate, steps)
    for column, step in enumerate(steps[:reached]):
        preview = candidate.image if step == trace.steps else candidate.previews.get(step)
        if preview is not None:
            cell = _fit(preview)
            x = left + column * (CELL + GAP) + (CELL - cell.width) // 2
            y = top + GAP + (CELL - cell.height) // 2
            image.paste(cell, (x, y))
            draw.rectangle((x, y, x + cell.width - 1, y + cell.height - 1), outline=LINE)
    if candidate.truncated_at is not None:
        x0, x1 = left + reached * (CELL + GAP), right - GAP
        last = candidate.verdicts[-1] if candidate.verdicts else None
        reason = {"potential": "little potential"}.get(last.question, "rejected") if last else "rejected"
        for y, line, bold in ((20, f"stopped at step {candidate.truncated_at}", True), (40, reason, False)):
            size = 13 if _font(13, bold).getlength(line) <= x1 - x0 else 11
            draw.text(((x0 + x1) / 2, middle + y - 4), line, STOPPED, _font(size, bold), "ms")
        if last is not None:
            draw.text((right + 14, middle), f"P(yes) {last.p_yes:.2f}", STOPPED, _font(18), "ls")
            draw.text((right + 14, middle + 20), f"asked for {last.question}", SOFT, _font(13), "ls")
    elif candidate.score is not None:
        draw.text((right + 14, middle - 4), f"P(yes) {candidate.score:.2f}", INK, _font(18, chosen), "ls")


def _fit(picture: Image.Image) -> Image.Image:
    """Return the picture as large as a cell holds it, not stretched; very small ones keep their pixels visible."""
    method = Image.Resampling.NEAREST if max(picture.size) < 32 else Image.Resampling.LANCZOS
    return ImageOps.contain(picture.convert("RGB"), (CELL, CELL), method)
