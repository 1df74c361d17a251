"""P(yes), and the probability of any short answer, from what a server sends of the first token.

The schema is that of OpenAI's chat completions, which vLLM and others have too: `choices[0].logprobs`, whose
`content` has an entry a token, with `top_logprobs`.
"""

import math
from collections.abc import Sequence

from pydantic import Field, ValidationError

from imagecot.endpoints import Answers, Endpoint
from imagecot.errors import ImagecotError
from imagecot.reading import Foreign, phrases
from imagecot.verifiers.answers import tells

TOP = 20  # the most that the interface gives
_BLANKS = str.maketrans({"▁": " ", "Ġ": " "})  # as vocabularies write a blank, which some servers pass on
_IMPOSSIBLE = -1000.0  # less stands for minus infinity, which JSON has no number for
_ROUNDING = 1e-3  # by which a probability may exceed 1
_NAMED = 3  # tokens that a message repeats


class _Token(Foreign):
    token: str
    logprob: float = Field(le=_ROUNDING)


class _Position(Foreign):
    top_logprobs: list[_Token] = Field(default_factory=list)


class _LogProbabilities(Foreign):
    content: list[_Position] | None = None


class _Choice(Foreign):
    logprobs: _LogProbabilities | None = None


class _Scored(Foreign):
    choices: list[_Choice] = Field(min_length=1)


def spelt(word: str) -> frozenset[str]:
    """How a word counts: small and capitalized, with a blank before it or without, as of models that run here."""
    return frozenset(blank + text for blank in ("", " ") for text in (word, word.capitalize()))


YES, NO = spelt("yes"), spelt("no")


def p_yes(answer: Answers, endpoint: Endpoint) -> float:
    """P(yes) in [0, 1]: the probability of the spellings of yes over that of both words.

    A text that two tokens have counts once. One word may be missing: then it is less probable than all that are there,
    and counts as impossible. ImagecotError where both are missing, or there are no log-probabilities.
    """
    told = _told(answer, endpoint)
    yes, no = (_log_sum(told, words) for words in (YES, NO))
    if yes is None and no is None:
        most = ", ".join(repr(endpoint.hide(text))[:40] for text in [*told][:_NAMED])
        raise ImagecotError(
            f"{endpoint.shown}: neither yes nor no is among the {TOP} most probable first tokens of an answer (which "
            f"begin with {most}); ask a model that answers at once and does not think aloud."
        )
    if yes is None or no is None:
        return 0.0 if yes is None else 1.0
    odds = yes - no
    return 1 / (1 + math.exp(-odds)) if odds >= 0 else math.exp(odds) / (1 + math.exp(odds))


def probability_of(answer: Answers, endpoint: Endpoint, spellings: Sequence[str]) -> float:
    """The probability in [0, 1] that an answer begins as one of `spellings`.

    A token that begins several of them counts once; what is not among the most probable tokens counts as impossible.
    ImagecotError where there are no log-probabilities.
    """
    told = _told(answer, endpoint)
    found = (value for text, value in told.items() if any(tells(text, spelling) for spelling in spellings))
    return min(1.0, math.fsum(math.exp(value) for value in found))


def _log_sum(told: dict[str, float], words: frozenset[str]) -> float | None:
    """The logarithm of the summed probabilities of words; None where none of them is told."""
    found = [value for text, value in told.items() if text in words and value > _IMPOSSIBLE]
    if not found:
        return None
    largest = max(found)
    return largest + math.log(math.fsum(math.exp(value - largest) for value in found))


def _told(answer: Answers, endpoint: Endpoint) -> dict[str, float]:
    """The most probable first tokens and their log-probabilities; ImagecotError where there are none."""
    try:
        found = _Scored.model_validate(answer).choices[0].logprobs
    except ValidationError as error:
        raise ImagecotError(
            f"{endpoint.shown} sends log-probabilities in another form ({endpoint.hide(phrases(error, 1))}); serve "
            "the model by what has the interface of OpenAI, such as vLLM."
        ) from None
    positions = found.content if found is not None else None
    if not positions or not positions[0].top_logprobs:
        raise ImagecotError(
            f"{endpoint.shown} answers without log-probabilities; serve the model by what sends top_logprobs of a "
            "chat completion, such as vLLM."
        )
    told: dict[str, float] = {}
    for one in positions[0].top_logprobs:
        told.setdefault(one.token.translate(_BLANKS), one.logprob)
    return told
