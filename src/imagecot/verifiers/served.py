"""A judge behind the chat interface that OpenAI defined: vLLM, SGLang, llama.cpp, OpenAI itself.

It is asked for one token with the log-probabilities of the most probable ones. Which weights answer, in which number
format and with which chat template, the server decides.
"""

import base64
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from imagecot.contracts.questions import ORM, REFLECTION, Question
from imagecot.contracts.reflection import Reflection
from imagecot.contracts.values import JSON
from imagecot.contracts.verifier import Conversation, Usage
from imagecot.endpoints import Answers, Body
from imagecot.errors import ImagecotError
from imagecot.images import png
from imagecot.naming import printable
from imagecot.replies import Reply
from imagecot.verifiers.answers import OPEN, check_asked, continued, prompts_of
from imagecot.verifiers.any_vlm import Shown
from imagecot.verifiers.chat import ANSWER_TOKENS, refuse_marks
from imagecot.verifiers.first_token import TOP, p_yes, probability_of
from imagecot.verifiers.judge_file import Judge
from imagecot.verifiers.kept_answers import Answer, KeptAnswers, name_of
from imagecot.verifiers.wording import Habits, worded

_PATH = "chat/completions"
_REPEATED = 100  # characters of a refusal that a message repeats


@dataclass(frozen=True)
class _Asked:
    """A request, and the spellings that are looked for in its answer; None for yes and no."""

    body: Body
    wanted: tuple[str, ...] | None


