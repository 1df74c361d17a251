"""Does a judge answer the same whatever stands beside a picture, tell pictures apart, and agree with a copy?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from imagecot.statistics.correlation import rank_correlation
from imagecot.trust.asking import Asked
from imagecot.trust.findings import Finding, Limit
from imagecot.trust.material import Material

_STEADY, _TELLS = "answers the same in any batch", "tells paths apart"
_MOST_CHANGE, _MOST_DIFFERENCE = 0.02, 0.05


@dataclass(frozen=True, eq=False)
class Chosen:
    """Answers about the groups of a material: P(yes) (n,) of each, in the order of its pictures."""

    answers: tuple[Tensor, ...]

    @property
    def choices(self) -> list[int]:
        """Which picture of each group has the highest P(yes), the first of equal ones."""
        return [int(one.argmax()) for one in self.answers]

    @property
    def all(self) -> Tensor:
        """The answers in a row."""
        return torch.cat([torch.empty(0, dtype=torch.float64), *self.answers])


def choose(judge: Asked, material: Material) -> Chosen:
    """Ask about each group by itself, as a search does."""
    found = []
    for group in material.groups:
        pictures = [material.pictures[k] for k in group.pictures]
        found.append(judge.ask(pictures, [group.prompt] * len(pictures)))
    return Chosen(tuple(found))


def steady(judge: Asked, material: Material, before: Chosen) -> list[Finding]:
    """Ask again: reversed, among pictures of other groups, and the first group one by one."""
    groups = material.groups
    again = [
        (number, judge.ask([material.pictures[k] for k in group.pictures[::-1]], [group.prompt] * len(group.pictures)))
        for number, group in enumerate(groups)
    ]
    again = [(number, answers.flip(0)) for number, answers in again]
    again += enumerate(_mixed(judge, material))
    if groups:
        alone = [judge.ask([material.pictures[k]], [groups[0].prompt]) for k in groups[0].pictures]
        again.append((0, torch.cat(alone)))
    change = max((float((before.answers[k] - answers).abs().max()) for k, answers in again), default=None)
    same = [before.choices[k] == int(answers.argmax()) for k, answers in again]
    asked = sum(len(answers) for _, answers in again)
    return [
        Finding(
            _STEADY, "largest change of P(yes) by order or batch", change, Limit(most=_MOST_CHANGE),
            "answers otherwise in another order or batch", asked,
        ),
        Finding(
            _STEADY, "share of choices that stay", float(np.mean(same)) if same else None, Limit(least=0.8),
            "chooses otherwise in another order or batch", len(same),
        ),
    ]  # fmt: skip


def _mixed(judge: Asked, material: Material) -> list[Tensor]:
    """The answers of each group where pictures of all groups take turns, so that prompts of other lengths are near."""
    places = [
        (turn, number)
        for turn in range(max((len(group.pictures) for group in material.groups), default=0))
        for number, group in enumerate(material.groups)
        if turn < len(group.pictures)
    ]
    pictures = [material.pictures[material.groups[number].pictures[turn]] for turn, number in places]
    answers = judge.ask(pictures, [material.groups[number].prompt for _, number in places])
    return [
        answers[[k for k, (_, number) in enumerate(places) if number == own]] for own in range(len(material.groups))
    ]


def told_apart(chosen: Chosen, precision: str) -> Finding:
    """How many different answers there are among the pictures of a prompt, as a share: ties are broken by chance.

    precision  the number format, for people; empty where it is not known
    """
    shares = [len(set(answers.tolist())) / len(answers) for answers in chosen.answers]
    size = max((len(answers) for answers in chosen.answers), default=0)
    where = f" in {precision}" if precision else ""
    return Finding(
        _TELLS, f"share of different answers among {size} pictures{where}", float(np.mean(shares)) if shares else None,
        Limit(least=0.75), "gives the same answer to many pictures of a prompt", len(chosen.all),
    )  # fmt: skip


def agreed(other: str, cases: tuple[Tensor, Tensor], here: Chosen, there: Chosen) -> list[Finding]:
    """How far two judges, or a judge in two number formats, say the same.

    other  who the second is, for people
    cases  what both said (N,) of other cases; what both said of the groups is `here` and `there`
    """
    a, b = (torch.cat([some, chosen.all]) for some, chosen in zip(cases, (here, there), strict=True))
    part, gap = f"agrees with {other}", (a - b).abs()
    ranks = [rank_correlation(x.tolist(), y.tolist()) for x, y in zip(here.answers, there.answers, strict=True)]
    same = [x == y for x, y in zip(here.choices, there.choices, strict=True)]

    def finding(name: str, values: Sequence[float], limit: Limit, what: str) -> Finding:
        known = bool(values) and not any(np.isnan(values))
        mean = float(np.mean(values)) if known else None
        return Finding(part, name, mean, limit, f"{what} otherwise than {other}", count=len(values))

    largest, far = float(gap.max()), f"answers otherwise than {other}"
    yes = ((a >= 0.5) == (b >= 0.5)).double().tolist()
    return [
        Finding(part, "largest difference of P(yes)", largest, Limit(most=_MOST_DIFFERENCE), far, len(a)),
        finding("mean difference of P(yes)", gap.tolist(), Limit(most=0.01), "answers"),
        finding("share of the same yes and no", yes, Limit(least=0.97), "answers"),
        finding("rank correlation among pictures of a prompt", ranks, Limit(least=0.95), "orders"),
        finding("share of the same choices", [float(one) for one in same], Limit(least=0.6), "chooses"),
    ]
