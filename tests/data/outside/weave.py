"""Models of somebody else, in one file: a raster generator, a verifier, a detector and a search.

The generator draws woven pictures of 3 x 5 patches, a row a step, from left to right. Each code depends on the prompt
and, by a cache that every path has for itself, on all codes before. Nothing here is of the package but its contracts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from imagecot.contracts import (
    CLARITY,
    ORM,
    PRM,
    REFLECTION,
    UNDECIDED,
    Candidate,
    Canvas,
    Choice,
    Conversation,
    Correction,
    Detections,
    Paths,
    Question,
    Reflection,
    Run,
    Stream,
    Usage,
    path_seeds,
    uniforms,
)

ROWS, COLUMNS, CODES, PATCH, WIDTH = 3, 5, 7, 4, 6


def words(prompt: str) -> int:
    """A number for a prompt."""
    return sum((k + 1) * ord(character) for k, character in enumerate(prompt)) % 101


class Weave:
    """A raster generator: a step is a row of codes; `own` holds the keys of all codes of each path."""

    steps = ROWS
    rows_per_path = 1
    paths_per_pass = 5
    canvas = Canvas((ROWS, COLUMNS), CODES, (ROWS * PATCH, COLUMNS * PATCH))

    def __init__(self, sharpness: float = 3.0) -> None:
        self.sharpness = sharpness
        table = torch.arange(CODES * WIDTH, dtype=torch.float64).reshape(CODES, WIDTH)
        self.keys = torch.cos(1.7 * table)
        self.passes = 0

    @property
    def settings(self) -> dict[str, float]:
        return {"sharpness": self.sharpness}

    def start(self, prompts: list[str], seeds: Tensor) -> Paths:
        distinct = list(dict.fromkeys(prompts))
        index = torch.tensor([distinct.index(prompt) for prompt in prompts]).expand(len(seeds)).clone()
        return self._paths([words(prompt) for prompt in distinct], index, seeds)

    def correct(self, prompts: list[str], seeds: Tensor, corrections: Sequence[Correction]) -> Paths:
        told = [len(c.reasons) + (0 if c.codes is None else int(c.codes.sum())) for c in corrections]
        numbers = [words(prompts[k % len(prompts)]) + told[k % len(told)] for k in range(len(seeds))]
        return self._paths(numbers, torch.arange(len(seeds)), seeds)

    def _paths(self, numbers: list[int], index: Tensor, seeds: Tensor) -> Paths:
        codes = torch.full((len(seeds), ROWS * COLUMNS), UNDECIDED)
        cache = {"keys": torch.zeros(len(seeds), 0, WIDTH, dtype=torch.float64)}
        return Paths(codes, seeds, index, 0, self.steps, shared=tuple(numbers), own=cache)

    def resume(self, prompts: list[str], seeds: Tensor, codes: Tensor, step: int) -> Paths:
        start = self.start(prompts, seeds)
        known = codes[:, : step * COLUMNS].long()
        return replace(start, codes=codes.long(), step=step, own={"keys": self.keys[known]})

    def advance(self, paths: Paths) -> Paths:
        if paths.finished:
            raise ValueError("all rows are drawn")
        uniform = uniforms(paths.seeds, paths.step, Stream.USER, COLUMNS).double()
        parts = range(0, len(paths), self.paths_per_pass)
        done = [self._row(paths, uniform, slice(first, first + self.paths_per_pass)) for first in parts]
        drawn = torch.cat([row for row, _ in done]) if done else torch.zeros(0, COLUMNS, dtype=torch.int64)
        keys = torch.cat([cache for _, cache in done]) if done else paths.own["keys"]
        codes = paths.codes.clone()
        codes[:, paths.step * COLUMNS : (paths.step + 1) * COLUMNS] = drawn
        return replace(paths, codes=codes, step=paths.step + 1, own={"keys": keys})

    def _row(self, paths: Paths, uniform: Tensor, part: slice) -> tuple[Tensor, Tensor]:
        self.passes += 1
        cache, drawn = paths.own["keys"][part], []
        prompt = torch.tensor(paths.shared, dtype=torch.float64)[paths.prompt_index[part]][:, None]
        for column in range(COLUMNS):
            place = paths.step * COLUMNS + column
            context = torch.cos(prompt * torch.arange(1, WIDTH + 1) + place) + cache.sum(1)
            sure = (self.sharpness * torch.sin(context @ self.keys.T)).softmax(1).cumsum(1)
            code = (sure < uniform[part, column, None]).sum(1).clamp(max=CODES - 1)
            cache = torch.cat([cache, self.keys[code][:, None]], 1)
            drawn.append(code)
        return torch.stack(drawn, 1), cache

    def preview(self, paths: Paths) -> Tensor:
        if paths.step == 0:
            raise ValueError("nothing is drawn yet")
        return self._picture(paths.codes, CODES / 2)

    def decode(self, codes: Tensor) -> Tensor:
        return self._picture(codes.long(), 0.0)

    def _picture(self, codes: Tensor, blank: float) -> Tensor:
        shade = torch.where(codes < 0, blank, codes.double()).float() / CODES
        grey = shade.view(-1, 1, ROWS, COLUMNS).repeat_interleave(PATCH, 2).repeat_interleave(PATCH, 3)
        return torch.cat([grey, grey**2, 1 - grey], 1)


class Eye:
    """A verifier that likes pictures as bright as the prompt's number says, and sees more of them the later it is."""

    def __init__(self) -> None:
        self.usage = Usage()
        self.settings = {"wording": "none"}

    def ask(self, images: Tensor, prompts: list[str], question: Question, after: Conversation | None = None) -> Tensor:
        if after is not None:
            seen = after.own
            self.usage += Usage(judge_calls=len(seen), tokens_judged=2 * len(seen))
            return ((seen - 0.6) * 4).clamp(0.0, 1.0)
        self.usage += Usage(judge_calls=len(images), tokens_judged=10 * len(images))
        return self._likes(images, prompts, question)

    def begin(self, images: Tensor, prompts: list[str], question: Question) -> tuple[Tensor, Conversation]:
        clear = self.ask(images, prompts, question)
        return clear, Conversation(question, own=self._likes(images, prompts, ORM))

    def reflect(self, images: Tensor, prompts: list[str]) -> list[Reflection]:
        likes = self._likes(images, prompts, REFLECTION)
        self.usage += Usage(judge_calls=len(images), tokens_judged=12 * len(images))
        return [Reflection("yes" if p >= 0.5 else "no, the weave is of another shade", p) for p in likes.tolist()]

    def _likes(self, images: Tensor, prompts: list[str], question: Question) -> Tensor:
        wanted = torch.tensor([words(prompt) / 101 for prompt in prompts], dtype=torch.float64)
        likes = (1 - (images[:, 0].double().mean((1, 2)) - wanted).abs()).round(decimals=5)
        return likes * {CLARITY.name: 0.75, PRM.name: 0.8, REFLECTION.name: 0.6}.get(question.name, 1.0)


