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
_JOINED = re.compile(rf"(?P<a>.+?) (?:(?P<relation>{_any((*RELATIONS, *_SAME))})|and|with) (?P<b>.+)")


def read_prompt(prompt: str) -> Metadata | None:
    """Return GenEval's requirement of a prompt, of no task; None where it says more or something else.

    Objects are those of the benchmark. As there, a relation's target comes first.
    """
    words = _OPENING.sub("", normalise(prompt).removesuffix("."))
    if match := _MANY.fullmatch(words):
        count = NUMBER_WORDS.index(match["count"]) if match["count"] in NUMBER_WORDS else int(match["count"])
        return Metadata("", prompt, (_need(_BY_PLURAL[match["names"]], match["color"], count),))
    if match := _ONE.fullmatch(words):
        return Metadata("", prompt, (_need(match["name"], match["color"]),))
    match = _JOINED.fullmatch(words)
    both = match and [_ONE.fullmatch(match[side]) for side in "ab"]
    if not match or not both or not all(both):
        return None
    a, b = (_need(one["name"], one["color"]) for one in both if one)
    if not match["relation"]:
        return Metadata("", prompt, (a, b))
    relation = _SAME.get(match["relation"], match["relation"])
    return Metadata("", prompt, (b, replace(a, relation=relation, target=0)))


def _need(name: str, color: str | None, count: int = 1) -> Need:
    return Need(name, count, color or "")
