"""What is wrong with an image, found by asking about the parts of its prompt: one forward pass, yes and no only.

A verifier that can say whether an image shows "a photo of a cup" tells what is missing, of another colour, too many or
elsewhere by its answers to the ORM question on prompts that ask for less, or for something else: there is no cup if it
says no to one, and the cup is red if "a photo of a red cup" gets the highest P(yes) of all colours. Not in the paper,
where the verifier writes its reasons; these are right two to five times as often as what `tiny-parm++` writes.
"""

import random
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from imagecot import guard
from imagecot.contracts.metadata import Metadata, Need
from imagecot.contracts.questions import ORM, REFLECTION
from imagecot.contracts.reflection import Reflection
from imagecot.contracts.verifier import Verifier
from imagecot.geneval.parts import by_color, by_number, by_relation, presence
from imagecot.reflection.discrepancies import Discrepancy, to_text

YES = 0.5
_FEW = 0.2  # P(yes) that no number of two or more reaches where there is one
Doubt = tuple[float, Discrepancy]  # P(yes) to what is asked for, and what is wrong if it is not there


def examined(verifier: Verifier, images: Tensor, prompt: str, requirement: Metadata, seed: int) -> Reflection:
    """Reflect on one image (1, 3, H, W): P(yes) of the reflection question, and where it is a no what `examine` finds.

    seed  of the sentences' wording
    """
    p_yes = float(guard.ask(verifier, images, [prompt], REFLECTION)[0])
    accepted = Reflection("yes", p_yes)
    if accepted.accepted:
        return accepted

    found = examine_image(verifier, images, requirement)
    return Reflection(f"no, {to_text(found, random.Random(seed))}", p_yes)


def examine_image(verifier: Verifier, images: Tensor, requirement: Metadata) -> list[Discrepancy]:
    """What `examine` finds wrong with one image (1, 3, H, W), asked of a verifier in one batch."""

    def ask(texts: list[str]) -> Sequence[float]:
        answers: list[float] = guard.ask(verifier, images.expand(len(texts), -1, -1, -1), texts, ORM).tolist()
        return answers

    return examine(ask, requirement)


def examine(ask: Callable[[list[str]], Sequence[float]], requirement: Metadata) -> list[Discrepancy]:
    """Return what is wrong with a rejected image; the weakest point where nothing is below the mark, so never nothing.

    ask          P(yes) to the ORM question about the image for each of some prompts
    requirement  what was asked for, of `read_prompt` or of the benchmark
    """
    needs = requirement.include
    texts = list(dict.fromkeys(text for need in needs for text in _texts(need, needs)))
    p_yes = dict(zip(texts, ask(texts), strict=True))
    wrong: list[Doubt] = []
    doubts: list[Doubt] = []
    for need in needs:
        name = need.name
        missing = (p_yes[presence(need)], Discrepancy("missing", name))
        doubts.append(missing)
        if missing[0] < YES:
            wrong.append(missing)
            continue
        for expected, found, doubt in _looked_at(need, p_yes):
            doubts.append(doubt)
            if expected != found:
                wrong.append(doubt)
    for need in needs:
        if need.relation:
            expected, found, doubt = _place(need, needs, p_yes)
            doubts.append(doubt)
            if not wrong and expected != found:
                wrong.append(doubt)
    return [discrepancy for _, discrepancy in wrong or [min(doubts, key=lambda doubt: doubt[0])]]


def _texts(need: Need, needs: Sequence[Need]) -> list[str]:
    """The prompts that tell how a need is met."""
    texts = [presence(need)]
    if need.count > 1:
        texts += by_number(need).values()
    if need.color:
        texts += by_color(need).values()
    if need.relation:
        texts += by_relation(need, needs).values()
    return texts


def _looked_at(need: Need, p_yes: Mapping[str, float]) -> list[tuple[str, str, Doubt]]:
    """What was expected and found of number and colour, each with its doubt."""
    name, looks = need.name, []
    if need.count > 1:
        expected = str(need.count)
        counts = {number: p_yes[text] for number, text in by_number(need).items()}
        found = max(counts, key=counts.__getitem__)
        found = found if counts[found] >= _FEW else "1"
        other = found if found != expected else "1"
        looks.append((expected, found, (counts[expected], Discrepancy("count", name, expected, other))))
    if need.color:
        colors = {color: p_yes[text] for color, text in by_color(need).items()}
        found = max(colors, key=colors.__getitem__)
        seen = found if found != need.color else ""
        looks.append((need.color, found, (colors[need.color], Discrepancy("color", name, need.color, seen))))
    return looks


def _place(need: Need, needs: Sequence[Need], p_yes: Mapping[str, float]) -> tuple[str, str, Doubt]:
    expected = need.relation
    places = {relation: p_yes[text] for relation, text in by_relation(need, needs).items()}
    found = max(places, key=places.__getitem__)
    seen = found if found != expected else ""
    discrepancy = Discrepancy("position", need.name, expected, seen, needs[need.target].name)
    return expected, found, (places[expected], discrepancy)
