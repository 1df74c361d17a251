"""The small generator and the small verifier that searches are tried on, which count for themselves what they do.

Each comes in several kinds: one that can only do what its protocol says, others that also correct, reflect or answer.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from imagecot.contracts.correction import Correction
from imagecot.contracts.generator import Canvas
from imagecot.contracts.paths import UNDECIDED, Paths
from imagecot.contracts.questions import CLARITY, ORM, REFLECTION, Question
from imagecot.contracts.randomness import Stream, uniforms
from imagecot.contracts.reflection import Reflection
from imagecot.contracts.values import JSON
from imagecot.contracts.verifier import Conversation, Usage

# How bright an image must be for a yes: half of the rows make a preview clear, and nearly every image can be corrected.
_LEAST = {CLARITY: 0.25, REFLECTION: 0.75}
_WIDTH = 8  # numbers that a row of codes leaves in the cache


@dataclass
class ToyGenerator:
    """Draws 4 rows of 3 codes; what a row becomes depends on the prompt and on the rows before, which its cache holds.

    rows, previews  what it has done so far: rows of its forward pass, and images decoded
    """

    temperature: float = 1.0
    paths_per_pass: int = 3
    rows: int = 0
    previews: int = 0
    steps = 4
    rows_per_path = 1
    canvas = Canvas((4, 3), 16, (8, 6))

    def __post_init__(self) -> None:
        noise = torch.Generator().manual_seed(0)
        columns, codes = self.canvas.grid[1], self.canvas.codes
        self.head = torch.randn(_WIDTH, columns * codes, generator=noise, dtype=torch.float64)
        self.embedding = torch.randn(codes, _WIDTH, generator=noise, dtype=torch.float64)

    @property
    def settings(self) -> Mapping[str, JSON]:
        """What changes what is drawn."""
        return {"temperature": self.temperature}

    def start(self, prompts: list[str], seeds: Tensor) -> Paths:
        """Paths with nothing drawn and an empty cache."""
        count = len(seeds)
        codes = torch.full((count, self.canvas.positions), UNDECIDED)
        index = torch.arange(len(prompts)).expand(count).clone()
        cache = torch.zeros(count, self.canvas.grid[0], _WIDTH, dtype=torch.float64)
        shared = torch.stack([_numbers(prompt) for prompt in prompts])
        return Paths(codes, seeds, index, 0, self.steps, shared=shared, own={"cache": cache})

    def resume(self, prompts: list[str], seeds: Tensor, codes: Tensor, step: int) -> Paths:
        """Fill the cache from the rows that are drawn."""
        return replace(self.start(prompts, seeds), codes=codes, step=step, own={"cache": self._read(codes, step)})

    def advance(self, paths: Paths) -> Paths:
        """Draw one row; ValueError after the last."""
        if paths.finished:
            raise ValueError(f"the paths have done all {paths.steps} steps")
        parts = [
            self._row(paths.select(list(range(first, min(first + self.paths_per_pass, len(paths))))))
            for first in range(0, len(paths), self.paths_per_pass)
        ]
        self.rows += self.rows_per_path * len(paths)
        return replace(
            paths,
            codes=torch.cat([part.codes for part in parts]),
            step=paths.step + 1,
            own={"cache": torch.cat([part.own["cache"] for part in parts])},
        )

    def preview(self, paths: Paths) -> Tensor:
        """What is not drawn yet is black."""
        self.previews += len(paths)
        return self._images(paths.codes)

    def decode(self, codes: Tensor) -> Tensor:
        """A code is a shade: 0 is black, the highest is white."""
        self.previews += len(codes)
        return self._images(codes)

    def _row(self, paths: Paths) -> Paths:
        columns = self.canvas.grid[1]
        state = paths.shared[paths.prompt_index] + paths.own["cache"].sum(1)
        logits = (state @ self.head).view(len(paths), columns, self.canvas.codes)
        odds = torch.softmax(logits / max(self.temperature, 1e-3), dim=2).cumsum(2)
        chance = uniforms(paths.seeds, paths.step, Stream.CODES, columns)[:, :, None]
        drawn = (chance >= odds).sum(2).clamp(max=self.canvas.codes - 1)
        codes = paths.codes.clone()
        codes[:, paths.step * columns : (paths.step + 1) * columns] = drawn
        return replace(paths, codes=codes, own={"cache": self._read(codes, paths.step + 1)})

    def _read(self, codes: Tensor, step: int) -> Tensor:
        rows = codes.clamp(min=0).view(len(codes), *self.canvas.grid)
        cache = self.embedding[rows].mean(2)
        cache[:, step:] = 0
        return cache

    def _images(self, codes: Tensor) -> Tensor:
        shades = codes.clamp(min=0).view(len(codes), 1, *self.canvas.grid) / (self.canvas.codes - 1)
        return shades.repeat_interleave(2, 2).repeat_interleave(2, 3).expand(-1, 3, -1, -1).float()


class RemaskingToy(ToyGenerator):
    """A toy that also takes codes back: it goes on at the first row that lacks any, and keeps all others."""

    doubting_rows = 1

    def remask(self, paths: Paths, undecided: Tensor) -> Paths:
        """The paths at the first row of which one lacks a code."""
        codes = paths.codes.masked_fill(undecided, UNDECIDED)
        lacking = (codes == UNDECIDED).any(0).view(self.canvas.grid).any(1).tolist()
        step = lacking.index(True) if True in lacking else self.steps
        return replace(paths, codes=codes, step=step, own={"cache": self._read(codes, step)})

    def confidence(self, paths: Paths) -> Tensor:
        """The brighter, the surer."""
        self.rows += self.doubting_rows * len(paths)
        return paths.codes.clamp(min=0).double() / self.canvas.codes

    def _row(self, paths: Paths) -> Paths:
        after = super()._row(paths)
        codes = torch.where(paths.codes == UNDECIDED, after.codes, paths.codes)
        return replace(after, codes=codes, own={"cache": self._read(codes, after.step + 1)})


class CorrectingToy(RemaskingToy):
    """A toy that also draws again what was rejected."""

    def correct(self, prompts: list[str], seeds: Tensor, corrections: Sequence[Correction]) -> Paths:
        """Paths at step 0 that depend on the reasons and on the rejected codes too."""
        count = max(len(prompts), len(corrections))
        told = [
            _numbers(f"{prompts[k % len(prompts)]} {_written(corrections[k % len(corrections)])}") for k in range(count)
        ]
        paths = self.start([""] * count, seeds)
        return replace(paths, shared=torch.stack(told))


class ToyVerifier:
    """Says yes to bright images, of every question and prompt somewhat differently; an answer costs 7 tokens."""

    settings: Mapping[str, JSON] = {}

    def __init__(self) -> None:
        self.usage = Usage()

    def ask(self, images: Tensor, prompts: list[str], question: Question, after: Conversation | None = None) -> Tensor:
        """P(yes) (B,)."""
        if after is not None:
            return self._answers(after.own["bright"], after.own["prompt"], question)
        return self.begin(images, prompts, question)[0]

    def begin(self, images: Tensor, prompts: list[str], question: Question) -> tuple[Tensor, Conversation]:
        """P(yes) (B,), and what the images and prompts are made of."""
        bright = images.double().mean((1, 2, 3))
        about = torch.stack([_numbers(prompt)[0] for prompt in prompts]).expand(len(images))
        return self._answers(bright, about, question), Conversation(question, {"bright": bright, "prompt": about})

    def _answers(self, bright: Tensor, about: Tensor, question: Question) -> Tensor:
        self.usage += Usage(judge_calls=len(bright), tokens_judged=7 * len(bright))
        # A follow-up is not answered as the question before: it looks at what comes behind the comma.
        seen = bright if question.follows is None else (bright * 37).frac()
        least = _LEAST.get(question, 0.5)
        return torch.sigmoid(8 * (seen - least) + 0.2 * about + 0.1 * _numbers(question.name)[0]).float()


class ReflectingToy(ToyVerifier):
    """A toy that also says what is wrong."""

    def reflect(self, images: Tensor, prompts: list[str]) -> list[Reflection]:
        """No, where the image is not bright."""
        answers = self.ask(images, prompts, REFLECTION).tolist()
        return [Reflection("yes" if p >= 0.5 else f"no, it is too dark by {1 - p:.3f}", p) for p in answers]


class AnsweringToy(ToyVerifier):
    """A toy that answers other questions too: yes to bright images, else no."""

    def answer_probability(self, images: Tensor, questions: list[str], answers: list[list[str]]) -> Tensor:
        """How bright the image is, or how dark where the answer is no."""
        bright = images.double().mean((1, 2, 3)).expand(len(questions))
        about = torch.stack([_numbers(question)[0] for question in questions])
        yes = torch.tensor([any(spelling.strip().lower() == "yes" for spelling in answer) for answer in answers])
        found = self._answers(bright, about, ORM)
        return torch.where(yes, found, 1 - found)


def scores(verifier: ToyVerifier, images: Tensor, prompt: str) -> list[float]:
    """P(yes) to the ORM question, without counting it."""
    before = verifier.usage
    found: list[float] = verifier.ask(images, [prompt], ORM).tolist()
    verifier.usage = before
    return found


def _numbers(text: str) -> Tensor:
    """Numbers (8,) from -1 to 1 that belong to a text."""
    digest = hashlib.sha256(text.encode()).digest()[:_WIDTH]
    return torch.tensor(list(digest), dtype=torch.float64) / 127.5 - 1


def _written(correction: Correction) -> str:
    codes = "" if correction.codes is None else str(correction.codes.tolist())
    return f"{correction.reasons} {codes}"
