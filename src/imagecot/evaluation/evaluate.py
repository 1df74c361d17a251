"""The work of an evaluation, a unit at a time: images of many prompts, drawn here or found in a folder, and judged.

Each unit is written whole when it is done; so a run that was killed goes on with the next unit and ends with the file
of a run that was not, and several processes share the units among them.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from imagecot import guard, interruption
from imagecot.contracts.detector import Detections, Detector
from imagecot.contracts.metadata import Metadata
from imagecot.contracts.values import JSON
from imagecot.errors import ImagecotError, UsageError
from imagecot.evaluation.folder import Entry, ImageSet, read_image, write_entry
from imagecot.evaluation.state import IMAGES, Evaluation, Piece, Row, Unit, pieces, pieces_of, settings_of
from imagecot.evaluation.summary import Judges
from imagecot.files import make_own_folder
from imagecot.geneval.rules import COUNTING_THRESHOLD, THRESHOLD, judge_detections, kept_indices
from imagecot.images import from_picture

if TYPE_CHECKING:
    from imagecot.contracts.generator import Generator
    from imagecot.contracts.search import Cost
    from imagecot.contracts.verifier import Verifier
    from imagecot.strategies.defaults import Named

_PROMPTS_A_UNIT = 8
_ENTRIES_A_UNIT = 32


@dataclass(frozen=True)
class Drawing:
    """How the images of an evaluation are drawn: `samples` a prompt, each the choice of a search over `n` paths."""

    prompts: list[Metadata]
    samples: int
    named: "Named"
    n: int
    seed: int


@dataclass(frozen=True)
class Models:
    """What a process works with; `generator` and `verifier` only where images are drawn."""

    detector: Detector
    second: Detector | None = None
    generator: "Generator | None" = None
    verifier: "Verifier | None" = None
    corrector: "Generator | None" = None

    @property
    def settings(self) -> dict[str, JSON]:
        """How those draw and verify that do, beside their weights: entries of the identity."""
        roles = {"generator": self.generator, "verifier": self.verifier, "corrector": self.corrector}
        return {settings_of(role): dict(model.settings) for role, model in roles.items() if model is not None}

    @property
    def judges(self) -> Judges:
        """What the judges' answers depend on."""
        return Judges(detector=_said(self.detector), second=_said(self.second) if self.second else None)


def _said(detector: Detector) -> dict[str, object]:
    return {"detector": detector.name, **guard.record(detector)}


def plan(source: ImageSet | Drawing) -> list[Piece]:
    """The units of the work."""
    if isinstance(source, ImageSet):
        return pieces_of(source.entries, _ENTRIES_A_UNIT)
    return pieces(len(source.prompts), _PROMPTS_A_UNIT if source.named.paths(source.n) == 1 else 1)


def check_drawing(drawing: Drawing, models: Models) -> None:
    """Raise UsageError where a prompt cannot be drawn or judged, or the models cannot do what the search needs."""
    from imagecot.promises import TAKEN
    from imagecot.prompts import check_prompts
    from imagecot.strategies.request import Request

    assert models.generator is not None
    texts = [metadata.prompt for metadata in drawing.prompts]
    check_prompts(texts, models.generator, models.verifier, models.corrector)
    taken = sorted(TAKEN.intersection(drawing.named.given))
    if taken:
        raise UsageError(f"an evaluation cannot set {taken[0]} of a search; leave it out.")
    named, drawers = drawing.named, (models.generator, models.verifier)
    for text in texts:
        Request(text, *drawers, named.strategy, drawing.n, drawing.seed, named.given, models.corrector)


def work(
    source: ImageSet | Drawing,
    todo: Sequence[Piece],
    models: Models,
    state: Evaluation,
    done: Callable[[], None] = lambda: None,
) -> None:
    """Do these units one after another. The folder is claimed when the first of them can be written."""
    for number, piece in enumerate(todo):
        interruption.check()
        if isinstance(source, ImageSet):
            unit = judge_entries(source.entries[piece.first : piece.last], models)
            state.begin()
        else:
            unit = draw_prompts(source, piece, models, state)
        if number == 0:
            state.keep_judges(models.judges)
        state.keep(piece, unit)
        done()


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
    from imagecot.contracts.randomness import path_seeds, prompt_seed

    prompts = drawing.prompts[piece.first : piece.last]
    began = time.perf_counter()
    seeds = [path_seeds(prompt_seed(drawing.seed, m.prompt), drawing.samples) for m in prompts]
    images, cost = _search(drawing, prompts, seeds, models)
    spent = asdict(cost) | {"seconds": time.perf_counter() - began}
    state.begin()
    make_own_folder(state.out / IMAGES)
    names: list[str] = []
    for k, metadata in enumerate(prompts):
        part = images[k * drawing.samples : (k + 1) * drawing.samples]
        files = write_entry(state.out / IMAGES / f"{piece.first + k:05d}", metadata, part)
        names += [str(Path(file).relative_to(state.out)) for file in files]
    asked = [m for m in prompts for _ in range(drawing.samples)]
    judged = [_rows(detector, names, list(images), asked) for detector in (models.detector, models.second)]
    return Unit(rows=judged[0], second=judged[1], cost=spent)


def _search(drawing: Drawing, prompts: list[Metadata], seeds: list[Tensor], models: Models) -> tuple[Tensor, "Cost"]:
    """Return the chosen images (B, 3, H, W), 8-bit levels in [0, 1], and what they cost."""
    from imagecot.contracts.search import Cost
    from imagecot.strategies.many import search_many

    assert models.generator is not None
    traces = search_many(
        [metadata.prompt for metadata in prompts for _ in range(drawing.samples)],
        torch.cat(seeds).tolist(),
        generator=models.generator,
        verifier=models.verifier,
        strategy=drawing.named.strategy,
        n=drawing.n,
        corrector=models.corrector,
        of_paths=True,
        **drawing.named.given,
    )
    cost = sum((trace.cost for trace in traces), Cost())
    return torch.stack([from_picture(trace.image) for trace in traces]), cost
