"""A verifier that asks another one about every part of a prompt, and takes the mean of what it says.

Soft-TIFA of GenEval 2 (Kamath et al., 2025): the parts are the atoms of a prompt, and each answer is a probability. The
geometric mean tells whether all parts are there, the arithmetic one how many. Here a part is a prompt too, such as "a
photo of a red cup", and is asked about by the question that is asked about the whole: any verifier understands that.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from imagecot import guard
from imagecot.contracts.asking import Selective
from imagecot.contracts.prompts import Reader
from imagecot.contracts.questions import CLARITY, ORM, POTENTIAL, REFLECTION, Question
from imagecot.contracts.reflection import Reflection
from imagecot.contracts.values import JSON
from imagecot.contracts.verifier import Advised, Conversation, Usage, Verifier
from imagecot.geneval.reading import read_prompt
from imagecot.imported import calling
from imagecot.reflection.by_asking import YES, examined
from imagecot.verifiers.answers import continued, prompts_of

if TYPE_CHECKING:
    from imagecot.verifiers.splitting import Splitter

_BYTES = 1 << 28  # of the images of one call


class Mean(StrEnum):
    """How the answers about the parts become one."""

    geometric = "geometric"
    arithmetic = "arithmetic"


@dataclass(frozen=True, eq=False)
class Seen:
    """What B conversations are about: the images (B, 3, H, W), and which of the prompts each has (B,)."""

    images: Tensor
    prompt: Tensor


class Atoms:
    """Says yes to an image as far as `inner` says yes to the parts of its prompt.

    A text that several prompts share is asked about an image once. Some questions are answered in a way of their own:

        clarity     asked about the whole prompt
        potential   the ORM question about the parts, which tells more of a path's end than the question for potential
        reflection  the least answer about a part, since an image is accepted if nothing is to be corrected

    splitter  tells the parts of prompts
    mean      of P(yes) about the parts
    """

    def __init__(self, inner: Verifier, splitter: "Splitter", mean: Mean = Mean.geometric) -> None:
        self.inner, self.splitter, self.mean = inner, splitter, Mean(mean)

    @property
    def settings(self) -> Mapping[str, JSON]:
        """The mean, where parts come from, and the settings of the inner verifier."""
        return {"mean": self.mean.value, "parts": dict(self.splitter.settings), "of": dict(self.inner.settings)}

    @property
    def usage(self) -> Usage:
        """What the inner verifier has done: an answer about a part counts as one."""
        return self.inner.usage

    @property
    def advice(self) -> Mapping[str, Mapping[str, JSON]]:
        """What the inner verifier advises, if anything."""
        return self.inner.advice if isinstance(self.inner, Advised) else {}

    def check_prompt(self, prompt: str) -> None:
        """Raise UsageError for a prompt that cannot be split, or one that the inner verifier cannot read."""
        (parts,) = self.splitter.split([prompt])
        if isinstance(self.inner, Reader):
            with calling(self.inner, "check_prompt"):
                for text in (prompt, *parts):
                    self.inner.check_prompt(text)

    def check_question(self, question: Question) -> None:
        """Raise UsageError for a question that the inner verifier cannot answer."""
        if isinstance(self.inner, Selective):
            with calling(self.inner, "check_question"):
                for asked in (CLARITY, ORM) if question == POTENTIAL else (question,):
                    self.inner.check_question(asked)

    def ask(self, images: Tensor, prompts: list[str], question: Question, after: Conversation | None = None) -> Tensor:
        """P(yes) (B,) float64; a follow-up asks about the parts of what its conversation is about.

        UsageError for prompts that cannot be split, a question that the inner verifier cannot answer, images and
        prompts of other shapes, and a conversation that does not fit.
        """
        self.check_question(question)
        if after is not None:
            seen = continued(after, question, Seen)
            told: Sequence[str] = after.shared
            return self._about_parts(seen.images, [told[k] for k in seen.prompt.tolist()], question)
        prompts = prompts_of(images, prompts)
        if question == CLARITY:
            return guard.ask(self.inner, images, prompts, question).double()
        return self._about_parts(images, prompts, question)

    def begin(self, images: Tensor, prompts: list[str], question: Question) -> tuple[Tensor, Conversation]:
        """Like `ask`, and return the conversations too, which keep the images."""
        prompts = prompts_of(images, prompts)
        answers = self.ask(images, prompts, question)
        told = list(dict.fromkeys(prompts))
        index = torch.tensor([told.index(prompt) for prompt in prompts], device=images.device)
        return answers, Conversation(question, Seen(images, index), tuple(told))

    def reflect(self, images: Tensor, prompts: list[str]) -> list[Reflection]:
        """What is wrong with images (B, 3, H, W), in words: found by asking, or the parts that are not there.

        Of a prompt that can be read into objects, numbers, colours and places it is `imagecot.reflection.by_asking`
        that finds it. Of another one it is the parts with a no.
        """
        prompts = prompts_of(images, prompts)
        return [self._reflect(images[k : k + 1], prompt) for k, prompt in enumerate(prompts)]

    def _reflect(self, image: Tensor, prompt: str) -> Reflection:
        requirement = read_prompt(prompt)
        if requirement is not None:
            return examined(self, image, prompt, requirement, seed=0)
        (found,) = self._answers(image, [prompt], REFLECTION)
        worst = min(found.values())
        if worst >= YES:
            return Reflection("yes", worst)
        missing = [text for text, p in found.items() if p < YES]
        return Reflection("no, " + " ".join(f"the image does not show {text}." for text in missing), worst)

    def _about_parts(self, images: Tensor, prompts: Sequence[str], question: Question) -> Tensor:
        """What is made of P(yes) (B,) about the parts of each prompt."""
        found = self._answers(images, prompts, ORM if question == POTENTIAL else question)
        if question == REFLECTION:
            return torch.tensor([min(answers.values()) for answers in found], dtype=torch.float64)
        return torch.tensor([mean_of([*answers.values()], self.mean) for answers in found], dtype=torch.float64)

    def _answers(self, images: Tensor, prompts: Sequence[str], question: Question) -> list[dict[str, float]]:
        """P(yes) to a question about each image, by the parts of its prompt.

        Images that were expanded from one are one. The inner verifier is asked as much as possible at once.
        """
        told = list(dict.fromkeys(prompts))
        parts = dict(zip(told, self.splitter.split(told), strict=True))
        rows = range(len(images)) if images.stride(0) else [0] * len(images)
        asked = list(
            dict.fromkeys((row, text) for row, prompt in zip(rows, prompts, strict=True) for text in parts[prompt])
        )
        most = max(1, _BYTES // max(1, images[:1].numel() * images.element_size()))
        answers: dict[tuple[int, str], float] = {}
        for first in range(0, len(asked), most):
            some = asked[first : first + most]
            pictures = images[[row for row, _ in some]]
            found: list[float] = guard.ask(self.inner, pictures, [text for _, text in some], question).tolist()
            answers |= zip(some, found, strict=True)
        return [{text: answers[row, text] for text in parts[prompt]} for row, prompt in zip(rows, prompts, strict=True)]


def mean_of(answers: Sequence[float], mean: Mean) -> float:
    """The mean of at least one probability; of one it is that one."""
    if len(answers) == 1:
        return answers[0]
    values = torch.tensor(answers, dtype=torch.float64)
    found = values.mean() if mean == Mean.arithmetic else values.log().mean().exp()
    return min(max(answers), max(min(answers), float(found)))