class Loom:
    """A detector: a picture whose top left patch is dark shows an apple, any other a cup."""

    name = "loom"
    classes = ("apple", "cup")

    def detect(self, images: Sequence[Tensor]) -> list[Detections]:
        found = []
        for image in images:
            dark = float(image[0, :PATCH, :PATCH].mean()) < 0.4
            box = [[0.0, 0.0, float(PATCH), float(PATCH), 0.95]]
            found.append(Detections({"apple" if dark else "cup": box}, {"apple": ["red"], "cup": ["red"]}))
        return found

    def record(self) -> dict[str, object]:
        return {"weights": "none", "name": self.name}


class HalfwaySettings(BaseModel):
    """When the worse half goes."""

    model_config = ConfigDict(extra="forbid", strict=True)
    at: Annotated[int, Field(ge=1, le=ROWS - 1)] = Field(1, description="The step after which the worse half stops.")


class Halfway:
    """After one step the worse half of the paths stops; the best of the others is taken."""

    Settings = HalfwaySettings
    needs = frozenset({"verifier"})

    def paths(self, n: int) -> int:
        return n

    def choose(self, run: Run) -> Choice:
        seeds = path_seeds(run.seed, run.n)
        candidates = [Candidate(seed) for seed in seeds.tolist()]
        alive, paths = list(range(run.n)), run.start(seeds)
        while not paths.finished:
            paths = run.advance(paths, [candidates[k] for k in alive])
            if paths.step == run.settings.at:
                answers = run.ask(run.preview(paths), [candidates[k] for k in alive], paths.step, PRM)
                best = sorted(range(len(alive)), key=lambda row: -answers[row])[: (len(alive) + 1) // 2]
                for row in set(range(len(alive))) - set(best):
                    candidates[alive[row]].truncated_at = paths.step
                paths, alive = paths.select(sorted(best)), [alive[row] for row in sorted(best)]
        run.score(paths, [candidates[k] for k in alive])
        return Choice(candidates, max(alive, key=lambda k: (candidates[k].score, -k)))

    def replay(self, recorded: Sequence[object], settings: HalfwaySettings) -> None:
        """It asks about steps, which a record does not hold."""


class WorstSettings(BaseModel):
    """Nothing to set."""

    model_config = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True)
class Worst:
    """Takes the image that the verifier likes least: a control."""

    Settings = WorstSettings
    needs = frozenset({"verifier"})

    def paths(self, n: int) -> int:
        return n

    def choose(self, run: Run) -> Choice:
        candidates = run.in_groups()
        return Choice(candidates, min(range(len(candidates)), key=lambda k: (candidates[k].score, k)))

    def replay(self, recorded: Sequence[object], settings: WorstSettings) -> Choice:
        return Choice(recorded, min(range(len(recorded)), key=lambda k: (recorded[k].score, k)))


class Woven:
    """A world of two prompts, judged by the loom."""

    name = "woven"
    classes = ("apple", "cup")
    judges = ("weave:Loom",)
    words = None

    def prompts(self) -> list[dict[str, object]]:
        asked = [("single_object", "apple"), ("single_object", "cup"), ("two_object", "apple")]
        return [
            {"tag": tag, "include": [{"class": name, "count": 1}], "prompt": f"a woven {name} of {tag}"}
            for tag, name in asked
        ]

    def training_prompts(self, per_task: int, seed: int) -> list[dict[str, object]]:
        return [{"tag": "single_object", "include": [{"class": "cup", "count": 1}], "prompt": f"cup {seed}"}]

    def load_judges(self, name: str, colors: str | None = None) -> list[Loom]:
        return [Loom()]
