"""The paper's numbers, and where a study agrees with the orderings that they imply.

Source: arXiv 2501.13926v2, Tables 1, 2, 3 and 5, kept in `report/paper.json`; nothing of it is repeated here.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from typing import Literal

from pydantic import Field

from imagecot.reading import Foreign, read_record
from imagecot.study.summary import Comparison, Row, Scores, Summary

MAIN, CORRECTION = "show_o", "show_o_self_correction_fine_tuned"
ORDERED = 0.01  # the least difference of two of the paper's scores that counts as an ordering
NORMAL_95 = 1.96
SAME = 2 * ORDERED  # a difference whose whole interval is at most so far from 0 is none that matters
DECIDED = ("agrees", "equal", "contradicts")

Outcome = Literal["agrees", "leans", "equal", "against", "contradicts"]


@dataclass(frozen=True)
class Claim:
    """The paper finds row `a` above row `b`; with `near`, that a gains at most half of what row `near` gains."""

    text: str
    a: str
    b: str
    table: str = MAIN
    near: str | None = None


CLAIMS = (
    Claim("Best-of-N by a zero-shot ORM beats a single path", "orm_zero_shot", "baseline"),
    Claim("A fine-tuned ORM beats a zero-shot one", "orm_fine_tuned", "orm_zero_shot"),
    Claim("A zero-shot PRM stays near the baseline", "prm_zero_shot", "baseline", near="orm_fine_tuned"),
    Claim("A fine-tuned PRM stays near the baseline", "prm_fine_tuned", "baseline", near="orm_fine_tuned"),
    Claim("PARM beats the fine-tuned ORM", "parm", "orm_fine_tuned"),
    Claim("DPO beats the baseline", "dpo", "baseline"),
    Claim("Iterative DPO beats DPO", "iterative_dpo", "dpo"),
    Claim("Guidance by the ORM improves iterative DPO", "iterative_dpo_guided_by_orm", "iterative_dpo"),
    Claim("Guidance by PARM improves iterative DPO", "iterative_dpo_guided_by_parm", "iterative_dpo"),
    Claim("PARM on an aligned generator beats PARM alone", "parm+iterative_dpo", "parm"),
    Claim("PARM on an aligned generator beats alignment alone", "parm+iterative_dpo", "iterative_dpo"),
    Claim("PARM on a generator guided by PARM beats the baseline", "parm+iterative_dpo_guided_by_parm", "baseline"),
    Claim("Reflection improves PARM++", "parm++_with_reflection", "parm++_without_reflection", CORRECTION),
)


@dataclass(frozen=True)
class Difference:
    """Row a − row b with its 95 % interval where known; not `paired` means from the standard errors of both."""

    value: float
    low: float | None
    high: float | None
    paired: bool


@dataclass(frozen=True)
class Finding:
    """A claim beside what a study found; `outcome` None where a row of it is missing.

    `bound` is what a difference is held against: 0, or the most that a row which should stay near may be away.
    """

    claim: Claim
    paper: float
    ours: Difference | None
    second: Difference | None
    outcome: Outcome | None
    bound: float = 0.0


class Settings(Foreign):
    """How the paper's searches were set."""

    first_clear_steps: tuple[int, int]


class Paper(Foreign):
    """The numbers of the paper that are held against a study: scores by row, a column a task and overall."""

    source: str
    columns: list[str]
    show_o: dict[str, list[float]]
    show_o_self_correction_fine_tuned: dict[str, list[float]]
    settings: Settings
    known_inconsistencies: list[str] = Field(default=[])

    @property
    def tables(self) -> dict[str, dict[str, list[float]]]:
        """The tables by what they are about."""
        return {MAIN: self.show_o, CORRECTION: self.show_o_self_correction_fine_tuned}


@lru_cache
def paper() -> Paper:
    """Everything of `report/paper.json` that is used."""
    return read_record(Path(__file__).parent / "paper.json", Paper, advice="install the package again")


def printed(name: str, table: str = MAIN) -> dict[str, float]:
    """The paper's scores of a row by column ("overall" is one); empty where the paper does not have it."""
    values = paper().tables[table].get(name)
    return dict(zip(paper().columns, values, strict=True)) if values else {}


