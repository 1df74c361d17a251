"""The numbers of Table 5 from its rows: the table, the score by rounds, what corrections are worth, and the reasons."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from scipy.stats import sem

from imagecot.geneval.summary import Verdict
from imagecot.reflection.answers import found_and_said
from imagecot.strategies.parm_plus_plus import ROUNDS
from imagecot.study.analysis import mean_cost
from imagecot.study.recipe import SelfCorrection, StudyRecipe
from imagecot.study.rows import SelfCorrectionRow
from imagecot.study.scores import gain, scored, verdict
from imagecot.study.self_correction import LABELS, ROUNDED, WITH, searches
from imagecot.study.summary import Comparison, Redrawn, Row, Scored, known
from imagecot.study.summary import SelfCorrection as Table
from imagecot.study.timing import Timing

Rows = Sequence[SelfCorrectionRow]


def analyse(rows: Rows, recipe: StudyRecipe, part: SelfCorrection, timing: Timing) -> Table:
    """The table, the score by rounds, paired comparisons with every control, and how right the reasons are."""
    sizes = {one.name: one.sizes[0] for one in searches(recipe, part)}
    problems = Counter(str(said["problem"]) for row in rows for said in row.said if said["problem"])
    reasons = found_and_said([row.understood for row in rows], [row.true for row in rows])
    return Table(
        rows={name: table_row(rows, name, sizes.get(name, recipe.n), timing) for name in LABELS},
        by_round={name: [_scored(rows, name, k) for k in range(ROUNDS + 1)] for name in ROUNDED},
        redrawn={name: redrawn(rows, name) for name in ROUNDED},
        comparisons=[
            Comparison(a=WITH, b=name, **dict(gain(judged(rows, WITH), judged(rows, name))))
            for name in LABELS
            if name != WITH
        ],
        reasons={name: known(share) for name, share in reasons.items()},
        problems={kind: problems[kind] for kind in sorted(problems)},
        rounds={str(k): sum(len(row.said) == k for row in rows) for k in range(1, ROUNDS + 1)},
        prompts=len(rows),
    )


def table_row(rows: Rows, name: str, n: int, timing: Timing) -> Row:
    """A row of the table, which has n paths."""
    return Row(
        label=LABELS[name],
        n=n,
        **dict(_scored(rows, name)),
        seconds_per_image=timing.get(name, {}).get(n),
        cost=mean_cost([row.arms[name].cost for row in rows]),
        prompts=len(rows),
    )


def judged(rows: Rows, name: str, judge: int = 0, rounds: int | None = None) -> list[Verdict]:
    """One judge's verdict a prompt on what a row of the table chose, or would have chosen after so many rounds."""
    found = []
    for row in rows:
        by_round = row.arms[name].by_round or []
        verdicts = row.arms[name].correct if rounds is None else by_round[rounds]
        found.append(verdict(row.metadata, verdicts[judge]))
    return found


def _scored(rows: Rows, name: str, rounds: int | None = None) -> Scored:
    return scored([judged(rows, name, judge, rounds) for judge in range(len(rows[0].arms[name].correct))])


def redrawn(rows: Rows, name: str) -> Redrawn:
    """The share of right ones among the images of the first round, where the image that they replace was wrong.

    All rows redraw the same images, and nobody chooses: what a correction is worth, by each judge, with its standard
    error over prompts.
    """
    drawn = [images for row in rows if row.true and (images := row.arms[name].redrawn)]
    if not drawn:
        return Redrawn(prompts=0, right=[], standard_error=[])
    shares = np.array([np.mean(images, axis=0) for images in drawn])  # prompts x judges
    errors = sem(shares, axis=0) if len(shares) > 1 else np.zeros(shares.shape[1])
    return Redrawn(prompts=len(shares), right=shares.mean(axis=0).tolist(), standard_error=errors.tolist())
