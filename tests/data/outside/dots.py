"""A world of somebody else, in one file: pictures of dots and bars, its prompts, its detector, and who draws them.

The generator draws 2 x 3 patches, a row a step; a code depends on the prompt and on the sum of the codes before, which
every path keeps for itself.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from imagecot.contracts import UNDECIDED, Canvas, Correction, Detections, Paths, Stream, uniforms

ROWS, COLUMNS, CODES, PATCH = 2, 3, 5, 4
KINDS = ("dot", "bar")


class Dots:
    """Prompts for a dot or a bar."""

    name = "dots"
    classes = KINDS
    judges = ("sees-dots",)
    words = None

    def prompts(self) -> list[dict[str, object]]:
        return [asked(kind, "a photo of a {}") for kind in KINDS]

    def training_prompts(self, per_task: int, seed: int) -> list[dict[str, object]]:
        return [asked(kind, f"picture {seed} of a {{}}") for kind in KINDS][:per_task]

    def load_judges(self, name: str, colors: str | None = None) -> "list[Sight]":
        return [Sight()]


def asked(kind: str, wording: str) -> dict[str, object]:
    return {"tag": "single_object", "include": [{"class": kind, "count": 1}], "prompt": wording.format(kind)}


class Sight:
    """Sees a dot where the last patch is dark, else a bar."""

    name, classes = "sight", KINDS

    def detect(self, images: Sequence[Tensor]) -> list[Detections]:
        kinds = ["dot" if float(image[:, -PATCH:, -PATCH:].mean()) < 0.5 else "bar" for image in images]
        return [Detections({kind: [[0.0, 0.0, 4.0, 4.0, 0.95]]}, {}) for kind in kinds]

    def record(self) -> dict[str, object]:
        return {"weights": "none"}


class Pen:
    """Draws; it has no other temperature, corrects nothing and finds no codes of pictures."""

    steps, rows_per_path, paths_per_pass = ROWS, 1, 3
    canvas = Canvas((ROWS, COLUMNS), CODES, (ROWS * PATCH, COLUMNS * PATCH))

    def __init__(self, ink: int = 1) -> None:
        self.settings = {"ink": ink}

    def start(self, prompts: list[str], seeds: Tensor) -> Paths:
        count = len(seeds)
        codes, index = torch.full((count, ROWS * COLUMNS), UNDECIDED), torch.arange(len(prompts)).expand(count).clone()
        return Paths(codes, seeds, index, 0, ROWS, shared=[len(p) for p in prompts], own=torch.zeros(count))

    def resume(self, prompts: list[str], seeds: Tensor, codes: Tensor, step: int) -> Paths:
        own = codes[:, : step * COLUMNS].sum(1).float()
        return replace(self.start(prompts, seeds), codes=codes, step=step, own=own)

    def advance(self, paths: Paths) -> Paths:
        chance = uniforms(paths.seeds, paths.step, Stream.USER, COLUMNS) * CODES
        told = torch.tensor([paths.shared[k] for k in paths.prompt_index.tolist()])
        drawn = (chance + (told + paths.own + self.settings["ink"])[:, None]).long() % CODES
        codes = paths.codes.clone()
        codes[:, paths.step * COLUMNS : (paths.step + 1) * COLUMNS] = drawn
        return replace(paths, codes=codes, step=paths.step + 1, own=paths.own + drawn.sum(1))

    def preview(self, paths: Paths) -> Tensor:
        return self.decode(paths.codes.clamp(min=0))

    def decode(self, codes: Tensor) -> Tensor:
        shade = codes.view(-1, 1, ROWS, COLUMNS).float() / (CODES - 1)
        return shade.repeat_interleave(PATCH, 2).repeat_interleave(PATCH, 3).expand(-1, 3, -1, -1)


class Brush(Pen):
    """Draws at any temperature, and has too many codes for ranking data to keep."""

    def adjusted(self, **settings: object) -> "Brush":
        other = Brush()
        other.settings = self.settings | settings
        return other


class Palette(Pen):
    """Has more codes than ranking data keep."""

    canvas = replace(Pen.canvas, codes=40_000)


class Eraser(Pen):
    """Draws again what was rejected."""

    def correct(self, prompts: list[str], seeds: Tensor, corrections: Sequence[Correction]) -> Paths:
        told = [f"{prompt} {one.reasons} {one.codes}" for prompt, one in zip(prompts, corrections, strict=True)]
        return self.start(told, seeds)
