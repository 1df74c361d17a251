"""What is wrong with an image, as data and in words: from the scorer's reasons, to sentences, and back.

The sentences are short and made of the words of captions, so that small models read and write them; `parse` knows
their wording and close variants, and leaves out what it does not understand.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from imagecot.contracts.metadata import Metadata
from imagecot.contracts.reflection import Reflection, without_answer
from imagecot.contracts.values import JSON
from imagecot.errors import ImagecotError
from imagecot.geneval.prompts import COLORS, NUMBER_WORDS, OBJECT_NAMES, RELATIONS, plural, with_article

Kind = Literal["missing", "extra", "count", "color", "position"]


@dataclass(frozen=True)
class Discrepancy:
    """One thing that is wrong with an image.

    object    the class that it is about
    expected  what the prompt asks for: a number, a colour or a relation; empty for missing and extra
    found     what the image shows in its place; empty where nothing definite was seen
    target    of a position, the object that it is relative to
    """

    kind: Kind
    object: str
    expected: str = ""
    found: str = ""
    target: str = ""


_TOO_FEW = re.compile(r"expected (?P<name>.+)>=(?P<n>[0-9]{1,9}), found (?P<found>[0-9]{1,9})$")
_TOO_MANY = re.compile(r"expected (?P<name>.+)<(?P<n>[0-9]{1,9}), found (?P<found>[0-9]{1,9})$")
_COLOR = re.compile(rf"expected (?P<color>{'|'.join(COLORS)}) (?P<name>.+)>=\d+, found \d+ \S+; and (?P<seen>.*)$")
_POSITION = re.compile(
    rf"expected (?P<name>.+) (?P<relation>{'|'.join(RELATIONS)}) target, found (?P<seen>.*) ?target$"
)


def from_reason(metadata: Metadata, reason: str) -> list[Discrepancy]:
    """Return the discrepancies that the scorer's reason (`Judgment.reason`) names, in its order.

    metadata  the prompt's record; a relation's target and what an excluded class should number stand there only

    A line that only follows from another one, such as a relation to an object that is not there, is left out.
    ImagecotError where a line speaks of a position that the metadata does not ask for.
    """
    found: list[Discrepancy] = []
    for line in reason.split("\n"):
        if match := _COLOR.match(line):
            seen = match["seen"].split(", ")[0].split(" ", 1)
            found.append(Discrepancy("color", match["name"], match["color"], seen[1] if len(seen) == 2 else ""))
        elif match := _POSITION.match(line):
            seen_relation = match["seen"].strip().split(" and ")[0]
            target = _target_of(metadata, match["name"])
            found.append(Discrepancy("position", match["name"], match["relation"], seen_relation, target))
        elif match := _TOO_FEW.match(line):
            if match["found"] == "0":
                found.append(Discrepancy("missing", match["name"]))
            else:
                found.append(Discrepancy("count", match["name"], match["n"], match["found"]))
        elif match := _TOO_MANY.match(line):
            most = int(match["n"]) - 1
            if most:
                found.append(Discrepancy("count", match["name"], str(most), match["found"]))
            else:
                found.append(Discrepancy("extra", match["name"]))
    return found


def _target_of(metadata: Metadata, name: str) -> str:
    needs = metadata.include
    try:
        return next(needs[need.target].name for need in needs if need.name == name and need.relation)
    except (StopIteration, IndexError):
        raise ImagecotError(
            f"the reason speaks of the position of {name}, for which the metadata does not ask; judge the image again."
        ) from None


def to_text(discrepancies: Sequence[Discrepancy], rng: random.Random) -> str:
    """Return a sentence for each discrepancy, in a wording that `rng` chooses; empty where there is none."""
    return " ".join(_sentence(d, rng) + "." for d in discrepancies)


def _sentence(d: Discrepancy, rng: random.Random) -> str:
    name = d.object
    if d.kind == "missing":
        return rng.choice([f"there is no {name}", f"we see no {name}", f"no {name} is there"])
    if d.kind == "extra":
        return rng.choice([f"there is {with_article(name)} too many", f"the {name} is too many"])
    if d.kind == "count":
        expected, found = _number(d.expected), _number(d.found)
        few = found == "one"
        shown = f"one {name}" if few else f"{found} {plural(name)}"
        opening = "there is" if few else "there are"
        return rng.choice([f"{opening} {shown}, not {expected}", f"we see {shown}, not {expected}"])
    if d.kind == "color":
        if not d.found:
            return f"the {name} is not {d.expected}"
        return rng.choice(
            [f"the {name} is {d.found}, not {d.expected}", f"we see {with_article(d.found)} {name}, not {d.expected}"]
        )
    if not d.found:
        return f"the {name} is not {d.expected} the {d.target}"
    return rng.choice(
        [
            f"the {name} is {d.found} the {d.target}, not {d.expected}",
            f"we see the {name} {d.found} the {d.target}, not {d.expected}",
        ]
    )


def _number(digits: str) -> str:
    value = int(digits)
    return NUMBER_WORDS[value] if value < len(NUMBER_WORDS) else digits


_NUMBER = rf"(?:[0-9]{{1,6}}|{'|'.join(NUMBER_WORDS)})"
_TINT = rf"(?:{'|'.join(COLORS)})"
_PLACE = rf"(?:{'|'.join(RELATIONS)})"
_THING = r"[a-z][a-z ]*?"
_WORDINGS: tuple[tuple[Kind, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern))  # type: ignore[misc]
    for kind, pattern in (
        ("extra", rf"(?:there is (?:an? )?|the )(?P<object>{_THING})(?: is)? too many"),
        ("missing", rf"(?:there is |there are |we see )?no (?P<object>{_THING})(?: (?:is|are) there)?"),
        ("missing", rf"(?:the |an? )?(?P<object>{_THING}) is missing"),
        (
            "count",
            rf"(?:there (?:is|are)|we see) (?:only )?(?P<found>{_NUMBER}) (?P<object>{_THING}), "
            rf"not (?P<expected>{_NUMBER})",
        ),
        ("color", rf"the (?P<object>{_THING}) is (?P<found>{_TINT}), not (?P<expected>{_TINT})"),
        ("color", rf"we see an? (?P<found>{_TINT}) (?P<object>{_THING}), not (?P<expected>{_TINT})"),
        ("color", rf"the (?P<object>{_THING}) is not (?P<expected>{_TINT})"),
        ("position", rf"the (?P<object>{_THING}) is not (?P<expected>{_PLACE}) the (?P<target>{_THING})"),
        (
            "position",
            rf"(?:the|we see the) (?P<object>{_THING})(?: is)? (?P<found>{_PLACE}) the (?P<target>{_THING}), "
            rf"not (?P<expected>{_PLACE})",
        ),
    )
)


def parse(text: str) -> list[Discrepancy]:
    """Return what the sentences of `text` say, each once; a sentence that is not understood says nothing.

    Any text will do: an answer's leading yes or no, letters' case and blanks play no part. Where a later sentence
    contradicts an earlier one (the same kind and object, other values), the first holds.
    """
    found: dict[tuple[str, str], Discrepancy] = {}
    for sentence in re.split(r"[.;\n]+", without_answer(text).lower()):
        sentence = " ".join(sentence.split())
        for kind, pattern in _WORDINGS:
            if match := pattern.fullmatch(sentence):
                values = match.groupdict(default="")
                number = kind == "count"
                discrepancy = Discrepancy(
                    kind,
                    _singular(values["object"]) if kind in ("count", "missing") else values["object"],
                    _digits(values.get("expected", "")) if number else values.get("expected", ""),
                    _digits(values.get("found", "")) if number else values.get("found", ""),
                    values.get("target", ""),
                )
                if number and discrepancy.expected == discrepancy.found:
                    break
                found.setdefault((kind, discrepancy.object), discrepancy)
                break
    return list(found.values())


def understood(reflection: Reflection) -> list[Discrepancy]:
    """What of the reasons could be understood."""
    return parse(reflection.reasons)


def described(reflection: Reflection) -> dict[str, JSON]:
    """All of a reflection as JSON knows it, with what was understood and what is odd, for people."""
    found = [asdict(discrepancy) for discrepancy in understood(reflection)]
    return {**asdict(reflection), "discrepancies": found, "problem": reflection.problem}


def _digits(word: str) -> str:
    return str(NUMBER_WORDS.index(word)) if word in NUMBER_WORDS else word


_PLURALS = {plural(name): name for name in OBJECT_NAMES}


def _singular(words: str) -> str:
    """Undo `plural`; of other objects than GenEval's, an s at the end counts as one."""
    if words in OBJECT_NAMES:
        return words
    return _PLURALS.get(words) or words.removesuffix("s")
