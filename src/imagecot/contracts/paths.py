"""Reasoning paths in progress, and the protocol of the models that advance them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

from torch import Tensor

MASKED = -1  # an image code that is not decided yet


@dataclass(frozen=True, eq=False)
class Correction:
    """What a path that draws again is told of the image that was rejected (paper, section 3.4).

    codes    (N,) image codes of that image, None to leave it out
    reasons  what is wrong with it, in words; may be empty
    """

    codes: Tensor | None
    reasons: str = ""


Asked = str | tuple[str, Correction]  # what an image is drawn from: a prompt, and what was wrong if it is drawn again


def without_words(asked: Asked) -> Asked:
    """What guidance goes against: the empty prompt, with the same rejected image."""
    return "" if isinstance(asked, str) else ("", replace(asked[1], reasons=""))


@dataclass(frozen=True)
class Paths:
    """A batch of B paths at one step; nothing in it is ever modified, so an older `Paths` can be resumed.

    codes         (B, N) int64, the decided image codes and MASKED elsewhere
    proposed      (B, N) int64, the complete codes that the last step predicted (MASKED before the first step)
    seeds         (B,) int64, the source of each path's randomness
    prompt_index  (B,) int64, each path's prompt (and correction) among those of `start`
    step, steps   steps done, and steps in all
    context       what the generator shares among the paths, such as the prompts' keys and values
    """

    codes: Tensor
    proposed: Tensor
    seeds: Tensor
    prompt_index: Tensor
    step: int
    steps: int
    context: Any = None

    def __len__(self) -> int:
        return len(self.seeds)

    @property
    def finished(self) -> bool:
        """Whether every step is done, so that all codes are decided."""
        return self.step >= self.steps

    def select(self, indices: Tensor | list[int], seeds: Tensor | None = None) -> Self:
        """Gather the paths at `indices` (int64 or a bool mask): survivors, or forks where an index repeats.

        Forks diverge only under new `seeds` (one for each index, see `fork_seeds`); without them each path
        keeps its own.
        """
        return replace(
            self,
            codes=self.codes[indices],
            proposed=self.proposed[indices],
            seeds=self.seeds[indices] if seeds is None else seeds.to(self.seeds),
            prompt_index=self.prompt_index[indices],
        )


class Generator(Protocol):
    """A model that draws an image from a prompt in `steps` steps."""

    @property
    def steps(self) -> int:
        """Steps of a path."""
        ...

    @property
    def rows_per_path(self) -> int:
        """Rows of the forward pass that one step of one path costs: 2 with guidance, 1 without."""
        ...

    def check_prompt(self, prompt: str) -> None:
        """Raise UsageError, saying why, for a prompt that cannot be drawn whole."""
        ...

    def start(self, prompts: list[str], seeds: Tensor, *, history: Sequence[Correction] | None = None) -> Paths:
        """Return paths at step 0: one for each of seeds (B,), of the one prompt or of B prompts.

        history  one for all paths or one for each, for generators that correct themselves
        """
        ...

    def advance(self, paths: Paths) -> Paths:
        """Return all paths one decoding step further."""
        ...

    def preview(self, paths: Paths) -> Tensor:
        """Return the images (B, 3, H, W) in [0, 1] that the paths' codes predict now."""
        ...


def states(generator: Generator, paths: Paths) -> Iterator[Paths]:
    """Yield the paths after each step that they still have to do."""
    while not paths.finished:
        paths = generator.advance(paths)
        yield paths


def finish(generator: Generator, paths: Paths) -> Paths:
    """Return the paths after their last step."""
    while not paths.finished:
        paths = generator.advance(paths)
    return paths
