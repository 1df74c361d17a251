"""One evaluation: images of many prompts, drawn here or found in a folder, judged, and summed up.

The work is cut into units, each of which is written whole when it is done; so a run that was killed goes on with the
next unit and ends with the file of a run that was not, and several processes share the units among them.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from imagecot.errors import ImagecotError
from imagecot.files import clear_write_errors, write_whole
from imagecot.geneval.detection import Detections, Detector
from imagecot.geneval.folder import Entry, read_folder, read_image, write_entry
from imagecot.geneval.rules import judge_detections, kept_indices
from imagecot.identity import claim, refuse_occupied
from imagecot.images import from_picture

if TYPE_CHECKING:
    from imagecot.generators.paths import Generator
    from imagecot.verifiers import Verifier

Metadata = dict[str, Any]
Row = dict[str, Any]
PARTS, IDENTITY = "parts", "evaluation.json"
RESULTS, SECOND = "results.jsonl", "results-second.jsonl"
_RECORD = "detectors.json"
_PROMPTS_A_UNIT = 8
_ENTRIES_A_UNIT = 32


@dataclass(frozen=True)
class Drawing:
    """How the images of an evaluation are drawn: `samples` a prompt, each the choice of a search over `n` paths."""

    prompts: list[Metadata]
    samples: int
    strategy: str
    n: int
    seed: int


@dataclass
class Unit:
    """What one piece of the work left: rows of both judges, problems, and what was spent."""

    rows: list[Row] = field(default_factory=list)
    second: list[Row] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    cost: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Models:
    """What a process works with; `generator` and `verifier` only where images are drawn."""

    detector: Detector
    second: Detector | None = None
    generator: "Generator | None" = None
    verifier: "Verifier | None" = None


def result_row(file: str, metadata: Metadata, found: Detections) -> Row:
    """One image's line of the results, in the reference's keys and order."""
    verdict = judge_detections(metadata, found.boxes, found.colors)
    least = 0.9 if metadata["tag"] == "counting" else 0.3
    details = {}
    for name, raw in found.boxes.items():
        boxes = torch.tensor(raw, dtype=torch.float32).reshape(-1, 5).numpy()
        kept = kept_indices(boxes, threshold=least)
        if kept:
            details[name] = [[float(v) for v in boxes[k]] for k in kept]
    return {
        "filename": file,
        "tag": metadata["tag"],
        "prompt": metadata["prompt"],
        "correct": verdict.correct,
        "reason": verdict.reason,
        "metadata": json.dumps(metadata),
        "details": json.dumps(details),
    }


def _judge(models: Models, files: list[str], images: Sequence[Tensor], metadata: list[Metadata], unit: Unit) -> None:
    for detector, rows in ((models.detector, unit.rows), (models.second, unit.second)):
        if detector is None:
            continue
        for file, required, found in zip(files, metadata, detector.detect(images), strict=True):
            rows.append(result_row(file, required, found))


def judge_entries(entries: Sequence[Entry], models: Models) -> Unit:
    """Judge the images of some prompts' folders; what cannot be read becomes a problem."""
    unit = Unit()
    files: list[str] = []
    images: list[Tensor] = []
    metadata: list[Metadata] = []
    for entry in entries:
        unit.problems += entry.problems
        if entry.metadata is None:
            continue
        for file in entry.images:
            try:
                images.append(read_image(file))
            except ImagecotError as error:
                unit.problems.append(str(error))
                continue
            files.append(str(file))
            metadata.append(entry.metadata)
    if images:
        _judge(models, files, images, metadata, unit)
    return unit


def draw_prompts(drawing: Drawing, first: int, last: int, models: Models, folder: Path) -> Unit:
    """Draw, keep and judge the images of the prompts from `first` to `last` - 1."""
    from imagecot.generators.paths import finish
    from imagecot.generators.randomness import path_seeds, prompt_seed
    from imagecot.search.trace import Cost

    assert models.generator is not None
    prompts = drawing.prompts[first:last]
    began = time.perf_counter()
    seeds = [path_seeds(prompt_seed(drawing.seed, m["prompt"]), drawing.samples) for m in prompts]
    if drawing.strategy == "single":
        paths = models.generator.start([m["prompt"] for m in prompts for _ in range(drawing.samples)], torch.cat(seeds))
        paths = finish(models.generator, paths)
        images = models.generator.preview(paths).cpu()
        rows = len(paths) * paths.steps * models.generator.rows_per_path
        cost = Cost(generator_rows=rows, previews=len(paths))
    else:
        images, cost = _search(drawing, prompts, seeds, models)
    images = (images * 255).round() / 255  # what is judged is what is written
    spent = asdict(cost) | {"seconds": time.perf_counter() - began}
    unit = Unit(cost=spent)
    files: list[str] = []
    for k, metadata in enumerate(prompts):
        part = images[k * drawing.samples : (k + 1) * drawing.samples]
        files += write_entry(folder / f"{first + k:05d}", metadata, part)
    names = [str(Path(file).relative_to(folder.parent)) for file in files]
    _judge(models, names, list(images), [m for m in prompts for _ in range(drawing.samples)], unit)
    return unit


