"""Judges that know the truth about the drawn pictograms, and judges that are wrong in one way each."""

import hashlib
from functools import cache
from typing import ClassVar

import torch
from torch import Tensor

from imagecot.contracts.questions import PRM, Question
from imagecot.contracts.verifier import Conversation, Usage
from imagecot.errors import UsageError
from imagecot.trust.drawn import drawn_material


def key(image: Tensor) -> bytes:
    return (image * 255).round().byte().numpy().tobytes()


@cache
def truth() -> frozenset[tuple[bytes, str]]:
    """Pictures and the prompts that are true of them."""
    material = drawn_material()
    keys = [key(picture) for picture in material.pictures]
    found = {(keys[case.picture], case.prompt) for case in material.cases if case.fits}
    return frozenset(found | {(keys[k], group.prompt) for group in material.groups for k in group.pictures[::2]})


def hashed(*parts: bytes) -> float:
    """A number from 0 to 1 that belongs to what is given."""
    return int.from_bytes(hashlib.sha256(b"|".join(parts)).digest()[:4], "big") / 2**32


class Right:
    """Knows the truth, and says it with a logit of 3, a little more or less."""

    settings: ClassVar[dict[str, object]] = {}

    def __init__(self) -> None:
        self.usage = Usage()

    def logit(self, image: Tensor, prompt: str) -> float:
        sign = 1 if (key(image), prompt) in truth() else -1
        return 3 * sign + hashed(key(image), prompt.encode()) - 0.5

    def ask(self, images: Tensor, prompts: list[str], question: Question, after: Conversation | None = None) -> Tensor:
        self.usage += Usage(judge_calls=len(images))
        each = prompts if len(prompts) == len(images) else prompts * len(images)
        return torch.tensor([self.logit(*asked) for asked in zip(images, each, strict=True)]).sigmoid()

    def begin(self, images: Tensor, prompts: list[str], question: Question) -> tuple[Tensor, Conversation]:
        return self.ask(images, prompts, question), Conversation(question)


class AlwaysYes(Right):
    def logit(self, image: Tensor, prompt: str) -> float:
        return 3 + hashed(key(image), prompt.encode())


class AlwaysNo(Right):
    def logit(self, image: Tensor, prompt: str) -> float:
        return -3 - hashed(key(image), prompt.encode())


class IgnoresItsPicture(Right):
    def logit(self, image: Tensor, prompt: str) -> float:
        return 6 * hashed(prompt.encode()) - 3


class IgnoresItsPrompt(Right):
    def logit(self, image: Tensor, prompt: str) -> float:
        return 6 * hashed(key(image)) - 3


class Guesses(Right):
    def logit(self, image: Tensor, prompt: str) -> float:
        return 6 * hashed(key(image), prompt.encode()) - 3


class CountsPlaces(Right):
    """What is last in a batch gets less."""

    def ask(self, images: Tensor, prompts: list[str], question: Question, after: Conversation | None = None) -> Tensor:
        answers = super().ask(images, prompts, question)
        return answers * (1 - 0.1 * torch.arange(len(images)) / 64)


class LooksAside(Right):
    """What others of a batch are counts too; alone a picture is judged as it should be."""

    def ask(self, images: Tensor, prompts: list[str], question: Question, after: Conversation | None = None) -> Tensor:
        answers = super().ask(images, prompts, question)
        return answers + 0.1 * (answers.mean() - answers)


class Coarse(Right):
    """In bfloat16 its logits are multiples of 1/8, as the head of a large model has them."""

    def __init__(self, dtype: str = "float32") -> None:
        super().__init__()
        self.dtype = dtype
        self.settings = {"precision": dtype}  # type: ignore[misc]

    def logit(self, image: Tensor, prompt: str) -> float:
        exact = super().logit(image, prompt)
        return round(exact * 8) / 8 if self.dtype == "bfloat16" else exact


class Copy(Right):
    """Says the same, but for prompts about two things."""

    def logit(self, image: Tensor, prompt: str) -> float:
        exact = super().logit(image, prompt)
        return exact - 1.5 * hashed(key(image)) if " and " in prompt else exact


class Timid(Right):
    """Orders everything rightly, and hardly believes in what it affirms or denies."""

    def ask(self, images: Tensor, prompts: list[str], question: Question, after: Conversation | None = None) -> Tensor:
        answers = super().ask(images, prompts, question)
        return torch.where(answers > 0.5, 0.52 + answers / 100, 0.23 + answers / 100)


class Contrary(Right):
    def logit(self, image: Tensor, prompt: str) -> float:
        return -super().logit(image, prompt)


class OnlyPrm(Right):
    """Answers one question."""

    def check_question(self, question: Question) -> None:
        if question != PRM:
            raise UsageError(f"{question.name} is not known.")

    def ask(self, images: Tensor, prompts: list[str], question: Question, after: Conversation | None = None) -> Tensor:
        self.check_question(question)
        return super().ask(images, prompts, question)


class Silent(Right):
    def check_question(self, question: Question) -> None:
        raise UsageError(f"{question.name} is not known.")


class Dull(Right):
    """Cannot read the word of a colour."""

    def check_prompt(self, prompt: str) -> None:
        if "purple" in prompt:
            raise UsageError("purple is not known; leave it out.")


class Broken(Right):
    def ask(self, images: Tensor, prompts: list[str], question: Question, after: Conversation | None = None) -> Tensor:
        return torch.full((len(images),), float("nan"))
