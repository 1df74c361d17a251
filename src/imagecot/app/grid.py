"""The grid of paths and steps as HTML: while it fills, and when the choice is made."""

import base64
import io
from collections.abc import Sequence
from html import escape

from PIL import Image

from imagecot import guard
from imagecot.contracts.generator import Generator
from imagecot.contracts.paths import Paths
from imagecot.contracts.search import Candidate
from imagecot.images import to_pictures
from imagecot.strategies.trace import Trace, shown_steps

SIDE = 96  # pixels of a picture in the grid at most
ROWS = 12  # paths that are looked at while they are drawn

STYLE = """
.paths {overflow-x: auto; font-size: 13px}
.paths table, .paths tr, .paths th, .paths td {border: 0; background: none}
.paths table {border-collapse: separate; border-spacing: 4px; width: auto; margin: 0}
.paths th {font-weight: 600; text-align: left; white-space: nowrap; padding: 2px 6px}
.paths td {padding: 0; text-align: center; vertical-align: middle}
.paths td.verdict {text-align: left; padding: 0 8px; white-space: nowrap}
.paths img {display: block; width: 72px; height: 72px; object-fit: contain; border-radius: 4px}
.paths td.ended {outline: 1px dashed; outline-offset: -2px; border-radius: 4px; opacity: .6; min-width: 72px}
.paths tr.chosen th {text-decoration: underline; text-decoration-thickness: 2px}
.paths tr.chosen img {outline: 3px solid #1f7a4d; outline-offset: -1px}
.told {white-space: pre-wrap; overflow-wrap: anywhere}
.told.error {border-left: 4px solid #be3430; padding-left: 8px}
"""


class Grid:
    """What has been seen of the paths of a search.

    generator  who draws: it shows what unfinished paths predict
    """

    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self.steps = shown_steps(generator.steps)
        self.candidates: list[Candidate] = []
        self._numbers: dict[int, int] = {}  # a candidate by its identity -> its number
        self._pictures: dict[tuple[int, int], str] = {}  # number and step -> a data URL

    def see(self, paths: Paths, candidates: Sequence[Candidate]) -> bool:
        """Look at paths after a step, the candidates that they are; whether there is something new to show."""
        for candidate in candidates:
            if id(candidate) not in self._numbers:
                self._numbers[id(candidate)] = len(self.candidates)
                self.candidates.append(candidate)
        if paths.step not in self.steps:
            return False
        rows = [row for row, candidate in enumerate(candidates) if self._numbers[id(candidate)] < ROWS]
        if not rows:
            return False
        images = guard.preview(self._generator, paths.select(rows))
        for row, picture in zip(rows, to_pictures(images), strict=True):
            self._pictures[self._numbers[id(candidates[row])], paths.step] = data_url(picture)
        return True

    def html(self) -> str:
        """The grid of now."""
        return _table(self.candidates[:ROWS], range(min(ROWS, len(self.candidates))), self.steps, self._pictures, None)

    def finished(self, trace: Trace) -> str:
        """The grid of a search that is over: the choice is marked, and has a row in any case."""
        numbers = [*range(min(ROWS, len(trace.candidates)))]
        if trace.chosen not in numbers:
            numbers[-1] = trace.chosen
        pictures = {
            (number, step): url
            for number, candidate in enumerate(trace.candidates)
            for step in self.steps
            if (url := self._pictures.get((self._numbers.get(id(candidate), -1), step))) is not None
        }
        for number in numbers:
            if (image := trace.candidates[number].image) is not None:
                pictures[number, trace.steps] = data_url(image)
        return _table([trace.candidates[number] for number in numbers], numbers, self.steps, pictures, trace.chosen)


def _table(
    candidates: Sequence[Candidate],
    numbers: Sequence[int],
    steps: Sequence[int],
    pictures: dict[tuple[int, int], str],
    chosen: int | None,
) -> str:
    """A row a path, a column a step, and what was said of the path."""
    head = "".join(f'<th scope="col">step {step}</th>' for step in steps)
    rows = []
    for number, candidate in zip(numbers, candidates, strict=True):
        cells = "".join(_cell(candidate, number, step, pictures.get((number, step))) for step in steps)
        mark = ' class="chosen"' if number == chosen else ""
        name = f"path {number + 1}" + (" ✓ chosen" if number == chosen else "")
        rows.append(
            f'<tr{mark}><th scope="row">{name}</th>{cells}<td class="verdict">{escape(verdict(candidate))}</td></tr>'
        )
    caption = '<tr><th scope="col">path</th>' + head + '<th scope="col">verdict</th></tr>'
    return (
        f'<div class="paths" tabindex="0"><table><thead>{caption}</thead><tbody>{"".join(rows)}</tbody></table></div>'
    )


def _cell(candidate: Candidate, number: int, step: int, picture: str | None) -> str:
    if picture is not None:
        return f'<td><img alt="path {number + 1} after step {step}" src="{picture}"></td>'
    stopped = candidate.truncated_at is not None and step > candidate.truncated_at
    return '<td class="ended" title="stopped">✕</td>' if stopped else "<td></td>"


def verdict(candidate: Candidate) -> str:
    """What was said of a path last, and what came of it, in words."""
    said = f"P(yes) {candidate.verdicts[-1].p_yes:.2f}" if candidate.verdicts else ""
    about = f" ({candidate.verdicts[-1].question})" if candidate.verdicts and candidate.score is None else ""
    if candidate.truncated_at is not None:
        return f"✕ stopped after step {candidate.truncated_at}, {said}{about}".removesuffix(", ")
    if candidate.corrects is not None:
        return f"corrects path {candidate.corrects + 1}, {said}".removesuffix(", ")
    if candidate.forks is not None:
        return f"forks path {candidate.forks + 1}, {said}{about}".removesuffix(", ")
    return f"{said}{about}"


def data_url(picture: Image.Image) -> str:
    """A small copy of a picture as a data URL."""
    small = picture.copy()
    small.thumbnail((SIDE, SIDE))
    stream = io.BytesIO()
    small.save(stream, "PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"
