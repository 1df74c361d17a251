"""What a chat model replied: its text apart from its thinking, and what is no answer told apart from what is one."""

import re
from dataclasses import dataclass

from pydantic import Field, ValidationError

from imagecot.endpoints import Answers, Endpoint
from imagecot.errors import ImagecotError
from imagecot.reading import Foreign, phrases

_MOST_TOKENS = 10**12  # more is a mistake, and no number to add up
# Models that think aloud put it between marks; a template may have written the first of them.
_OPENING, _CLOSING = (rf"[<\[◁]{slash}(?:think|thinking|thought|reasoning)[>\]▷]" for slash in ("", "/"))
_THOUGHTS = tuple(
    re.compile(pattern, re.DOTALL | re.IGNORECASE)
    for pattern in (rf"{_OPENING}.*?{_CLOSING}", rf"^.*{_CLOSING}", rf"{_OPENING}.*$")
)
_REFUSAL = re.compile(
    r"(?:i[’']?m|i am|we are|we[’']?re)?\s*(?:very |so |really )?sorry\b"
    r"[^.]{0,40}\b(?:can(?:no|[’'])?t|unable|not able)\b"
    r"|(?:unfortunately,? )?i (?:can(?:no|[’'])?t|am unable|am not able|won[’']?t)\b"
    r"[^.]{0,20}\b(?:help|assist|comply|fulfil|provide|process|analy[sz]e|view|see|describe|discuss|identify|do that)"
    r"|(?:unfortunately,? )?i[’']?m (?:unable|not able)\b"
    r"|as an ai\b",
    re.IGNORECASE,
)


class _Part(Foreign):
    type: str = "text"
    text: str | None = None
    refusal: str | None = None


class _Message(Foreign):
    content: str | list[str | _Part] | None = None
    refusal: str | None = None


class _Choice(Foreign):
    message: _Message
    finish_reason: str | None = None


class _Completion(Foreign):
    choices: list[_Choice] = Field(min_length=1)
    usage: object = None


@dataclass(frozen=True)
class Reply:
    """One reply of a chat model.

    text     what it says, without its thinking
    parts    the text of each part, where it came in several
    refusal  why it does not answer, in its own words where it has any; None where it does
    finish   why it ended: `stop`, `length` where it was cut, or what else the server calls it
    prompt_tokens, completion_tokens  what it cost, 0 where that is not said
    """

    text: str
    parts: tuple[str, ...]
    refusal: str | None
    finish: str | None
    prompt_tokens: int
    completion_tokens: int

    @property
    def is_cut(self) -> bool:
        """Whether it ended before the model was done."""
        return self.finish in ("length", "max_tokens")

    @classmethod
    def read(cls, answer: Answers, endpoint: Endpoint) -> "Reply":
        """Read what `endpoint` answered to a request for a chat completion; ImagecotError for anything else."""
        try:
            found = _Completion.model_validate(answer)
        except ValidationError as error:
            raise ImagecotError(
                f"{endpoint.shown} did not answer as a chat model ({endpoint.hide(phrases(error, 1))}); "
                "check the address and the name of the model."
            ) from None
        choice = found.choices[0]
        content = choice.message.content or []
        parts = [content] if isinstance(content, str) else [_text_of(part) for part in content]
        text = endpoint.hide(without_thinking("".join(parts)))
        return cls(
            text=text,
            parts=tuple(endpoint.hide(part) for part in parts if part),
            refusal=_refusal_of(choice, text),
            finish=choice.finish_reason,
            prompt_tokens=_tokens(found.usage, "prompt_tokens"),
            completion_tokens=_tokens(found.usage, "completion_tokens"),
        )


def without_thinking(text: str) -> str:
    """Return `text` without what a model thought aloud, whether or not the thought was finished."""
    for thought in _THOUGHTS:
        text = thought.sub("", text)
    return text.strip()


def _text_of(part: str | _Part) -> str:
    if isinstance(part, str):
        return part
    return (part.text or "") if part.type in ("text", "output_text") else ""


def _refusal_of(choice: _Choice, text: str) -> str | None:
    message = choice.message
    parts = message.content if isinstance(message.content, list) else []
    refusals = [message.refusal, *(part.refusal for part in parts if isinstance(part, _Part))]
    said = next((refusal for refusal in refusals if refusal), None)
    if said is None and choice.finish_reason == "content_filter":
        said = "content filter"
    return text if said is None and _REFUSAL.match(text) else said


def _tokens(usage: object, name: str) -> int:
    """A number of tokens; a bill that cannot be read is no reason to throw an answer away."""
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if type(value) is int and 0 <= value <= _MOST_TOKENS else 0
