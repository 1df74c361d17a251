"""P(yes) from the log-probabilities that a server sends of the first token of an answer.

The schema is that of OpenAI's chat completions, which vLLM, SGLang and llama.cpp have too: `choices[0].logprobs`, whose
`content` has an entry a token, with `top_logprobs`.
"""

import math

from pydantic import Field, ValidationError

from imagecot.endpoints import Answers, Endpoint
from imagecot.errors import ImagecotError
from imagecot.reading import Foreign, phrases

TOP = 20  # the most that the interface gives
_BLANKS = str.maketrans({"▁": " ", "Ġ": " "})  # as vocabularies write a blank, which some servers pass on
_IMPOSSIBLE = -1000.0  # less stands for minus infinity, which JSON has no number for
_ROUNDING = 1e-3  # by which a probability may exceed 1
_TOLD = 3  # tokens that a message repeats


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
    top = _top(answer, endpoint)
    if not top:
        raise ImagecotError(
            f"{endpoint.shown} answers without log-probabilities; serve the model by what sends top_logprobs of a "
            "chat completion, such as vLLM."
        )
    told: dict[str, float] = {}
    for one in top:
        told.setdefault(one.token.translate(_BLANKS), one.logprob)
    yes, no = (_log_sum(told, words) for words in (YES, NO))
    if yes is None and no is None:
        most = ", ".join(repr(endpoint.hide(one.token))[:40] for one in top[:_TOLD])
        raise ImagecotError(
            f"{endpoint.shown}: neither yes nor no is among the {TOP} most probable first tokens of an answer (which "
            f"begin with {most}); ask a model that answers at once and does not think aloud."
        )
    if yes is None or no is None:
        return 0.0 if yes is None else 1.0
    odds = yes - no
    return 1 / (1 + math.exp(-odds)) if odds >= 0 else math.exp(odds) / (1 + math.exp(odds))


def _log_sum(told: dict[str, float], words: frozenset[str]) -> float | None:
    """The logarithm of the summed probabilities of words; None where none of them is told."""
    found = [value for text, value in told.items() if text in words and value > _IMPOSSIBLE]
    if not found:
        return None
    largest = max(found)
    return largest + math.log(math.fsum(math.exp(value - largest) for value in found))


def _top(answer: Answers, endpoint: Endpoint) -> list[_Token]:
    """The most probable first tokens; empty where the server sends none."""
    try:
        found = _Scored.model_validate(answer).choices[0].logprobs
    except ValidationError as error:
        raise ImagecotError(
            f"{endpoint.shown} sends log-probabilities in another form ({endpoint.hide(phrases(error, 1))}); serve "
            "the model by what has the interface of OpenAI, such as vLLM."
        ) from None
    positions = found.content if found is not None else None
    return positions[0].top_logprobs if positions else []
