"""Harder prompts from the words of the drawn world: several counts, colours and relations at once, 3 to 7 atoms each.

An atom is a part that can be right or wrong by itself: that an object is there, how many there are, its colour, where
it stands (GenEval 2, Kamath et al., 2025). No generator here was trained on such prompts.
"""

import random
from functools import lru_cache

from imagecot.contracts.metadata import Metadata, Need
from imagecot.geneval.prompts import COLORS, NUMBER_WORDS, RELATIONS, plural, with_article
from imagecot.worlds.drawn.captions import OPENINGS
from imagecot.worlds.drawn.scenes import KINDS

SEED = 97
ATOMS = (3, 4, 5, 6, 7)
PER_SIZE = 40
_MOST, _MOST_RELATED = 4, 3  # objects that there is room for, without and with a relation among them


@lru_cache(maxsize=1)
def harder_prompts() -> tuple[Metadata, ...]:
    """The 200 prompts, 40 of each number of atoms, which is the task that they are of: "3 atoms" and so on.

    No training may see one of them (`World.prompts`).
    """
    rng = random.Random(SEED)
    found: dict[int, dict[str, Metadata]] = {size: {} for size in ATOMS}
    while any(len(own) < PER_SIZE for own in found.values()):
        needs, relation = _random(rng)
        own = found.get(_size(needs, relation), {})
        if len(own) < PER_SIZE:
            metadata = composed(needs, relation)
            own.setdefault(metadata.prompt, metadata)
    return tuple(metadata for own in found.values() for metadata in own.values())


def _random(rng: random.Random) -> tuple[list[Need], str]:
    """What a prompt asks for: one to three kinds, of which the first two may stand in a relation, "" for none."""
    counts = [rng.choice((1, 1, 2, 3)) for _ in range(rng.randint(1, 3))]
    relation = rng.choice(RELATIONS) if len(counts) > 1 and rng.random() < 0.5 else ""
    while sum(counts) > (_MOST_RELATED if relation else _MOST):
        counts[counts.index(max(counts))] -= 1
    kinds = rng.sample(KINDS, len(counts))
    colors = [rng.choice(COLORS) if rng.random() < 0.7 else "" for _ in kinds]
    return [Need(*each) for each in zip(kinds, counts, colors, strict=True)], relation


def composed(needs: list[Need], relation: str = "") -> Metadata:
    """A prompt that names needs in turn, the first in a relation to the second; counts from two on are exact.

    As in GenEval the target of a relation is the first thing to include.
    """
    first, *others = map(_words, needs)
    words = [f"{first} {relation} {others[0]}", *others[1:]] if relation else [first, *others]
    include = list(needs)
    if relation:
        subject, target, *rest = needs
        include = [target, Need(subject.name, subject.count, subject.color, relation, 0), *rest]
    exact = tuple(Need(need.name, need.count + 1) for need in include if need.count > 1)
    return Metadata(f"{_size(needs, relation)} atoms", OPENINGS[0] + " and ".join(words), tuple(include), exact)


def _size(needs: list[Need], relation: str) -> int:
    """How many atoms a prompt of these has."""
    return sum(1 + (need.count > 1) + bool(need.color) for need in needs) + bool(relation)


def _words(need: Need) -> str:
    """A need as a noun phrase: "a red cup", "two birds"."""
    if need.count == 1:
        return with_article(f"{need.color} {need.name}".strip())
    return " ".join(filter(None, (NUMBER_WORDS[need.count], need.color, plural(need.name))))
