"""The work of an evaluation, a unit at a time: images of many prompts, drawn here or found in a folder, and judged.

Each unit is written whole when it is done; so a run that was killed goes on with the next unit and ends with the file
of a run that was not, and several processes share the units among them.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from imagecot import guard
from imagecot.contracts.detector import Detections, Detector
from imagecot.contracts.metadata import Metadata
from imagecot.contracts.values import JSON
from imagecot.errors import ImagecotError
from imagecot.evaluation.drawing import Drawing, check_drawing, draw, settings_of_drawers
from imagecot.evaluation.folder import Entry, ImageSet, read_image
from imagecot.evaluation.state import Evaluation, Piece, Row, Unit, pieces_of
from imagecot.evaluation.summary import Judges
from imagecot.execution.work import Keep
from imagecot.geneval.rules import COUNTING_THRESHOLD, THRESHOLD, judge_detections, kept_indices

if TYPE_CHECKING:
    from imagecot.strategies.defaults import Models as Drawers

ENTRIES_A_UNIT = 32


@dataclass(frozen=True)
class Models:
    """What a process works with; `drawers` only where images are drawn."""

    detector: Detector
    second: Detector | None = None
    drawers: "Drawers | None" = None

    @property
    def judges(self) -> Judges:
        """What the judges' answers depend on."""
        return Judges(detector=_said(self.detector), second=_said(self.second) if self.second else None)


def _said(detector: Detector) -> dict[str, object]:
    return {"detector": detector.name, **guard.record(detector)}


def plan(source: ImageSet | Drawing) -> list[Piece]:
    """The units of the work."""
    return pieces_of(source.entries, ENTRIES_A_UNIT) if isinstance(source, ImageSet) else source.pieces


@dataclass(frozen=True)
class Scoring:
    """A process of an evaluation by GenEval, as a `Scorer`."""

    source: ImageSet | Drawing
    models: Models

    @property
    def settings(self) -> dict[str, JSON]:
        """Those of the models that draw and verify."""
        return settings_of_drawers(self.models.drawers)

    def check(self) -> None:
        """As of `check_drawing`, where anything is drawn."""
        if isinstance(self.source, Drawing):
            assert self.models.drawers is not None
            check_drawing(self.source, self.models.drawers)

    def work(self, piece: Piece, state: Evaluation) -> Keep:
        """Do a unit. The folder is claimed when there is something to write."""
        if isinstance(self.source, ImageSet):
            unit = judge_entries(self.source.entries[piece.first : piece.last], self.models)
        else:
            unit = draw_prompts(self.source, piece, self.models, state)
        return lambda: state.keep(piece, unit, self.models.judges)


def result_row(file: str, metadata: Metadata, found: Detections) -> Row:
    """One image's line of the results."""
    verdict = judge_detections(metadata, found.boxes, found.colors)
    least = COUNTING_THRESHOLD if metadata.tag == "counting" else THRESHOLD
    details = {}
    for name, raw in found.boxes.items():
        boxes = torch.tensor(raw, dtype=torch.float32).reshape(-1, 5).numpy()
        kept = kept_indices(boxes, threshold=least)
        if kept:
            details[name] = [[float(v) for v in boxes[k]] for k in kept]
    return Row(
        filename=file,
        tag=metadata.tag,
        prompt=metadata.prompt,
        correct=verdict.correct,
        reason=verdict.reason,
        metadata=metadata.text,
        details=json.dumps(details),
    )


def _rows(
    detector: Detector | None, files: Sequence[str], images: Sequence[Tensor], metadata: Sequence[Metadata]
) -> list[Row]:
    if detector is None or not images:
        return []
    return [
        result_row(file, required, found)
        for file, required, found in zip(files, metadata, guard.detect(detector, images), strict=True)
    ]


def judge_entries(entries: Sequence[Entry], models: Models) -> Unit:
    """Judge the images of some prompts' folders; what cannot be read becomes a problem."""
    problems: list[str] = []
    files: list[str] = []
    images: list[Tensor] = []
    metadata: list[Metadata] = []
    for entry in entries:
        problems += entry.problems
        if entry.metadata is None:
            continue
        for file in entry.images:
            try:
                images.append(read_image(file))
            except ImagecotError as error:
                problems.append(str(error))
                continue
            files.append(str(file))
            metadata.append(entry.metadata)
    judged = [_rows(detector, files, images, metadata) for detector in (models.detector, models.second)]
    return Unit(rows=judged[0], second=judged[1], problems=problems)


def draw_prompts(drawing: Drawing, piece: Piece, models: Models, state: Evaluation) -> Unit:
    """Draw, judge and write the images of a unit's prompts."""
    assert models.drawers is not None
    drawn = draw(drawing, piece, models.drawers, state)
    judged = [
        _rows(detector, drawn.files, list(drawn.images), drawn.metadata)
        for detector in (models.detector, models.second)
    ]
    return Unit(rows=judged[0], second=judged[1], cost=drawn.cost)
