"""The gallery: the same prompts across all methods, those that the best method fails at first."""

import io
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from imagecot import interruption
from imagecot.errors import ImagecotError
from imagecot.figures import png, wrapped
from imagecot.images import open_picture
from imagecot.report.blocks import Card, Gallery, Line, Picture, Strong
from imagecot.study.summary import Exhibit, Summary

COARSE = 128  # an image smaller than this is enlarged with its pixels visible
ON_A_SHEET = 48  # prompts and methods: more would make a picture of unusual size


def sorted_exhibits(summary: Summary, best: str) -> tuple[list[Exhibit], list[Exhibit]]:
    """The prompts at which the best method fails by either judge, and all others, in the study's order."""
    failed: list[Exhibit] = []
    others: list[Exhibit] = []
    for exhibit in summary.gallery:
        (failed if False in exhibit.correct.get(best, []) else others).append(exhibit)
    return failed, others


def gallery(summary: Summary, folder: Path, exhibits: list[Exhibit], best: str, sheet: str | None) -> Gallery:
    """The cards of these prompts, and with a name for it the sheet that shows them as one picture."""
    prompts: list[tuple[Line, list[Card]]] = []
    for exhibit in exhibits:
        cards = _cards(summary, folder, exhibit)
        if cards:
            verdicts = exhibit.correct.get(best, [])
            mark = f"the best method: {' '.join(map(sign, verdicts))}" if verdicts else "the best method was not asked"
            prompts.append(((Strong(exhibit.prompt), f" · {exhibit.tag.replace('_', ' ')} · {mark}"), cards))
    picture = None
    if sheet and prompts:
        words = "One prompt a row, one method a column; under each image the first and the second judge's verdict"
        if len(prompts) > ON_A_SHEET:
            words += f"; the first {ON_A_SHEET} of {len(prompts)} prompts"
        picture = Picture(sheet, _sheet(prompts[:ON_A_SHEET]), words)
    return Gallery(prompts, picture)


def sign(right: bool | None) -> str:
    """A verdict as a sign."""
    return {True: "✓", False: "✗", None: "?"}[right]


def missing_images(summary: Summary, folder: Path) -> int:
    """How many images of the gallery cannot be read."""
    return sum(_read(folder / path) is None for exhibit in summary.gallery for path in exhibit.images.values())


def _cards(summary: Summary, folder: Path, exhibit: Exhibit) -> list[Card]:
    cards = []
    for name, path in exhibit.images.items():
        found = _read(folder / path)
        if found is not None:
            png, size = found
            cards.append(Card(name, summary.label(name), png, exhibit.correct.get(name, []), size < COARSE))
    return cards


def _read(file: Path) -> tuple[bytes, int] | None:
    """An image as PNG with its longer side; None where there is none."""
    interruption.check()
    try:
        image = open_picture(file)
    except ImagecotError:
        return None
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue(), max(image.size)


def _sheet(prompts: list[tuple[Line, list[Card]]]) -> bytes:
    """All cards as one PNG; in one set of axes, for which hundreds of images are still quick to draw."""
    labels = {card.name: card.label for _, cards in prompts for card in cards}
    labels = dict(list(labels.items())[:ON_A_SHEET])
    columns = list(labels)
    left, pitch = 1.7, 1.34  # of the prompts' column, of a row; in widths of an image
    width, height = left + 1.06 * len(labels), 1.1 + pitch * len(prompts)
    figure = Figure(figsize=(0.95 * width, 0.95 * height))
    plot = figure.add_axes((0, 0, 1, 1))
    plot.axis("off")
    for column, label in enumerate(labels.values()):
        plot.text(left + 1.06 * column + 0.5, 1.0, wrapped(label, 16, 5), ha="center", va="bottom", fontsize=6.5)
    for row, (title, cards) in enumerate(prompts):
        top = 1.1 + pitch * row
        first = title[0] if isinstance(title, tuple) else title
        prompt = first if isinstance(first, str) else first.text
        plot.text(0.08, top + 0.5, wrapped(prompt, 20, 6), va="center", fontsize=7.5)
        for card in (card for card in cards if card.name in labels):
            x = left + 1.06 * columns.index(card.name)
            with Image.open(io.BytesIO(card.png)) as image:
                plot.imshow(
                    image.convert("RGB"),
                    extent=(x, x + 1, top + 1, top),
                    interpolation="nearest" if card.coarse else "antialiased",
                )
            plot.plot([x, x + 1, x + 1, x, x], [top, top, top + 1, top + 1, top], color="#dcdad3", lw=0.7)
            for judge, right in enumerate(card.marks):
                color = {True: "#16693f", False: "#b3261e", None: "#62666f"}[right]
                place = x + 0.5 + 0.4 * (judge - (len(card.marks) - 1) / 2)
                plot.text(place, top + 1.03, f"{judge + 1} {sign(right)}", color=color, ha="center", va="top",
                          fontsize=7, weight="bold")  # fmt: skip
    plot.set_xlim(0, width)
    plot.set_ylim(height, 0)
    plot.set_aspect("auto")
    interruption.check()
    return png(figure, dpi=120)
