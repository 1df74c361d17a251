"""Reflections: what is wrong with rejected images, in words, and yes for accepted ones (paper, section 3.4).

The images are those of `curate orm`. The reasons come from the scorer's own findings, or from a chat model.
"""

import json
import random
from collections.abc import Callable, Sequence

from imagecot.curation.dataset import REASONS, Row
from imagecot.geneval.detection import Detector, judge
from imagecot.geneval.discrepancies import from_reason, to_text
from imagecot.images import from_png

REJECTED_FOR_EACH_ACCEPTED = 4  # about 80 % of the paper's instances are negative
# Maps rejected rows to what is wrong with their images; empty where that could not be found out.
Explain = Callable[[Sequence[Row]], list[str]]


def by_scorer(detector: Detector, seed: int) -> Explain:
    """Explain by the findings of GenEval's rules, in a wording that depends on (seed, row) alone."""

    def explain(rows: Sequence[Row]) -> list[str]:
        images = [from_png(row["image"]["bytes"]) for row in rows]
        needs = [json.loads(row["metadata"]) for row in rows]
        verdicts = judge(detector, images, needs) if rows else []
        return [
            to_text(from_reason(need, verdict.reason), random.Random(f"{seed}:{row['id']}"))
            for row, need, verdict in zip(rows, needs, verdicts, strict=True)
        ]

    return explain


def reflections(rows: Sequence[Row], explain: Explain, seed: int) -> list[Row]:
    """Return the rows of one unit as rows of the question reflection, about four rejected for each accepted.

    Rejected rows without reasons are left out; which accepted ones stay depends on (seed, first row) alone.
    """
    rejected = [row for row in rows if row["label"] == "no"]
    told = [(row, reasons) for row, reasons in zip(rejected, explain(rejected), strict=True) if reasons]
    accepted = [row for row in rows if row["label"] == "yes"]
    if accepted:
        random.Random(f"{seed}:{rows[0]['id']}").shuffle(accepted)
        accepted = accepted[: round(len(told) / REJECTED_FOR_EACH_ACCEPTED)]
    found = [*told, *((row, "") for row in accepted)]
    return [{**row, "id": f"reflection-{row['id']}", "question": "reflection", REASONS: r} for row, r in found]
