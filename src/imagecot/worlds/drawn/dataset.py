"""Rendered scenes on disk: drawn once, in parallel, in chunks that are written whole, and memory-mapped after.

Scene `i` of seed `s` is a function of (s, i) alone, so two pools of one seed agree where they overlap.
"""

import io
import json
import os
import random
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from imagecot.contracts.metadata import Metadata
from imagecot.errors import ImagecotError, first_line
from imagecot.files import make_folder, write_whole
from imagecot.geneval.prompts import TASKS
from imagecot.reading import read_lines
from imagecot.watch import SILENT, Watch
from imagecot.worlds.drawn.captions import random_requirement
from imagecot.worlds.drawn.scenes import SIZE, Item, Scene, compose, draw

_CHUNK = 2000

# Counting and the two-object tasks are what generators and judges learn last: they get most of the pool.
TASK_WEIGHTS: dict[str, float] = {
    "single_object": 1.0,
    "two_object": 2.0,
    "counting": 2.0,
    "colors": 1.0,
    "position": 2.0,
    "color_attr": 2.0,
}


@dataclass(frozen=True)
class Example:
    """A requirement and a scene that fulfils it."""

    metadata: Metadata
    scene: Scene


def example(seed: int, index: int) -> Example:
    """The `index`-th example of a seed's endless stream."""
    rng = random.Random(f"{seed}:{index}")
    task = rng.choices(TASKS, [TASK_WEIGHTS[t] for t in TASKS])[0]
    metadata = random_requirement(rng, task)
    return Example(metadata, compose(metadata, rng))


def _render_chunk(folder: Path, seed: int, chunk: int) -> None:
    target = folder / f"{chunk:05d}.npy"
    if target.exists():
        return
    images = np.empty((_CHUNK, SIZE, SIZE, 3), np.uint8)
    lines = []
    for k in range(_CHUNK):
        item = example(seed, chunk * _CHUNK + k)
        images[k] = np.asarray(draw(item.scene))
        lines.append(json.dumps({"metadata": item.metadata.as_json(), "scene": asdict(item.scene)}))
    # The pictures come last: a chunk whose pictures are there is complete.
    write_whole(target.with_suffix(".jsonl"), "\n".join(lines).encode())
    buffer = io.BytesIO()
    np.save(buffer, images)
    write_whole(target, buffer.getvalue())


def _read_pictures(file: Path) -> np.ndarray:
    """The pictures of a chunk, memory-mapped; ImagecotError where they are not whole."""
    try:
        images: np.ndarray = np.load(file, mmap_mode="r")
        if images.shape != (_CHUNK, SIZE, SIZE, 3) or images.dtype != np.uint8:
            raise ValueError(f"it holds {images.dtype} of the shape {images.shape}")
    except Exception as error:  # numpy reads a header as Python, and raises what its parser raises
        raise ImagecotError(f"{file} is damaged ({first_line(error)}); delete it to draw it again.") from None
    return images


def _read_scenes(file: Path) -> list[str]:
    """The scenes of a chunk, a line each; ImagecotError where they are not whole."""
    again = f"delete {file.with_suffix('.npy')} to draw it again"
    lines = [line for _, line in read_lines(file, advice=again)]
    if len(lines) != _CHUNK:
        raise ImagecotError(f"{file} is damaged (it holds {len(lines)} of {_CHUNK} scenes); {again}.")
    return lines


class Pool:
    """`count` rendered examples of a seed, on disk under `folder`; `images(indices)` reads the pictures."""

    def __init__(
        self, folder: str | Path, count: int, seed: int, workers: int | None = None, *, watch: Watch = SILENT
    ) -> None:
        self.folder = Path(folder) / f"pictograms-{seed}"
        make_folder(self.folder)
        self._size = count
        chunks = range((count + _CHUNK - 1) // _CHUNK)
        missing = [c for c in chunks if not (self.folder / f"{c:05d}.npy").exists()]
        if missing:
            with ProcessPoolExecutor(workers or os.cpu_count()) as pool, watch.progress("drawing scenes") as progress:
                jobs = [pool.submit(_render_chunk, self.folder, seed, c) for c in missing]
                for done, job in enumerate(jobs):
                    progress(done, len(jobs))
                    job.result()
        self._arrays = [_read_pictures(self.folder / f"{c:05d}.npy") for c in chunks]
        self._lines: list[str] = []
        for c in chunks:
            self._lines += _read_scenes(self.folder / f"{c:05d}.jsonl")

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> Example:
        try:
            row = json.loads(self._lines[index])
            items = tuple(Item(**item) for item in row["scene"]["items"])
            return Example(Metadata.of(row["metadata"]), Scene(items, row["scene"]["background"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ImagecotError(
                f"scene {index} of {self.folder} is damaged ({first_line(error)}); delete the folder to draw it again."
            ) from None

    def images(self, indices: Sequence[int]) -> np.ndarray:
        """The pictures (B, 64, 64, 3) uint8 of these examples."""
        return np.stack([self._arrays[i // _CHUNK][i % _CHUNK] for i in indices])
