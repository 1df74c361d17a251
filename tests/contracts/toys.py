"""A small masked generator that can do everything that a generator may, so that each capability has a right example."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from imagecot.contracts.correction import Asked, Correction
from imagecot.contracts.generator import Canvas
from imagecot.contracts.paths import UNDECIDED, Paths
from imagecot.contracts.randomness import uniforms
from imagecot.contracts.scorer import Draws, Terms
from imagecot.errors import UsageError

POSITIONS, CODES = 6, 5


class Head(nn.Module):
    """Logits (B, N, C) of every position from the prompt's number (B,) alone."""

    def __init__(self) -> None:
        super().__init__()
        noise = torch.Generator().manual_seed(2)
        self.bias = nn.Parameter(torch.randn(POSITIONS, CODES, generator=noise))
        self.by_prompt = nn.Parameter(torch.randn(POSITIONS, CODES, generator=noise))

    def forward(self, prompts: Tensor) -> Tensor:
        return self.bias + self.by_prompt * prompts[:, None, None]


@dataclass
class Everything:
    """Draws 2 x 3 codes in 3 steps, two at a time; the last prediction of all codes is a path's own."""

    temperature: float = 1.0
    cold: bool = False
    fill: str = "prediction"
    paths_per_pass: int = 4
    steps = 3
    rows_per_path = 1
    canvas = Canvas((2, 3), CODES, (2, 3))

    def __post_init__(self) -> None:
        self.head = Head()

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"temperature": self.temperature, "cold": self.cold, "fill": self.fill}

    def check_prompt(self, prompt: str) -> None:
        if len(prompt) > 1000:
            raise UsageError("the prompt is too long; shorten it.")

    def adjusted(self, **settings: Any) -> "Everything":
        unknown = settings.keys() - {"temperature", "cold"}
        if unknown:
            raise UsageError(f"there is no setting {unknown}.")
        other = copy.copy(self)
        for name, value in settings.items():
            setattr(other, name, value)
        return other

    def start(self, prompts: list[str], seeds: Tensor) -> Paths:
        codes = torch.full((len(seeds), POSITIONS), UNDECIDED)
        index = torch.arange(len(prompts)).expand(len(seeds)).clone()
        return Paths(codes, seeds, index, 0, self.steps, shared=number(prompts), own={"predicted": codes})

    def correct(self, prompts: list[str], seeds: Tensor, corrections: Sequence[Correction]) -> Paths:
        count = max(len(prompts), len(corrections))
        asked = [
            f"{prompts[k % len(prompts)]} {corrections[k % len(corrections)].reasons} {written(corrections, k)}"
            for k in range(count)
        ]
        return self.start(asked, seeds)

    def resume(self, prompts: list[str], seeds: Tensor, codes: Tensor, step: int) -> Paths:
        return replace(self.start(prompts, seeds), codes=codes, step=step, own={"predicted": codes})

    def advance(self, paths: Paths) -> Paths:
        if paths.finished:
            raise ValueError("the paths are finished")
        logits = self.head(paths.shared[paths.prompt_index]).detach() / max(self.temperature, 0.1)
        if self.cold:
            logits = 3 * logits
        odds = logits.double().softmax(2).cumsum(2)
        chance = uniforms(paths.seeds, paths.step, 16, POSITIONS)
        predicted = (chance[..., None] >= odds).sum(2).clamp(max=CODES - 1)
        predicted = torch.where(paths.codes == UNDECIDED, predicted, paths.codes)
        shown = torch.arange(POSITIONS) < 2 * (paths.step + 1)
        codes = torch.where((paths.codes != UNDECIDED) | shown, predicted, UNDECIDED)
        return replace(paths, codes=codes, step=paths.step + 1, own={"predicted": predicted})

    def remask(self, paths: Paths, undecided: Tensor) -> Paths:
        codes = paths.codes.masked_fill(undecided, UNDECIDED)
        first = int(torch.where((codes == UNDECIDED).any(0))[0].min())
        return replace(paths, codes=codes, step=first // 2, own={"predicted": codes})

    doubting_rows = 1

    def confidence(self, paths: Paths) -> Tensor:
        return torch.where(paths.codes == UNDECIDED, 0.0, (1 + paths.codes) / CODES)

    def predicted(self, paths: Paths) -> Tensor:
        return paths.own["predicted"]

    def preview(self, paths: Paths) -> Tensor:
        return self.decode(self.predicted(paths))

    def decode(self, codes: Tensor) -> Tensor:
        return (codes / (CODES - 1)).view(-1, 1, 2, 3).expand(-1, 3, -1, -1)

    def encode(self, images: Tensor) -> Tensor:
        return (images.mean(1) * (CODES - 1)).round().long().flatten(1)

    def log_likelihood(self, asked: Sequence[Asked], codes: Tensor, draws: Draws) -> Tensor:
        return self._log_probs(number([text_of(one) for one in asked]), codes).sum(1)

    def step_terms(self, states: Sequence[Paths], draws: int) -> Terms:
        final = states[-1]
        log_probs = self._log_probs(final.shared[final.prompt_index], final.codes)
        return Terms(log_probs, torch.full((len(final),), 1 / POSITIONS))

    def _log_probs(self, prompts: Tensor, codes: Tensor) -> Tensor:
        return self.head(prompts).log_softmax(2).gather(2, codes[..., None])[..., 0]

    def trainable(self) -> nn.Module:
        return self.head

    @property
    def adapted_layers(self) -> str:
        return "none"

    def copy(self, dtype: torch.dtype) -> "Everything":
        other = copy.copy(self)
        other.head = copy.deepcopy(self.head).to(dtype)
        return other

    def save(self, folder: Path) -> None:
        folder.mkdir()
        torch.save(self.head.state_dict(), folder / "head.pt")


def number(prompts: Sequence[str]) -> Tensor:
    """A number for each prompt (P,)."""
    return torch.tensor([sum(prompt.encode()) % 97 / 48 - 1 for prompt in prompts])


def text_of(asked: Asked) -> str:
    return asked if isinstance(asked, str) else asked[0]


def written(corrections: Sequence[Correction], k: int) -> str:
    codes = corrections[k % len(corrections)].codes
    return "" if codes is None else str(codes.tolist())
