"""How precise a study will be, before anything is drawn: from the errors of a smaller one of the same rows, a pilot.

A standard error falls with the root of the number of prompts. What further draws of the same prompts add lies between
nothing, where only prompts differ, and as much as other prompts would, where only paths do; both ends are told.
"""

import math
from collections import Counter
from dataclasses import dataclass

from imagecot.report.blocks import Line, Table
from imagecot.report.paper import CLAIMS, CORRECTION, DECIDED, Claim, Difference, judge, judge_near, weigh
from imagecot.report.tables import NONE, OUTCOMES, number, points
from imagecot.study.recipe import StudyRecipe, due, units
from imagecot.study.summary import Row, Summary

HEAD_OF_ROWS = ["method", "prompts", "draws", "standard error: least", "most"]
HEAD_OF_FINDINGS = ["the paper finds", "pilot", "half of the interval: least", "most", "at the pilot's value"]


@dataclass(frozen=True)
class Factor:
    """By what an error of the pilot is multiplied: at least, and at most."""

    least: float
    most: float


def rows(recipe: StudyRecipe, pilot: Summary) -> Table:
    """The standard error that each row's score will have."""
    found: list[list[Line]] = []
    for name, prompts in prompts_of(recipe).items():
        there = pilot.methods.get(name)
        error = there.overall_se if there else None
        factor = factor_of(there, prompts, recipe.draws)
        ends = [NONE, NONE]
        if error is not None and factor is not None:
            ends = [number(error * factor.least, 3), number(error * factor.most, 3)]
        found.append([recipe.rows[name].label or name, str(prompts), str(recipe.draws), *ends])
    return Table(HEAD_OF_ROWS, found)


def findings(recipe: StudyRecipe, pilot: Summary) -> Table:
    """How wide the intervals of the paper's findings will be, in points, and what they decide at the pilot's values."""
    prompts = prompts_of(recipe)
    found: list[list[Line]] = []
    for claim in CLAIMS:
        if claim.table == CORRECTION or not {claim.a, claim.b} <= prompts.keys():
            continue
        seen = weigh(claim, pilot)
        factor = factor_of(pilot.methods.get(claim.a), min(prompts[claim.a], prompts[claim.b]), recipe.draws)
        if seen.ours is None or seen.ours.low is None or seen.ours.high is None or factor is None:
            found.append([claim.text, points(seen.ours.value if seen.ours else None), NONE, NONE, OUTCOMES[None]])
            continue
        half = (seen.ours.high - seen.ours.low) / 2
        ends = half * factor.least, half * factor.most
        outcomes = dict.fromkeys(_decided(claim, seen.ours.value, end, seen.bound) for end in ends)
        found.append([claim.text, points(seen.ours.value), *(number(100 * end) for end in ends), " to ".join(outcomes)])
    return Table(HEAD_OF_FINDINGS, found)


def prompts_of(recipe: StudyRecipe) -> dict[str, int]:
    """How many prompts each row will be seen on."""
    counted = Counter(name for unit in units(recipe) if unit.draw == 0 for name in due(recipe, unit))
    return {name: counted[name] for name in recipe.rows}


def factor_of(there: Row | None, prompts: int, draws: int) -> Factor | None:
    """By what the errors of a row of the pilot change; None where it is not there, or does not tell its prompts."""
    if there is None or not there.prompts:
        return None
    by_prompts = there.prompts / prompts
    by_draws = max(there.draws, 1) / draws
    least, most = sorted((math.sqrt(by_prompts * by_draws), math.sqrt(by_prompts)))
    return Factor(least, most)


def _decided(claim: Claim, value: float, half: float, bound: float) -> str:
    """What would be said of a difference with an interval of that half."""
    there = Difference(value, value - half, value + half, True)
    outcome = judge_near(there, bound) if claim.near else judge(there)
    return "decided" if outcome in DECIDED else "undecided"
