"""A verifier that is asked many times about the same images, and answers what it said the first time.

Searches over one pool of paths ask the same questions about the same previews again and again. What is counted is every
question, as if it had been answered anew.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from imagecot import guard
from imagecot.contracts.asking import Selective
from imagecot.contracts.prompts import Reader
from imagecot.contracts.questions import Question
from imagecot.contracts.reflection import Reflector
from imagecot.contracts.values import JSON
from imagecot.contracts.verifier import Advised, Conversation, Usage, Verifier

Key = tuple[bytes, str, Question, Question | None]  # image, prompt, question, and what it follows
Answer = tuple[float, Usage]  # P(yes), and what it took
Said = tuple[Tensor, Usage]  # the same of several images (B,), and what it took in all


@dataclass(frozen=True, eq=False)
class Turn:
    """A first turn about images (B, 3, H, W), with the conversations where all of them were asked about anew."""

    images: Tensor
    prompts: Sequence[str]
    question: Question
    conversation: Conversation | None


@dataclass(eq=False)
class Remembered:
    """Stands for a verifier, which is asked only what it was not asked before."""

    verifier: Verifier
    usage: Usage = field(default_factory=Usage)

    def __post_init__(self) -> None:
        verifier = self.verifier
        self._said: dict[Key, Answer] = {}
        if isinstance(verifier, Advised):
            self.advice = verifier.advice
        if isinstance(verifier, Selective):
            self.check_question = verifier.check_question
        if isinstance(verifier, Reader):
            self.check_prompt = verifier.check_prompt
        if isinstance(verifier, Reflector):
            self.reflect = verifier.reflect

    @property
    def settings(self) -> Mapping[str, JSON]:
        """As of the verifier."""
        return self.verifier.settings

    def ask(self, images: Tensor, prompts: list[str], question: Question, after: Conversation | None = None) -> Tensor:
        """P(yes) (B,) for images (B, 3, H, W) in [0, 1] and one prompt for each, or one for all."""
        if after is not None:
            return self._followed(after, question)
        about = _each(prompts, len(images))

        def asked(rows: list[int]) -> Said:
            before = self.verifier.usage
            found = guard.ask(self.verifier, images[rows], [about[k] for k in rows], question)
            return found, guard.usage(self.verifier, before)

        return self._answers(_keys(images, about, question), asked)

    def begin(self, images: Tensor, prompts: list[str], question: Question) -> tuple[Tensor, Conversation]:
        """P(yes) (B,), and what a follow-up question continues: the rows of this turn."""
        about, kept = _each(prompts, len(images)), list[Conversation]()

        def begun(rows: list[int]) -> Said:
            before = self.verifier.usage
            found, conversation = guard.begin(self.verifier, images[rows], [about[k] for k in rows], question)
            if len(rows) == len(images):
                kept.append(conversation)
            return found, guard.usage(self.verifier, before)

        answers = self._answers(_keys(images, about, question), begun)
        turn = Turn(images, about, question, kept[0] if kept else None)
        return answers, Conversation(question, own=torch.arange(len(images)), shared=turn)

    def _followed(self, after: Conversation, question: Question) -> Tensor:
        """P(yes) to a question that continues a turn; where its conversations were not kept, they are begun again."""
        turn: Turn = after.shared
        of_turn = after.own.tolist()
        about = [turn.prompts[k] for k in of_turn]

        def followed(rows: list[int]) -> Said:
            chosen = [of_turn[k] for k in rows]
            images, prompts = turn.images[chosen], [about[k] for k in rows]
            if turn.conversation is None:
                _, conversation = guard.begin(self.verifier, images, prompts, turn.question)
            else:
                conversation = turn.conversation.select(torch.tensor(chosen))
            before = self.verifier.usage
            found = guard.ask(self.verifier, images, prompts, question, conversation)
            return found, guard.usage(self.verifier, before)

        return self._answers(_keys(turn.images[of_turn], about, question, turn.question), followed)

    def _answers(self, keys: Sequence[Key], ask: Callable[[list[int]], Said]) -> Tensor:
        """What is remembered; `ask` says the rest, by rows."""
        new = [row for row, key in enumerate(keys) if key not in self._said and keys.index(key) == row]
        if new:
            found, used = ask(new)
            each = Usage(judge_calls=used.judge_calls // len(new), tokens_judged=used.tokens_judged // len(new))
            self._said.update({keys[row]: (p, each) for row, p in zip(new, found.tolist(), strict=True)})
        answers = [self._said[key] for key in keys]
        self.usage = sum((used for _, used in answers), self.usage)
        return torch.tensor([p for p, _ in answers], dtype=torch.float64)


def _keys(images: Tensor, prompts: Sequence[str], question: Question, follows: Question | None = None) -> list[Key]:
    return [(_digest(image), prompt, question, follows) for image, prompt in zip(images, prompts, strict=True)]


def _each(prompts: Sequence[str], count: int) -> list[str]:
    return [*prompts] * count if len(prompts) == 1 else [*prompts]


def _digest(image: Tensor) -> bytes:
    return hashlib.blake2b(image.detach().float().cpu().contiguous().numpy().tobytes(), digest_size=16).digest()