def _search(drawing: Drawing, prompts: list[Metadata], seeds: list[Tensor], models: Models) -> tuple[Tensor, Any]:
    from imagecot.search.many import search_many
    from imagecot.search.trace import Cost

    assert models.generator is not None
    traces = search_many(
        [metadata["prompt"] for metadata in prompts for _ in range(drawing.samples)],
        torch.cat(seeds).tolist(),
        generator=models.generator,
        verifier=models.verifier,
        strategy=drawing.strategy,
        n=drawing.n,
    )
    cost = sum((trace.cost for trace in traces), Cost())
    return torch.stack([from_picture(trace.image) for trace in traces]), cost


def unit_names(count: int, size: int) -> list[tuple[str, int, int]]:
    """The units of `count` prompts or entries: name, first, and one past the last."""
    return [(f"{a:05d}", a, min(a + size, count)) for a in range(0, count, size)]


class Evaluation:
    """The state of an evaluation on disk, under `out`; a folder belongs to one evaluation."""

    def __init__(self, out: Path, identity: dict[str, Any]) -> None:
        """Open or resume; UsageError where the folder holds something else."""
        self.out, self.parts, self.identity = out, out / PARTS, identity
        refuse_occupied(out / IDENTITY, identity, "evaluation")

    @property
    def finished(self) -> bool:
        """Whether the results are complete."""
        return (self.out / RESULTS).is_file()

    def missing(self, names: Sequence[tuple[str, int, int]]) -> list[tuple[str, int, int]]:
        """The units that are still to be done."""
        return [unit for unit in names if not (self.parts / f"{unit[0]}.json").is_file()]

    def keep(self, name: str, unit: Unit) -> None:
        """Write a finished unit."""
        write_whole(self.parts / f"{name}.json", json.dumps(asdict(unit)).encode())

    def begin(self, models: Models) -> None:
        """Make the folder this evaluation's, and keep what the judges' answers depend on, for the summary.

        Not before there are models, so that a command in which one of them was wrong can be corrected.
        """
        claim(self.out / IDENTITY, self.identity, "evaluation")
        with clear_write_errors(self.out):
            self.parts.mkdir(exist_ok=True)
        second = models.second.record() if models.second else None
        write_whole(self.parts / _RECORD, json.dumps({"detector": models.detector.record(), "second": second}).encode())

    def detectors(self) -> dict[str, Any]:
        """What `begin` kept of the judges."""
        record: dict[str, Any] = json.loads((self.parts / _RECORD).read_text(encoding="utf-8"))
        return record

    def units(self, names: Sequence[tuple[str, int, int]]) -> Iterator[Unit]:
        """Read the finished units in order."""
        for name, _, _ in names:
            yield Unit(**json.loads((self.parts / f"{name}.json").read_text(encoding="utf-8")))

    def close(self, names: Sequence[tuple[str, int, int]]) -> Unit:
        """Join all units into the results; returns them joined. The parts are deleted last."""
        whole = Unit()
        for unit in self.units(names):
            whole.rows += unit.rows
            whole.second += unit.second
            whole.problems += unit.problems
            for key, value in unit.cost.items():
                whole.cost[key] = whole.cost.get(key, 0) + value
        if not whole.rows:
            told = "; ".join(whole.problems[:3])
            raise ImagecotError(f"not one image could be scored: {told}")
        for file, rows in ((SECOND, whole.second), (RESULTS, whole.rows)):
            if rows:
                write_whole(self.out / file, "".join(json.dumps(row) + "\n" for row in rows).encode())
        return whole

    def clean(self) -> None:
        """Delete the parts of a finished evaluation."""
        shutil.rmtree(self.parts, ignore_errors=True)


def plan(
    source: Path | Drawing, samples: int, classes: Sequence[str]
) -> tuple[list[Entry], list[tuple[str, int, int]]]:
    """The entries of a folder (none where images are drawn) and the units of the work."""
    if isinstance(source, Path):
        entries = read_folder(source, samples, classes)
        return entries, unit_names(len(entries), _ENTRIES_A_UNIT)
    size = _PROMPTS_A_UNIT if source.strategy == "single" else 1
    return [], unit_names(len(source.prompts), size)


def work(
    source: Path | Drawing,
    entries: Sequence[Entry],
    units: Sequence[tuple[str, int, int]],
    models: Models,
    state: Evaluation,
    done: Callable[[], None] = lambda: None,
) -> None:
    """Do these units one after another."""
    for name, first, last in units:
        if isinstance(source, Path):
            unit = judge_entries(entries[first:last], models)
        else:
            unit = draw_prompts(source, first, last, models, state.out / "images")
        state.keep(name, unit)
        done()
