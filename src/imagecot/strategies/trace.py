"""The trace: everything that happened in one search, in memory and as a folder.

A folder holds `image.png` (the choice), `steps.png` (paths and steps), `previews.zip` (what paths showed)
and `trace.jsonl`: a first line that says what was run, a line for each path, and a last line with the choice and the
cost. Each file is written whole or not at all, `trace.jsonl` last: a folder that has it is finished.
"""

import io
import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from imagecot import __version__
from imagecot.contracts.reflection import Reflection
from imagecot.contracts.search import Candidate, Cost
from imagecot.contracts.values import JSON
from imagecot.errors import ImagecotError
from imagecot.files import make_folder, write_whole
from imagecot.reading import Model, parse, read_lines
from imagecot.strategies.previews import MOST_PATHS, PREVIEWS, pack

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

TRACE, IMAGE, STEPS = "trace.jsonl", "image.png", "steps.png"
SHOWN_PATHS = 8
SHOWN_TRUNCATED = 3
SHOWN_CORRECTIONS = 2  # of a round of reflection
MOST_PIXELS = 1 << 19  # decoded for pictures beside what was judged: eight images of 256 x 256


@dataclass(frozen=True, eq=False)
class Seen:
    """What was kept of a path after a step: its codes (N,), as of `imagecot.generators.shown.kept`."""

    seed: int
    step: int
    codes: "Tensor"


@dataclass(frozen=True)
class Round:
    """A round of reflection: what the verifier wrote about a candidate, and the candidates drawn in its place."""

    candidate: int
    reflection: Reflection
    drawn: list[int]


def ranked(candidates: list[Candidate]) -> list[int]:
    """Return the indices of the finished paths, the highest score first; of equal scores, the first."""
    finished = [i for i, candidate in enumerate(candidates) if candidate.truncated_at is None]
    return sorted(finished, key=lambda i: -(candidates[i].score or 0.0))


def shown(candidates: list[Candidate], chosen: int | None = None) -> list[int]:
    """Return the indices of the paths that a picture shows: the best, a few truncated ones, the best of each round.

    chosen  the path that is shown in any case, as a search may take another than the best
    """
    finished = ranked(candidates)
    corrected: list[int] = []
    for number in range(1, 1 + max((candidate.round for candidate in candidates), default=0)):
        corrected += [i for i in finished if candidates[i].round == number][:SHOWN_CORRECTIONS]
    room = SHOWN_PATHS - len(corrected)
    truncated = [i for i, candidate in enumerate(candidates) if candidate.truncated_at is not None]
    best = [i for i in finished if not candidates[i].round][: max(room - len(truncated[:SHOWN_TRUNCATED]), 1)]
    rows = best + truncated[: room - len(best)] + corrected
    return rows if chosen is None or chosen in rows else [chosen, *rows[:-1]]


def pictured(candidates: list[Candidate], chosen: int) -> list[int]:
    """Return the indices of the paths whose previews are kept: those that are shown, then the first others."""
    first = shown(candidates, chosen)
    others = [i for i in range(len(candidates)) if i not in first]
    return [*first, *others][: max(len(first), MOST_PATHS)]


def shown_steps(steps: int, columns: int = 6) -> list[int]:
    """Return the steps (from 1) that a picture shows: the first, the last and evenly many between."""
    if steps <= columns:
        return list(range(1, steps + 1))
    return [round(1 + k * (steps - 1) / (columns - 1)) for k in range(columns)]


