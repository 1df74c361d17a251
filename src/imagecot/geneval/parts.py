"""The prompts that tell how a need is met: each asks for one part of it alone, or for something else in its place."""

from collections.abc import Sequence

from imagecot.contracts.metadata import Metadata, Need
from imagecot.geneval.prompts import COLORS, NUMBER_WORDS, RELATIONS, plural, with_article


def presence(need: Need) -> str:
    """The prompt of any one object of a need's class: "a photo of a cup"."""
    return _photo(with_article(need.name))


def by_number(need: Need) -> dict[str, str]:
    """The prompts of so many of its objects, by number from 2 to one more than it asks for, and 4 at least."""
    return {str(number): counted(need.name, number) for number in range(2, max(4, need.count + 1) + 1)}


def by_color(need: Need) -> dict[str, str]:
    """The prompts of its object in each colour: "a photo of a red cup"."""
    return {color: _photo(with_article(f"{color} {need.name}")) for color in COLORS}


def by_relation(need: Need, needs: Sequence[Need]) -> dict[str, str]:
    """The prompts of its object in each relation to its target: "a photo of a cup left of a bench".

    needs  all of the prompt, among which the target is
    """
    target = with_article(needs[need.target].name)
    return {relation: _photo(f"{with_article(need.name)} {relation} {target}") for relation in RELATIONS}


def counted(name: str, number: int) -> str:
    """The prompt of so many objects of a class: "a photo of three cups"."""
    return _photo(f"{NUMBER_WORDS[number] if number < len(NUMBER_WORDS) else number} {plural(name)}")


def parts_of(requirement: Metadata) -> tuple[str, ...]:
    """The prompts of all parts of a requirement, each once: its objects, and their numbers, colours and relations.

    These are the atoms of GenEval 2's Soft-TIFA (Kamath et al., 2025), worded as prompts.
    """
    found: list[str] = []
    for need in requirement.include:
        found.append(presence(need))
        if need.count > 1:
            found.append(by_number(need)[str(need.count)])
        if need.color:
            found.append(by_color(need)[need.color])
    for need in requirement.include:
        if need.relation:
            found.append(by_relation(need, requirement.include)[need.relation])
    return tuple(dict.fromkeys(found))


def _photo(words: str) -> str:
    return f"a photo of {words}"