class ServedVerifier:
    """A verifier that asks a server. P(yes) compares the spellings of yes and no among the most probable first tokens.

    An image is sent as a PNG in front of the question. A follow-up is sent as a dialogue: the first question with the
    image, yes, and the second question. Conversations have `Shown` in `own` and the prompts in `shared`.

    Usage counts the tokens that the server reports, those of kept answers too, and the seconds that went by.
    """

    def __init__(self, judge: Judge) -> None:
        self.judge, self.endpoint = judge, judge.endpoint
        self.habits = Habits(wording=worded(judge.questions))
        self.kept = KeptAnswers(Path(judge.answers) if judge.answers is not None else None)
        self.usage = Usage()
        self._counting = threading.Lock()

    @property
    def settings(self) -> dict[str, JSON]:
        """The server without login and query, the model, and the wording where it is not the paper's."""
        said: dict[str, JSON] = {"endpoint": self.endpoint.shown, "model": self.judge.model}
        templates: dict[str, JSON] = dict(self.habits.templates)
        return said | ({"questions": templates} if templates else {})

    def check_prompt(self, prompt: str) -> None:
        """Raise UsageError for a prompt that is empty, or holds the mark of an image."""
        refuse_marks(prompt, ())

    def try_out(self) -> None:
        """Ask a question about a grey image, so that a wrong name fails before anything is drawn; it is not counted.

        ImagecotError where the judge does not answer.
        """
        grey = torch.full((3, 64, 64), 0.5)
        self._read(self.endpoint.post(_PATH, self._body(self.habits.said(ORM), "a cat", _url(grey), 1)))

    def ask(self, images: Tensor, prompts: list[str], question: Question, after: Conversation | None = None) -> Tensor:
        """Return P(yes) (B,) float64.

        images   (B, 3, H, W) float in [0, 1], any size; not looked at when `after` is given
        prompts  one for each image, or one for all; not looked at when `after` is given
        after    the conversation that a follow-up continues, which is sent again

        UsageError for an image batch or prompts of the wrong shape, or a conversation that does not fit; ImagecotError
        where the server fails, or its answer is none.
        """
        question = self.habits.said(question)
        if after is not None:
            shown = continued(after, question, Shown)
            images, prompts = shown.images, [after.shared[place] for place in shown.place.tolist()]
        return torch.tensor([answer.p for answer in self._answers(images, prompts, question)], dtype=torch.float64)

    def begin(self, images: Tensor, prompts: list[str], question: Question) -> tuple[Tensor, Conversation]:
        """Like `ask`, and return the conversations too, for follow-up questions to the same images."""
        answers = self.ask(images, prompts, question)
        place = torch.arange(len(images), device=images.device) % max(1, len(prompts))
        return answers, Conversation(self.habits.said(question), Shown(images, place), list(prompts))

    def reflect(self, images: Tensor, prompts: list[str]) -> list[Reflection]:
        """Ask what is wrong with images (B, 3, H, W) and return the written answers; errors as of `ask`."""
        found = self._answers(images, prompts, self.habits.said(REFLECTION), ANSWER_TOKENS)
        return [Reflection(answer.text, answer.p, answer.complete) for answer in found]

    def answer_probability(self, images: Tensor, questions: list[str], answers: list[list[str]]) -> Tensor:
        """The probability (B,) that its answer to each of B questions begins as one of the spellings; errors of `ask`.

        images     (B, 3, H, W) in [0, 1], or one (1, 3, H, W) that all questions are about
        questions  B texts, as they are asked
        answers    of each question the spellings of one answer; one that is not among the most probable counts as 0
        """
        check_asked(images, questions, answers)
        images = images.expand(len(questions), -1, -1, -1)
        return torch.tensor([answer.p for answer in self._answers(images, questions, OPEN, wanted=answers)])

    def _answers(
        self,
        images: Tensor,
        prompts: list[str],
        question: Question,
        tokens: int = 1,
        wanted: Sequence[Sequence[str]] | None = None,
    ) -> list[Answer]:
        """The answers about images (B, 3, H, W), of at most so many tokens, counted; equal requests are sent once.

        wanted  the spellings that are looked for in each; None for yes and no
        """
        began = time.perf_counter()
        prompts = prompts_of(images, prompts)
        looked_for = [None] * len(prompts) if wanted is None else [tuple(words) for words in wanted]
        asked = [
            _Asked(self._body(question, prompt, _url(image), tokens), words)
            for image, prompt, words in zip(images, prompts, looked_for, strict=True)
        ]
        names = [name_of(self.endpoint.shown, one.body, one.wanted) for one in asked]
        known = {name: self.kept.find(name) for name in dict.fromkeys(names)}
        found = {name: answer for name, answer in known.items() if answer is not None}
        new = {name: one for name, one in zip(names, asked, strict=True) if name not in found}
        order = list(new)

        def read(number: int, sent: Answers) -> Answer:
            return self._read(sent, new[order[number]].wanted)

        for number, answer in self.endpoint.post_each(_PATH, [one.body for one in new.values()], read):
            found[order[number]] = answer
            self.kept.keep(order[number], answer)
        answers = [found[name] for name in names]
        used = Usage(len(answers), sum(answer.tokens for answer in answers), time.perf_counter() - began)
        with self._counting:
            self.usage += used
        return answers

    def _read(self, sent: Answers, wanted: Sequence[str] | None = None) -> Answer:
        """What a server sent; ImagecotError where that is no answer."""
        reply = Reply.read(sent, self.endpoint)
        if reply.refusal is not None:
            why = printable(" ".join(self.endpoint.hide(reply.refusal).split()))[:_REPEATED]
            raise ImagecotError(f"{self.endpoint.shown} refuses to judge an image ({why}); ask another model.")
        return Answer(
            p=p_yes(sent, self.endpoint) if wanted is None else probability_of(sent, self.endpoint, wanted),
            tokens=reply.prompt_tokens + reply.completion_tokens,
            text=reply.text,
            complete=not reply.is_cut,
        )

    def _body(self, question: Question, prompt: str, url: str, tokens: int) -> Body:
        refuse_marks(prompt, ())
        return {
            "model": self.judge.model,
            "messages": _messages(question, prompt, url),
            "max_completion_tokens": tokens,
            "temperature": 0,
            "logprobs": True,
            "top_logprobs": TOP,
        }


def _messages(question: Question, prompt: str, url: str) -> list[JSON]:
    """The turns of a question; one that follows another stands behind that one's yes."""
    text = question.about(prompt).strip()
    if question.follows is not None:
        asked = _messages(question.follows, prompt, url)
        return [*asked, {"role": "assistant", "content": "yes"}, {"role": "user", "content": text}]
    content: Sequence[JSON] = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": text}]
    return [{"role": "user", "content": [*content]}]


def _url(image: Tensor) -> str:
    """An image (3, H, W) as the address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(png(image)).decode()}"
