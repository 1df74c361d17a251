"""Several verifiers as one: the mean or the least of their P(yes), for those who fear that one judge is fooled.

The mean follows all judges a little; the least is a yes that every judge has to give. Both are of P(yes) as each part
says it, so a part whose answers differ more has more to say in the mean.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from imagecot import guard
from imagecot.contracts.asking import Selective
from imagecot.contracts.prompts import Reader
from imagecot.contracts.questions import ORM, REFLECTION, Question
from imagecot.contracts.reflection import Reflection, Reflector
from imagecot.contracts.tree import Tree
from imagecot.contracts.values import JSON
from imagecot.contracts.verifier import Advised, Conversation, Selectable, Usage, Verifier
from imagecot.errors import UsageError
from imagecot.forms import agreed
from imagecot.imported import calling
from imagecot.verifiers.answers import continued, prompts_of

_COMBINED: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda answers: answers.mean(0),
    "min": lambda answers: answers.amin(0),
}


@dataclass(frozen=True, eq=False)
class Turns:
    """What each of the parts keeps of the images: `own` of its conversation; rows (B,) of one of another kind."""

    own: list[Tree]


class Ensemble:
    """Verifiers whose answers are combined into one.

    how    "mean" or "min" of P(yes)
    parts  at least two; one that stands there twice is asked once and counts twice

    It reads a prompt that all parts read, and answers a question that all parts answer. It advises a search what all
    parts advise alike. An answer costs what the answers of its parts cost together.
    """

    def __init__(self, how: str, parts: Sequence[Verifier]) -> None:
        if how not in _COMBINED or len(parts) < 2:
            raise UsageError(f"an ensemble is {' or '.join(_COMBINED)} of at least two verifiers, not {how!r}.")
        self.how, self.parts = how, tuple(parts)
        self.asked = _distinct(self.parts)

    @property
    def settings(self) -> Mapping[str, JSON]:
        """How answers are combined, and the settings of the parts, in order."""
        return {"combined": self.how, "parts": [dict(part.settings) for part in self.parts]}

    @property
    def judges(self) -> tuple[Verifier, ...]:
        """All verifiers in it that are no ensembles, each once."""
        inner = (part.judges if isinstance(part, Ensemble) else (part,) for part in self.asked)
        return _distinct([judge for judges in inner for judge in judges])

    @property
    def usage(self) -> Usage:
        """What all of its judges have done; seconds only where each of them says its own."""
        done = [guard.usage(judge, Usage()) for judge in self.judges]
        total = sum(done, Usage())
        return total if all(one.seconds for one in done) else replace(total, seconds=0.0)

    @property
    def advice(self) -> Mapping[str, Mapping[str, JSON]]:
        """The advice for those searches of which all parts advise the same."""
        return agreed([part.advice if isinstance(part, Advised) else {} for part in self.parts])

    def check_prompt(self, prompt: str) -> None:
        """Raise UsageError for a prompt that one of the parts cannot read."""
        for part in self.asked:
            if isinstance(part, Reader):
                with calling(part, "check_prompt"):
                    part.check_prompt(prompt)

    def check_question(self, question: Question) -> None:
        """Raise UsageError for a question that one of the parts cannot answer."""
        for part in self.asked:
            if isinstance(part, Selective):
                with calling(part, "check_question"):
                    part.check_question(question)

    def ask(self, images: Tensor, prompts: list[str], question: Question, after: Conversation | None = None) -> Tensor:
        """The combined P(yes) (B,) float64, on the CPU.

        images   (B, 3, H, W) in [0, 1], not looked at when `after` is given
        prompts  one for each image, or one for all
        after    the conversations that a follow-up question continues, of this ensemble

        UsageError for what a part cannot be asked, and a conversation that does not fit; ImagecotError where a part
        gives no probabilities.
        """
        self.check_question(question)
        turns = [None] * len(self.asked) if after is None else self._turns(after, question)
        return self._combined(
            [guard.ask(part, images, prompts, question, turn) for part, turn in zip(self.asked, turns, strict=True)]
        )

    def begin(self, images: Tensor, prompts: list[str], question: Question) -> tuple[Tensor, Conversation]:
        """Like `ask`, and return the conversations of all parts as one."""
        self.check_question(question)
        answers, turns = zip(*(guard.begin(part, images, prompts, question) for part in self.asked), strict=True)
        own = [_own(turn, len(images)) for turn in turns]
        return self._combined(answers), Conversation(question, Turns(own), list(turns))

    def _turns(self, after: Conversation, question: Question) -> list[Conversation]:
        """The conversations of the parts."""
        own, turns = continued(after, question, Turns).own, after.shared
        if len(turns) != len(self.asked):
            raise UsageError("this conversation is another ensemble's; begin one with the verifier that is asked.")
        return [_selected(turn, rows) for turn, rows in zip(turns, own, strict=True)]

    def _combined(self, answers: Sequence[Tensor]) -> Tensor:
        """P(yes) (B,) of those of the parts that are asked, in their order."""
        found = {id(part): answer.detach().double().cpu() for part, answer in zip(self.asked, answers, strict=True)}
        return _COMBINED[self.how](torch.stack([found[id(part)] for part in self.parts]))


class ReflectingEnsemble(Ensemble):
    """An ensemble that also says what is wrong: in the words of the first part that can."""

    def reflect(self, images: Tensor, prompts: list[str]) -> list[Reflection]:
        """Answers to the reflection question about images (B, 3, H, W): the words of one part, P(yes) of all.

        Of the other parts those that can reflect are asked the same question, and the others the ORM question, which
        is the same but for the reasons.
        """
        prompts = prompts_of(images, prompts)
        speaker = next(part for part in self.asked if isinstance(part, Reflector))
        said = [guard.reflect(speaker, image[None], prompt) for image, prompt in zip(images, prompts, strict=True)]
        answers = [
            torch.tensor([one.p_yes for one in said])
            if part is speaker
            else guard.ask(part, images, prompts, REFLECTION if isinstance(part, Reflector) else ORM)
            for part in self.asked
        ]
        combined = self._combined(answers).tolist()
        return [replace(one, p_yes=p_yes) for one, p_yes in zip(said, combined, strict=True)]


def ensemble(how: str, parts: Sequence[Verifier]) -> Ensemble:
    """The ensemble of some verifiers, which reflects where one of them does; UsageError as of `Ensemble`."""
    reflects = any(isinstance(part, Reflector) for part in parts)
    return ReflectingEnsemble(how, parts) if reflects else Ensemble(how, parts)


def _distinct(parts: Sequence[Verifier]) -> tuple[Verifier, ...]:
    return tuple({id(part): part for part in parts}.values())


def _own(turn: Selectable, images: int) -> Tree:
    """What belongs to each image of a part's conversations; of a class of somebody's own the rows in it."""
    own: Tree = turn.own if isinstance(turn, Conversation) else torch.arange(images)
    return own


def _selected(turn: Selectable, own: Tree) -> Conversation:
    """The conversations of those images of which `own` is left."""
    if isinstance(turn, Conversation):
        return replace(turn, own=own)
    assert isinstance(own, Tensor)
    return turn.select(own)  # type: ignore[return-value]  # its own verifier knows what it is
