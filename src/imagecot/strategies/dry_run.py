"""The cost of a search at most: it runs on a generator that draws nothing and a verifier that always says no."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from imagecot.contracts.correction import Correction
from imagecot.contracts.generator import Canvas
from imagecot.contracts.paths import UNDECIDED, Paths
from imagecot.contracts.questions import Question
from imagecot.contracts.search import Cost, Strategy
from imagecot.contracts.values import JSON
from imagecot.contracts.verifier import Conversation, Usage
from imagecot.strategies.options import settings_of
from imagecot.strategies.search import search

_PROMPT = "a photo of a bench"


@dataclass(frozen=True)
class Sizes:
    """The sizes of the models, which are all that a dry run needs of them.

    steps, rows_per_path  of the generator
    judged, follow_up     tokens of a question about an image, and of one that continues a conversation
    """

    steps: int
    rows_per_path: int
    judged: int
    follow_up: int


def dry_run(strategy: Strategy, options: Mapping[str, JSON], n: int, sizes: Sizes) -> Cost:
    """Return the cost of a search over n paths where every answer is no; its seconds mean nothing.

    options  of the search; those that do not fit paths of so many steps are left out

    ImagecotError where the search asks for more than its `needs` say.
    """
    settings = settings_of(strategy, type(strategy).__name__, {}, options, sizes.steps)
    trace = search(
        _PROMPT,
        generator=_Generator(sizes.steps, sizes.rows_per_path),
        verifier=_Verifier(sizes) if "verifier" in strategy.needs else None,
        strategy=strategy,
        n=n,
        **settings.model_dump(),
    )
    return trace.cost


@dataclass
class _Generator:
    """Images of one pixel, which are all black."""

    steps: int
    rows_per_path: int
    paths_per_pass: int = 1 << 20

    @property
    def canvas(self) -> Canvas:
        """One code, one pixel."""
        return Canvas((1, 1), 1, (1, 1))

    @property
    def settings(self) -> Mapping[str, JSON]:
        """None."""
        return {}

    def start(self, prompts: list[str], seeds: Tensor) -> Paths:
        """Paths of one code."""
        codes = torch.full((len(seeds), 1), UNDECIDED)
        return Paths(codes, seeds, torch.zeros_like(seeds), 0, self.steps)

    def resume(self, prompts: list[str], seeds: Tensor, codes: Tensor, step: int) -> Paths:
        """The same later."""
        return replace(self.start(prompts, seeds), codes=codes, step=step)

    def correct(self, prompts: list[str], seeds: Tensor, corrections: Sequence[Correction]) -> Paths:
        """As from the prompt alone."""
        return self.start(prompts, seeds)

    @property
    def doubting_rows(self) -> int:
        """As of masked generators, which hide one half of an image, and then the other."""
        return 2 * self.rows_per_path

    def confidence(self, paths: Paths) -> Tensor:
        """None."""
        return torch.zeros(paths.codes.shape)

    def remask(self, paths: Paths, undecided: Tensor) -> Paths:
        """The same from the beginning: more than that is never drawn anew."""
        return replace(paths, codes=paths.codes.masked_fill(undecided, UNDECIDED), step=0)

    def advance(self, paths: Paths) -> Paths:
        """Decide the one code."""
        return replace(paths, codes=torch.zeros_like(paths.codes), step=paths.step + 1)

    def preview(self, paths: Paths) -> Tensor:
        """Black."""
        return self.decode(paths.codes)

    def decode(self, codes: Tensor) -> Tensor:
        """Black."""
        return torch.zeros(len(codes), 3, 1, 1)


class _Verifier:
    """Says no to everything, and counts what it would have read."""

    settings: Mapping[str, JSON]

    def __init__(self, sizes: Sizes) -> None:
        self.sizes, self.settings, self.usage = sizes, {}, Usage()

    def ask(self, images: Tensor, prompts: list[str], question: Question, after: Conversation | None = None) -> Tensor:
        """No."""
        tokens = self.sizes.judged if after is None else self.sizes.follow_up
        self.usage += Usage(len(images), len(images) * tokens)
        return torch.zeros(len(images))

    def begin(self, images: Tensor, prompts: list[str], question: Question) -> tuple[Tensor, Conversation]:
        """No, and nothing to go on with."""
        return self.ask(images, prompts, question), Conversation(question)
