"""What a prompt asks for, read from its words: GenEval's templates, their openings and wordings varied."""

import re
from collections.abc import Iterable
from dataclasses import replace

from imagecot.contracts.metadata import Metadata, Need
from imagecot.geneval.prompts import COLORS, NUMBER_WORDS, OBJECT_NAMES, RELATIONS, normalise, plural

_BY_PLURAL = {plural(name): name for name in OBJECT_NAMES}
_SAME = {"over": "above", "higher than": "above", "under": "below", "lower than": "below"}
_SAME |= {f"{way} the {side} of": f"{side} of" for side in ("left", "right") for way in ("to", "on")}


def _any(words: Iterable[str]) -> str:
    return "|".join(sorted(map(re.escape, words), key=len, reverse=True))


_OPENING = re.compile(r"^(?:an? (?:photo|picture|drawing|image|painting) of|there (?:is|are)|here (?:is|are)|we see) ")
_ONE = re.compile(rf"(?:an?|one|the) (?:(?P<color>{_any(COLORS)}) )?(?P<name>{_any(OBJECT_NAMES)})")
_MANY = re.compile(
    rf"(?P<count>{_any(NUMBER_WORDS[2:])}|[0-9]{{1,4}}) (?:(?P<color>{_any(COLORS)}) )?(?P<names>{_any(_BY_PLURAL)})"
)
_RELATION = re.compile(rf" ({_any((*RELATIONS, *_SAME))}) ")
_AND = re.compile(r" (?:and|with) ")


def read_prompt(prompt: str) -> Metadata | None:
    """Return GenEval's requirement of a prompt, of no task; None where it says more or something else.

    It asks for any number of kinds of objects, of which the first may stand in a relation to the second. Objects are
    those of the benchmark. As there, a relation's target comes first.
    """
    words = _OPENING.sub("", normalise(prompt).removesuffix("."))
    first, *others = _RELATION.split(words, maxsplit=1)
    relation, rest = others or ("", "")
    needs = [_need(part) for part in [*([first] if relation else []), *_AND.split(rest or first)]]
    known = [need for need in needs if need]
    if len(known) < len(needs):
        return None
    if relation:
        subject, target, *more = known
        known = [target, replace(subject, relation=_SAME.get(relation, relation), target=0), *more]
    return Metadata("", prompt, tuple(known))


def _need(words: str) -> Need | None:
    """What a noun phrase asks for: "a red cup", "two cups"; None where it is no such phrase."""
    if match := _MANY.fullmatch(words):
        count = NUMBER_WORDS.index(match["count"]) if match["count"] in NUMBER_WORDS else int(match["count"])
        return Need(_BY_PLURAL[match["names"]], count, match["color"] or "")
    match = _ONE.fullmatch(words)
    return Need(match["name"], 1, match["color"] or "") if match else None
