"""Verifiers that break one rule each: what the checks are proved by.

Every class says in its name or in a line what is wrong with it; all else is as in the right toys.
"""

from typing import ClassVar

import torch
from torch import Tensor

from imagecot.checks.toys import AnsweringToy, ReflectingToy, ToyVerifier
from imagecot.contracts.questions import Question
from imagecot.contracts.reflection import Reflection
from imagecot.contracts.verifier import Conversation, Usage
from imagecot.errors import UsageError


class LacksBegin:
    settings: ClassVar[dict[str, object]] = {}
    usage = Usage()

    def ask(self, images: Tensor, prompts: list[str], question: Question, after: object = None) -> Tensor:
        return torch.zeros(len(images))


class AnswersInPercent(ToyVerifier):
    def _answers(self, bright: Tensor, about: Tensor, question: Question) -> Tensor:
        return super()._answers(bright, about, question) * 100


class AnswersInColumns(ToyVerifier):
    def _answers(self, bright: Tensor, about: Tensor, question: Question) -> Tensor:
        return super()._answers(bright, about, question)[:, None]


class VerifierSettingsHoldNan(ToyVerifier):
    settings: ClassVar[dict[str, object]] = {"temperature": float("nan")}


class PadsWrongly(ToyVerifier):
    """What is about a short prompt is answered otherwise beside a longer one."""

    def begin(self, images: Tensor, prompts: list[str], question: Question) -> tuple[Tensor, Conversation]:
        longest = max(len(prompt) for prompt in prompts)
        return super().begin(images, [prompt.ljust(longest) for prompt in prompts], question)


class WantsEveryPrompt(ToyVerifier):
    """One prompt goes with the first image; of the others it knows none."""

    def begin(self, images: Tensor, prompts: list[str], question: Question) -> tuple[Tensor, Conversation]:
        return super().begin(images, [*prompts, *["nothing"] * (len(images) - len(prompts))], question)


class BeginsOtherwise(ToyVerifier):
    def ask(self, images: Tensor, prompts: list[str], question: Question, after: Conversation | None = None) -> Tensor:
        answers = super().ask(images, prompts, question, after)
        return answers if question.follows is not None else answers * 0.9


class ForgetsTheFirstTurn(ToyVerifier):
    def ask(self, images: Tensor, prompts: list[str], question: Question, after: Conversation | None = None) -> Tensor:
        answers = super().ask(images, prompts, question, after)
        return answers if after is None else answers * 0.5


class SharesItsConversations(ToyVerifier):
    """What the images are is kept in `shared`, in the order that they were asked about."""

    def begin(self, images: Tensor, prompts: list[str], question: Question) -> tuple[Tensor, Conversation]:
        answers, turn = super().begin(images, prompts, question)
        return answers, Conversation(question, {"row": torch.zeros(len(images))}, turn.own)

    def ask(self, images: Tensor, prompts: list[str], question: Question, after: Conversation | None = None) -> Tensor:
        if after is None:
            return super().ask(images, prompts, question)
        rows = len(after.own["row"])
        return self._answers(after.shared["bright"][:rows], after.shared["prompt"][:rows], question)


class CountsBatches(ToyVerifier):
    def _answers(self, bright: Tensor, about: Tensor, question: Question) -> Tensor:
        before = self.usage
        answers = super()._answers(bright, about, question)
        self.usage = before + Usage(judge_calls=1)
        return answers


class PaintsOverImages(ToyVerifier):
    def begin(self, images: Tensor, prompts: list[str], question: Question) -> tuple[Tensor, Conversation]:
        answers = super().begin(images, prompts, question)
        images[:, :, 0, 0] = 0.5
        return answers


class HidesItsThreshold(ToyVerifier):
    def __init__(self) -> None:
        super().__init__()
        self.threshold = 0.4

    def _answers(self, bright: Tensor, about: Tensor, question: Question) -> Tensor:
        return super()._answers(bright + 0.4 - self.threshold, about, question)


class VerifierRefusesByValueError(ToyVerifier):
    def check_prompt(self, prompt: str) -> None:
        if len(prompt) > 1000:
            raise ValueError("too long")


class RefusesInWordsAlone(ToyVerifier):
    def check_question(self, question: Question) -> None:
        if question.follows is not None:
            raise UsageError("it reads no second turn")


class ReflectsInWords(ReflectingToy):
    def reflect(self, images: Tensor, prompts: list[str]) -> list[Reflection]:
        return [one.text for one in super().reflect(images, prompts)]  # type: ignore[misc]


class IsSureOfEverything(AnsweringToy):
    def answer_probability(self, images: Tensor, questions: list[str], answers: list[list[str]]) -> Tensor:
        return super().answer_probability(images, questions, answers) * 0 + 0.8


class AdvisesWhatIsNot(ToyVerifier):
    advice: ClassVar[dict[str, dict[str, object]]] = {"parm": {"keep": 4}}


class SeesNothing(ToyVerifier):
    """No rule is broken, but the same answer to everything is worth a remark."""

    def _answers(self, bright: Tensor, about: Tensor, question: Question) -> Tensor:
        return super()._answers(bright, about, question) * 0 + 0.5


VERIFIERS: dict[type, str | tuple[str, ...]] = {
    LacksBegin: "it has everything",
    AnswersInPercent: "answers are probabilities",
    AnswersInColumns: "answers are probabilities",
    VerifierSettingsHoldNan: "settings are json and stay",
    PadsWrongly: "an answer is the same in any batch",
    WantsEveryPrompt: "one prompt serves all images",
    BeginsOtherwise: "begin answers as ask",
    ForgetsTheFirstTurn: "a follow up is what it is from scratch",
    SharesItsConversations: "conversations can be selected",
    CountsBatches: "every answer is counted",
    PaintsOverImages: "images are not modified",
    HidesItsThreshold: "settings name what changes answers",
    VerifierRefusesByValueError: "the prompts can be read",
    RefusesInWordsAlone: "what is refused is not answered",
    ReflectsInWords: "reflections are answers",
    IsSureOfEverything: "open answers are probabilities",
    AdvisesWhatIsNot: "advice can be followed",
}