def paper_gain(name: str, over: str = "baseline", table: str = MAIN) -> float | None:
    """The paper's difference of two rows, as printed (two decimals); None where it lacks one."""
    a, b = printed(name, table), printed(over, table)
    return round(a["overall"] - b["overall"], 2) if a and b else None


def difference(
    rows: Mapping[str, Row], pairs: Iterable[Comparison], a: str, b: str, *, second: bool = False
) -> Difference | None:
    """Row a − row b by one of the judges, on the same prompts where the study compared them; None without both.

    There is no interval where a task has a single prompt: resampling it says nothing.
    """
    one, other = rows.get(a), rows.get(b)
    known = all(row is None or row.overall_se is not None for row in (one, other))
    for pair in pairs:
        gain = pair.second_judge if second else pair
        if gain is not None and (pair.a, pair.b) in ((a, b), (b, a)):
            sign = 1 if pair.a == a else -1
            low, high = sorted((sign * gain.low, sign * gain.high)) if known else (None, None)
            return Difference(sign * gain.difference, low, high, True)
    if second:
        return unpaired(one and one.second_judge, other and other.second_judge)
    return unpaired(one, other)


def unpaired(a: Scores | None, b: Scores | None) -> Difference | None:
    """The difference of two scores as if of different prompts: its interval is too wide rather than too narrow."""
    if a is None or b is None:
        return None
    value = a.overall - b.overall
    if a.overall_se is None or b.overall_se is None:
        return Difference(value, None, None, False)
    error = NORMAL_95 * math.hypot(a.overall_se, b.overall_se)
    return Difference(value, value - error, value + error, False)


def judge(found: Difference) -> Outcome:
    """Whether a difference that should be positive is; decided where its interval excludes 0 or is within 2 points."""
    if found.low is not None and found.high is not None:
        if found.low > 0:
            return "agrees"
        if found.high < 0:
            return "contradicts"
        if found.low >= -SAME and found.high <= SAME:
            return "equal"
    return "leans" if found.value > 0 else "against"


def judge_near(found: Difference, bound: float) -> Outcome:
    """Whether a difference stays within ±bound, and whether its interval does (or stays outside of it)."""
    low, high = (found.value if end is None else end for end in (found.low, found.high))
    known = found.low is not None
    if abs(found.value) <= bound:
        return "agrees" if known and -bound <= low and high <= bound else "leans"
    return "contradicts" if known and (low > bound or high < -bound) else "against"


def weigh(claim: Claim, summary: Summary) -> Finding:
    """One claim beside the study."""
    rows: Mapping[str, Row] = summary.methods
    pairs = summary.comparisons
    if claim.table == CORRECTION:
        rows = summary.self_correction.rows if summary.self_correction else {}
        pairs = summary.self_correction.comparisons if summary.self_correction else []
    gap = paper_gain(claim.a, claim.b, claim.table)
    assert gap is not None, claim
    ours = difference(rows, pairs, claim.a, claim.b) if claim.a in rows and claim.b in rows else None
    second = difference(rows, pairs, claim.a, claim.b, second=True)
    if ours is None:
        return Finding(claim, gap, None, second, None)
    if claim.near is None:
        return Finding(claim, gap, ours, second, judge(ours))
    yardstick = difference(rows, pairs, claim.near, claim.b) if claim.near in rows else None
    if yardstick is None:
        return Finding(claim, gap, ours, second, None)
    bound = max(0.0, yardstick.value / 2)
    return Finding(claim, gap, ours, second, judge_near(ours, bound), bound)


def main_findings(summary: Summary) -> list[Finding]:
    """The paper's main claims beside the study."""
    return [weigh(claim, summary) for claim in CLAIMS]


def orderings(summary: Summary) -> list[Finding]:
    """Every pair of rows which the paper orders, the higher first, beside the study, the widest gap first."""
    claims = []
    for table in (MAIN, CORRECTION):
        for one, other in combinations(paper().tables[table], 2):
            gap = paper_gain(one, other, table)
            if gap is not None and abs(gap) >= ORDERED:
                a, b = (one, other) if gap > 0 else (other, one)
                claims.append(Claim(f"{a} > {b}", a, b, table))
    return sorted((weigh(claim, summary) for claim in claims), key=lambda finding: -finding.paper)
