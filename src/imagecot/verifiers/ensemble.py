"""Ensembles as they are written: `mean(a,b,...)` and `min(a,b,...)`.

What stands between the outer parentheses are parts, at least two, with commas between them. A part is any name of a
verifier, also one that is written: `min(tiny-orm,mean(a,b))`. Blanks around it do not count. A comma that stands in
parentheses of a part separates nothing. A part that has other commas or parentheses stands in quotes, "..." or '...',
and is then taken as it is: `min(tiny-orm,"runs/a, (old")`. So all that cannot be written are such names with both kinds
of quotes in them, and ensembles of more than 8 levels.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from imagecot import judging, registry
from imagecot.errors import UsageError
from imagecot.precision import Device, Dtype

if TYPE_CHECKING:
    from imagecot.contracts.verifier import Verifier
    from imagecot.verifiers.combined import Ensemble

_BEGINS = r"(?:mean|min)\("
_LEVELS = 8
_LONGEST = 100  # characters of a text that a message tells
_QUOTES = "\"'"
_QUOTING = "write a name with commas or parentheses in quotes"


def parts(text: str) -> list[tuple[str, str]]:
    """The verifiers of an ensemble by their names, in order; UsageError where the text cannot be read."""
    return [("verifier", name) for name in read(text)[1]]


def renamed(text: str, rename: Callable[[str], str]) -> str:
    """The text with other names of its parts, in quotes where they need them; UsageError for one with both kinds."""
    how, names = read(text)
    found = [rename(name) for name in names]
    return text if found == names else f"{how}({','.join(_quoted(name) for name in found)})"


def load(text: str, device: Device, dtype: Dtype) -> "Ensemble":
    """Load an ensemble; a part that is named several times, inside of another form too, is loaded once."""
    with judging.sharing():
        return _load(text, device, dtype, {})


def digests(text: str) -> Mapping[str, str]:
    """Nothing: its parts and the text say all."""
    return {}


def read(text: str) -> tuple[str, list[str]]:
    """How the parts are combined, and their names; UsageError, which says what is wrong, for another text."""
    how, _, inside = text.partition("(")
    found = _split(text, inside)
    if len(found) < 2:
        raise UsageError(
            f"{_shown(text)} has one part; name at least two verifiers, as in {how}(tiny-orm,tiny-zero-shot)."
        )
    if not all(found):
        raise UsageError(f"{_shown(text)} has an empty part; name a verifier between all commas.")
    return how, found


def _load(text: str, device: Device, dtype: Dtype, loaded: "dict[str, Verifier]") -> "Ensemble":
    from imagecot.verifiers.combined import ensemble

    how, names = read(text)
    for name in names:
        if name not in loaded:
            nested = re.match(_BEGINS, name)
            found = _load(name, device, dtype, loaded) if nested else _part(name, device, dtype)
            loaded[name] = found
    return ensemble(how, [loaded[name] for name in names])


def _part(name: str, device: Device, dtype: Dtype) -> "Verifier":
    return registry.load("verifier", name, device=device, dtype=dtype)


def _split(text: str, inside: str) -> list[str]:
    """The parts of what stands behind the first parenthesis; UsageError where it does not end with its own."""
    found, part, level, ended = list[str](), "", 1, False
    for token in _tokens(text, inside):
        if ended:
            raise UsageError(f"{_shown(text)} goes on behind its last parenthesis; {_QUOTING}.")
        level += (token == "(") - (token == ")")
        if level > _LEVELS:
            raise UsageError(f"{_shown(text)} has more than {_LEVELS} levels of parentheses; take ensembles apart.")
        ended = level == 0
        if ended or (token == "," and level == 1):
            found.append(_unquoted(text, part.strip()))
            part = ""
        else:
            part += token
    if not ended:
        raise UsageError(f"{_shown(text)} has a parenthesis that is not closed; close it, or {_QUOTING}.")
    return found


def _tokens(text: str, inside: str) -> Iterator[str]:
    """Characters, and quoted names with their quotes, which begin a part."""
    at, fresh = 0, True
    while at < len(inside):
        character = inside[at]
        end = at + 1
        if fresh and character in _QUOTES:
            end = inside.find(character, at + 1) + 1
            if not end:
                raise UsageError(f"{_shown(text)} has a quote that is not closed; close it, or use the other kind.")
        yield inside[at:end]
        fresh = character in "(," or (fresh and character.isspace())
        at = end


def _unquoted(text: str, part: str) -> str:
    if part[:1] not in _QUOTES or not part:
        return part
    name, behind = part[1:].split(part[0], 1)
    if behind:
        raise UsageError(f"{_shown(text)} has {behind.strip()[:60]!r} behind a quoted name; put a comma between them.")
    return name


def _quoted(name: str) -> str:
    """A part as it is written."""
    try:
        if read(f"min({name},{name})")[1] == [name, name]:
            return name
    except UsageError:
        pass
    quote = next((quote for quote in _QUOTES if quote not in name), None)
    if quote is None:
        raise UsageError(f"{_shown(name)} has both kinds of quotes in it and cannot be a part; call it otherwise.")
    return f"{quote}{name}{quote}"


def _shown(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