@dataclass
class Trace:
    """One search: its request, every path, the choice and the cost.

    generator, verifier  names of the models; verifier is None where nothing was judged
    steps, settings      steps of a path, and the other settings of generator and search
    weights              SHA-256 of the weight files, by role, where they are known
    model_settings       settings of verifier and corrector, by role
    chosen               index of the choice among `candidates`
    cost, picture_cost   of the search, and of the picture of the steps and the previews
    look                 decodes what was kept of paths into their previews
    """

    prompt: str
    strategy: str
    generator: str
    verifier: str | None
    n: int
    seed: int
    steps: int
    settings: Mapping[str, JSON]
    weights: Mapping[str, str]
    candidates: list[Candidate]
    chosen: int
    cost: Cost
    picture_cost: Cost = field(default_factory=Cost)
    model_settings: Mapping[str, Mapping[str, JSON]] = field(default_factory=dict)
    look: "Callable[[Sequence[Seen]], list[Image.Image]] | None" = field(default=None, repr=False, compare=False)
    _picture: "Image.Image | None" = field(default=None, repr=False, compare=False)

    @property
    def choice(self) -> Candidate:
        """The chosen path."""
        return self.candidates[self.chosen]

    @property
    def image(self) -> "Image.Image":
        """The chosen image."""
        assert self.choice.image is not None  # a search never chooses a path that it stopped
        return self.choice.image

    @property
    def kept(self) -> int:
        """How many paths ran to their end."""
        return sum(candidate.truncated_at is None for candidate in self.candidates)

    @property
    def rounds(self) -> list[Round]:
        """The rounds of reflection in their order; the last has drawn nothing where it ended with a yes."""
        return [
            Round(index, candidate.reflection, [k for k, c in enumerate(self.candidates) if c.corrects == index])
            for index, candidate in sorted(enumerate(self.candidates), key=lambda pair: pair[1].round)
            if candidate.reflection is not None
        ]

    @property
    def identity(self) -> dict[str, JSON]:
        """What defines the search: equal identities give equal results."""
        return {
            "prompt": self.prompt,
            "strategy": self.strategy,
            "generator": self.generator,
            "verifier": self.verifier,
            "n": self.n,
            "seed": self.seed,
            "steps": self.steps,
            "settings": self.settings,
            "weights": self.weights,
            "model_settings": self.model_settings,
        }

    @property
    def picture(self) -> "Image.Image":
        """The picture of paths and steps; drawn, and its previews decoded, when first asked for."""
        if self._picture is None:
            from imagecot.strategies.picture import draw_steps

            self._decode_previews(shown(self.candidates, self.chosen), shown_steps(self.steps))
            began = time.perf_counter()
            self._picture = draw_steps(self)
            self.picture_cost += Cost(seconds=time.perf_counter() - began)
        return self._picture

    def _decode_previews(self, paths: Sequence[int], steps: Sequence[int] | None = None) -> None:
        """Decode what was kept of some paths after these steps, or after any, as long as that is little work."""
        began = time.perf_counter()
        wanted = [
            (candidate, Seen(candidate.seed, step, codes))
            for candidate in (self.candidates[i] for i in paths)
            for step, codes in candidate.codes.items()
            if step not in candidate.previews and (step < self.steps or candidate.image is None)
            if steps is None or step in steps
        ]
        wanted = wanted[: max(MOST_PIXELS // (self.image.width * self.image.height) - self.picture_cost.previews, 0)]
        if not wanted or self.look is None:
            return
        for (candidate, seen), image in zip(wanted, self.look([seen for _, seen in wanted]), strict=True):
            candidate.previews[seen.step] = image
        self.picture_cost += Cost(seconds=time.perf_counter() - began, previews=len(wanted))

    def save(self, folder: str | Path) -> None:
        """Write the files of a trace; ImagecotError where that is not possible."""
        files = self.files()  # before anything is written
        folder = make_folder(Path(folder))
        for name, data in files.items():
            write_whole(folder / name, data)

    def files(self) -> dict[str, bytes]:
        """The files that `save` writes, in their order."""
        from imagecot.strategies.lines import as_line

        paths = pictured(self.candidates, self.chosen)
        self._decode_previews(paths)
        image, steps = _png(self.image), _png(self.picture)
        lines = [
            {"kind": "run", **self.identity, "versions": versions()},
            *({"kind": "path", "index": i, **as_line(c)} for i, c in enumerate(self.candidates)),
            {
                "kind": "choice",
                "chosen": self.chosen,
                "cost": asdict(self.cost),
                "picture_cost": asdict(self.picture_cost),
            },
        ]
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        previews = pack(self.candidates, paths, self.steps) if self.look else None
        seen = {PREVIEWS: previews} if previews is not None else {}
        return {IMAGE: image, STEPS: steps, **seen, TRACE: text.encode("utf-8")}

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a folder that `save` wrote; of the images only the choice is there.

        ImagecotError where a file is missing or damaged.
        """
        from imagecot.images import open_picture
        from imagecot.strategies.lines import ChoiceLine, PathLine, RunLine

        folder = Path(folder)
        file, advice = folder / TRACE, f"delete {folder} and run the search again"
        lines = list(read_lines(file, advice=advice))
        if len(lines) < 3:
            raise ImagecotError(f"{file} is not complete: it has {len(lines)} of at least 3 lines; {advice}.")

        def line(k: int, schema: type[Model]) -> Model:
            return parse(lines[k][1], schema, f"line {lines[k][0]} of {file}", advice=advice)

        run, last = line(0, RunLine), line(-1, ChoiceLine)
        candidates = [line(k, PathLine).candidate() for k in range(1, len(lines) - 1)]
        if last.chosen >= len(candidates) or candidates[last.chosen].truncated_at is not None:
            raise ImagecotError(f"line {lines[-1][0]} of {file}: path {last.chosen} cannot be the choice; {advice}.")
        trace = cls(
            prompt=run.prompt,
            strategy=run.strategy,
            generator=run.generator,
            verifier=run.verifier,
            n=run.n,
            seed=run.seed,
            steps=run.steps,
            settings=run.settings,
            weights=run.weights,
            candidates=candidates,
            chosen=last.chosen,
            cost=last.cost.cost(),
            picture_cost=last.picture_cost.cost(),
            model_settings=run.model_settings,
        )
        trace.choice.image = open_picture(folder / IMAGE)
        trace._picture = open_picture(folder / STEPS)
        return trace


def versions() -> dict[str, str]:
    """Return the versions that a result may depend on."""
    import torch

    return {"imagecot": __version__, "torch": torch.__version__, "python": platform.python_version()}


def _png(image: "Image.Image") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=4)  # Pillow's own 6 takes 1.4 times as long, for 2 % of the bytes
    return buffer.getvalue()
