"""The grid of paths and steps as HTML: while it fills, and when the choice is made."""

import base64
from collections.abc import Sequence
from html import escape

from imagecot.contracts.search import Candidate
from imagecot.serving.looking import ROWS, Look, small
from imagecot.strategies.trace import Trace, shown_steps

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
    """What has been seen of the paths of a search."""

    def __init__(self) -> None:
        self._pictures: dict[tuple[int, int], bytes] = {}  # seed and step -> PNG

    def add(self, look: Look) -> str:
        """The grid of now."""
        self._pictures |= {(seed, look.step): picture for seed, picture in look.pictures.items()}
        return self._table([*enumerate(look.paths)], shown_steps(look.steps), None)

    def finished(self, trace: Trace) -> str:
        """The grid of a search that is over: the choice is marked, and has a row in any case."""
        numbers = [*range(min(ROWS, len(trace.candidates)))]
        if trace.chosen not in numbers:
            numbers[-1] = trace.chosen
        rows = [(number, trace.candidates[number]) for number in numbers]
        for _, candidate in rows:
            if candidate.image is not None:
                self._pictures[candidate.seed, trace.steps] = small(candidate.image)
        return self._table(rows, shown_steps(trace.steps), trace.chosen)

    def _table(self, paths: Sequence[tuple[int, Candidate]], steps: Sequence[int], chosen: int | None) -> str:
        """A row a path, a column a step, and what was said of the path."""
        head = "".join(f'<th scope="col">step {step}</th>' for step in steps)
        rows = []
        for number, candidate in paths:
            pictures = [self._pictures.get((candidate.seed, step)) for step in steps]
            cells = "".join(map(_cell, [candidate] * len(steps), [number] * len(steps), steps, pictures))
            mark = ' class="chosen"' if number == chosen else ""
            name = f"path {number + 1}" + (" ✓ chosen" if number == chosen else "")
            said = f'<td class="verdict">{escape(verdict(candidate))}</td>'
            rows.append(f'<tr{mark}><th scope="row">{name}</th>{cells}{said}</tr>')
        caption = f'<tr><th scope="col">path</th>{head}<th scope="col">verdict</th></tr>'
        table = f"<table><thead>{caption}</thead><tbody>{''.join(rows)}</tbody></table>"
        return f'<div class="paths" tabindex="0">{table}</div>'


def _cell(candidate: Candidate, number: int, step: int, picture: bytes | None) -> str:
    if picture is not None:
        data = base64.b64encode(picture).decode()
        return f'<td><img alt="path {number + 1} after step {step}" src="data:image/png;base64,{data}"></td>'
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
