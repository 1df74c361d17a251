"""What a strategy works with: the models with everything counted, the paths in groups, the resumption."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor

from imagecot import interruption
from imagecot.contracts.correction import Correction
from imagecot.contracts.generator import Generator
from imagecot.contracts.paths import Paths
from imagecot.contracts.questions import REFLECTION
from imagecot.contracts.randomness import path_seeds
from imagecot.errors import ImagecotError, UsageError
from imagecot.geneval.reading import read_prompt
from imagecot.images import from_picture, to_pictures
from imagecot.reflection.by_asking import examined
from imagecot.strategies.resume import Partial
from imagecot.strategies.together import Assess, draw_together
from imagecot.contracts.search import Candidate, Cost, Verdict
from imagecot.strategies.trace import ranked, shown, shown_steps

if TYPE_CHECKING:
    from imagecot.contracts.questions import Question
    from imagecot.contracts.reflection import Reflection
    from imagecot.contracts.verifier import Conversation
    from imagecot.contracts.verifier import Verifier

LARGEST_GROUP = 256  # paths in progress at once
KEPT_IMAGES = 256  # images of the best so many candidates stay in memory
Progress = Callable[[int, int], None]


@dataclass
class Run:
    """One search in progress.

    progress    called with the steps of paths done, and those in all
    first_step  the first step after which a strategy may ask whether a path shall stop
    keep        the share of the paths that became clear after the same step that runs on; 0 is the paper's rule
    corrector   who draws again what is wrong, where that is not the generator
    drawn       candidates that were drawn already, in a batch with those of other searches
    cost        what has been spent so far
    """

    prompt: str
    generator: Generator
    verifier: "Verifier | None"
    n: int
    seed: int
    partial: Partial | None = None
    progress: Progress | None = None
    first_step: int = 1
    keep: float = 0.0
    corrector: Generator | None = None
    drawn: list[Candidate] | None = None
    cost: Cost = field(default_factory=Cost)
    done: int = 0
    _start: Paths | None = None

    def __post_init__(self) -> None:
        self.shown_steps = frozenset(shown_steps(self.generator.steps))

    def in_groups(self, assess: Assess | None = None) -> list[Candidate]:
        """Take all n paths from step 0 to their candidates, a group of bounded size at a time.

        The k-th path is the same whatever the groups are. A group that an interrupted run finished is read
        back; of many candidates, only the best keep their image and what the picture of the steps needs.
        """
        if self.drawn is not None:
            _forget(self.drawn)
            return self.drawn
        seeds = path_seeds(self.seed, self.n)
        size = self._group_size()
        candidates: list[Candidate] = []
        for first in range(0, self.n, size):
            group = seeds[first : first + size]
            unit = f"paths-{first:06d}-{first + len(group):06d}"
            candidates += self.once(unit, lambda group=group: self.draw(self.start(group), assess))  # type: ignore[misc]
            _forget(candidates)
            self._report((first + len(group)) * self.generator.steps)
        return candidates

    def draw(self, paths: Paths, assess: Assess | None = None) -> list[Candidate]:
        """Take paths to their end, stop those that `assess` gives up, and score the others."""
        return draw_together(self.generator, [self], paths, [0] * len(paths), assess)[0]

    def redraw(self, correction: Correction, seeds: Tensor) -> list[Candidate]:
        """Draw paths of seeds (B,) to their end that correct a rejected image, and score them."""
        drawer = self.corrector or self.generator
        return draw_together(
            drawer, [self], drawer.start([self.prompt], seeds, history=[correction]), [0] * len(seeds)
        )[0]

    def once(self, unit: str, draw: Callable[[], list[Candidate]]) -> list[Candidate]:
        """Do a unit of work and keep its candidates, or read back those that an interrupted run kept."""
        found = self.partial.load(unit) if self.partial else None
        if found:
            drawn, spent = found
            self.cost += spent
            return drawn
        before, began = self.cost, time.perf_counter()
        drawn = draw()
        self.cost += Cost(seconds=time.perf_counter() - began)
        if self.partial:
            self.partial.save(unit, drawn, self.cost - before)
        return drawn

    def advance(self, paths: Paths, candidates: list[Candidate]) -> Paths:
        """Return the paths one step further; `candidates`, one a path, record codes for the picture."""
        paths = self.generator.advance(paths)
        self.note(self.generator, paths, candidates)
        return paths

    def note(self, drawer: Generator, paths: Paths, candidates: list[Candidate]) -> None:
        """Count one step that `drawer` did of `paths`, and record their codes for the picture."""
        self.cost += Cost(generator_rows=len(paths) * drawer.rows_per_path)
        if paths.step in self.shown_steps:
            for candidate, codes in zip(candidates, paths.proposed.to("cpu", torch.int32), strict=True):
                candidate.codes[paths.step] = codes
        self._report(self.done + len(paths))

    def preview(self, paths: Paths) -> Tensor:
        """Return the images (B, 3, H, W) in [0, 1] that the paths predict now."""
        self.cost += Cost(previews=len(paths))
        return self.generator.preview(paths)

    def start(self, seeds: Tensor) -> Paths:
        """Return paths of seeds (B,) at step 0. The text is encoded once: all fork from one path."""
        if self._start is None:
            self._start = self.generator.start([self.prompt], seeds[:1])
        return self._start.select([0] * len(seeds), seeds=seeds)

    def ask(
        self,
        images: Tensor,
        candidates: list[Candidate],
        step: int,
        question: "Question",
        after: "Conversation | None" = None,
    ) -> list[float]:
        """Return P(yes) for images (B, 3, H, W), noted as verdicts of `candidates` after `step` steps.

        after  the conversations that a follow-up question continues; `images` are not looked at then
        """
        return self._judged(
            lambda v: (v.ask(images, [self.prompt], question, after), None), candidates, step, question
        )[0]

    def begin(
        self, images: Tensor, candidates: list[Candidate], step: int, question: "Question"
    ) -> "tuple[list[float], Conversation]":
        """Like `ask`, and return the conversations too."""
        answers, conversation = self._judged(
            lambda v: v.begin(images, [self.prompt], question), candidates, step, question
        )
        assert conversation is not None
        return answers, conversation

    def reflect(self, candidate: Candidate) -> "Reflection":
        """Ask what is wrong with the image of a finished candidate; the answer's P(yes) joins its verdicts.

        Where the prompt can be read the reasons are found by asking about its parts, else the verifier writes them.
        """
        assert candidate.image is not None
        images = from_picture(candidate.image)[None]
        requirement = read_prompt(self.prompt)
        said: list[Reflection] = []

        def ask(verifier: "Verifier") -> "tuple[Tensor, None]":
            if requirement is None:
                said.extend(verifier.reflect(images, [self.prompt]))
            else:
                said.append(examined(verifier, images, self.prompt, requirement, candidate.seed))
            return torch.tensor([said[0].p_yes], dtype=torch.float64), None

        self._judged(ask, [candidate], self.generator.steps, REFLECTION)
        return said[0]

    def _judged(
        self,
        ask: "Callable[[Verifier], tuple[Tensor, Conversation | None]]",
        candidates: list[Candidate],
        step: int,
        question: "Question",
    ) -> "tuple[list[float], Conversation | None]":
        if self.verifier is None:
            raise UsageError("this search needs a verifier; name one, or search with single.")
        calls, tokens = self.verifier.judge_calls, self.verifier.tokens_judged
        p_yes, conversation = ask(self.verifier)
        answers = p_yes.tolist()
        self.cost += Cost(
            judge_calls=self.verifier.judge_calls - calls,
            tokens_judged=self.verifier.tokens_judged - tokens,
        )
        if not all(0.0 <= p <= 1.0 for p in answers):
            raise ImagecotError("the verifier's answer is not a probability; its weights are damaged.")
        for candidate, p in zip(candidates, answers, strict=True):
            candidate.verdicts.append(Verdict(step, question.name, p))
        return answers, conversation

    def decoder(self) -> Callable[[Tensor], list[Image.Image]]:
        """Return a function from codes (B, N) to images, which needs nothing else of the run."""
        generator, prompt = self.generator, self.prompt

        def decode(codes: Tensor) -> list[Image.Image]:
            start = generator.start([prompt], torch.zeros(1, dtype=torch.int64))
            codes = codes.to(start.codes)
            paths = replace(start.select([0] * len(codes)), codes=codes, proposed=codes, step=start.steps)
            return to_pictures(generator.preview(paths))

        return decode

    def _group_size(self) -> int:
        # More than one forward pass takes brings nothing, and a smaller group is lost less when interrupted.
        return min(LARGEST_GROUP, getattr(self.generator, "paths_per_pass", LARGEST_GROUP))

    def _report(self, done: int) -> None:
        interruption.check()
        self.done = done
        if self.progress:
            total = self.n * self.generator.steps
            self.progress(min(done, total), total)  # rounds of reflection come on top, and nobody knows how many


def _forget(candidates: list[Candidate]) -> None:
    """Drop the images of all but the best candidates, and the codes of all that no picture will show."""
    for index in ranked(candidates)[KEPT_IMAGES:]:
        candidates[index].image = None
    keep = set(shown(candidates))
    for index, candidate in enumerate(candidates):
        if index not in keep:
            candidate.codes.clear()
