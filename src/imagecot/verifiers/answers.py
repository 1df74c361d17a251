"""What all verifiers around a vision-language model share: answers as tokens, their probabilities, and requests."""

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

from imagecot.contracts.questions import Question
from imagecot.contracts.verifier import Conversation
from imagecot.errors import ImagecotError, UsageError
from imagecot.plain_tokenizer import AnyTokenizer

Own = TypeVar("Own")

OPEN = Question("open", "{prompt}")
"""A question that is given as a whole, in place of a prompt."""


def spellings(tokenizer: AnyTokenizer, word: str, before: Sequence[str] = ("",)) -> list[int]:
    """The ids of a word, small and capitalized, that are single tokens.

    before  what may stand before it, such as a blank

    ImagecotError where there is none.
    """
    texts = [start + spelling for start in before for spelling in (word, word.capitalize())]
    pieces = [tokenizer(text, add_special_tokens=False).input_ids for text in texts]
    single = list(dict.fromkeys(piece[0] for piece in pieces if len(piece) == 1))
    if not single:
        raise ImagecotError(f"the verifier's tokenizer has no single token for {word!r}; use another tokenizer.")
    return single


def p_yes(yes: Tensor, no: Tensor) -> Tensor:
    """P(yes) (B,) float64, of logits of the spellings of yes (B, Y) and no (B, N): softmax over their log-sum-exps.

    In float32 nothing between 1 - 6e-8 and 1 can be told apart.
    """
    both = torch.cat([yes, no], 1).detach().float().cpu().double()  # one copy to the host
    return torch.sigmoid(both[:, : yes.shape[1]].logsumexp(1) - both[:, yes.shape[1] :].logsumexp(1))


def tells(token: str, spelling: str) -> bool:
    """Whether a first token tells an answer from others: it is the whole of it, or begins it with two letters."""
    begin, whole = token.strip(), spelling.strip()
    return bool(begin) and (begin == whole or (len(begin) > 1 and begin.isalpha() and whole.startswith(begin)))


def first_ids(tokenizer: AnyTokenizer, answer: Sequence[str]) -> list[int]:
    """The ids that the spellings of an answer begin with, each once: those that tell the answer from others.

    That is a whole spelling, or two letters of it and more, with a blank before them or without. A blank alone, a
    single letter and the first digit of a longer number begin other answers too; they do not count.

    ImagecotError where no spelling is left.
    """
    found: dict[int, None] = {}
    for spelling in answer:
        ids = tokenizer(spelling, add_special_tokens=False).input_ids
        if not ids:
            continue
        if tells(str(tokenizer.decode(ids[:1])), spelling):
            found[ids[0]] = None
    if not found:
        raise ImagecotError(
            f"the verifier's tokenizer has no token that tells {answer[0] if answer else ''!r} from other answers; "
            "use another verifier."
        )
    return [*found]


def probability_of(logits: Tensor, ids: Sequence[Sequence[int]]) -> Tensor:
    """The probability (B,) float32 that the next token is one of `ids`, by logits (B, V) over the whole vocabulary."""
    chances = logits.float().softmax(1)
    return torch.stack([row[[*own]].sum() for row, own in zip(chances, ids, strict=True)]).clamp(0, 1).cpu()


def check_asked(images: Tensor, questions: Sequence[str], answers: Sequence[Sequence[str]]) -> None:
    """UsageError where these are not B questions with an answer each about images (B, 3, H, W) or (1, 3, H, W)."""
    fits = images.ndim == 4 and images.shape[1] == 3 and len(images) in (1, len(questions))
    if not fits or len(answers) != len(questions):
        raise UsageError(
            f"a verifier takes images (B, 3, H, W) or one, B questions and B answers, got {tuple(images.shape)}, "
            f"{len(questions)} and {len(answers)}."
        )


def marks_of(tokenizer: AnyTokenizer) -> list[str]:
    """The special tokens that steer a chat."""
    return [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]


def prompts_of(images: Tensor, prompts: list[str]) -> list[str]:
    """A prompt for each of images (B, 3, H, W), given as many or one for all; UsageError for other shapes."""
    if images.ndim != 4 or images.shape[1] != 3 or len(prompts) not in (1, len(images)):
        raise UsageError(
            f"a verifier takes images (B, 3, H, W) and B prompts or one, got {tuple(images.shape)} "
            f"and {len(prompts)} prompts."
        )
    return prompts if len(prompts) == len(images) else prompts * len(images)


def continued(after: Conversation, question: Question, kind: type[Own]) -> Own:
    """What a conversation keeps of each image, for a question that continues it.

    UsageError where the question continues another one, or the conversation is another verifier's.
    """
    if question.follows != after.question:
        raise UsageError(f"{question.name} is no follow-up of {after.question.name}; ask it without `after`.")
    if not isinstance(after.own, kind):
        raise UsageError("this conversation is another verifier's; begin one with the verifier that is asked.")
    return after.own
