"""Reflections: what is wrong with rejected images, in words, and yes for accepted ones (paper, section 3.4).

The images are those of `curate orm`. The reasons come from the scorer's own findings, or from a chat model.
"""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from imagecot.contracts.detector import Detector
from imagecot.contracts.metadata import Metadata
from imagecot.curation.chat_model import ChatModel
from imagecot.curation.dataset import RankingData, read_rows
from imagecot.curation.job import Job, Make
from imagecot.curation.judging import requirements
from imagecot.curation.recipes import CurateReflection
from imagecot.curation.schema import RankingRow
from imagecot.curation.shards import content
from imagecot.errors import UsageError
from imagecot.geneval.detection import judge
from imagecot.identity import Identity
from imagecot.images import from_png
from imagecot.reflection.discrepancies import from_reason, to_text
from imagecot.worlds.find import digests, load_judges

REJECTED_FOR_EACH_ACCEPTED = 4  # about 80 % of the paper's instances are negative
# Maps rejected rows to what is wrong with their images; empty where that could not be found out.
Explain = Callable[[Sequence[RankingRow]], list[str]]


def by_scorer(detector: Detector, seed: int) -> Explain:
    """Explain by the findings of GenEval's rules, in a wording that depends on (seed, row) alone."""

    def explain(rows: Sequence[RankingRow]) -> list[str]:
        images = [from_png(row.image) for row in rows]
        needs = [Metadata.of(json.loads(row.metadata)) for row in rows]
        verdicts = judge(detector, images, needs) if rows else []
        return [
            to_text(from_reason(need, verdict.reason), random.Random(f"{seed}:{row.id}"))
            for row, need, verdict in zip(rows, needs, verdicts, strict=True)
        ]

    return explain


def reflections(rows: Sequence[RankingRow], explain: Explain, seed: int) -> list[RankingRow]:
    """Return the rows of one unit as rows of the question reflection, about four rejected for each accepted.

    Rejected rows without reasons are left out; which accepted ones stay depends on (seed, first row) alone.
    """
    rejected = [row for row in rows if row.label == "no"]
    told = [(row, reasons) for row, reasons in zip(rejected, explain(rejected), strict=True) if reasons]
    accepted = [row for row in rows if row.label == "yes"]
    if accepted:
        random.Random(f"{seed}:{rows[0].id}").shuffle(accepted)
        accepted = accepted[: round(len(told) / REJECTED_FOR_EACH_ACCEPTED)]
    found = [*told, *((row, "") for row in accepted)]
    return [replace(row, id=f"reflection-{row.id}", question="reflection", reasons=said) for row, said in found]


def chat_model(recipe: CurateReflection) -> ChatModel | None:
    """The chat model of a recipe, whose answers are kept in the output; None where a detector gives the reasons."""
    if recipe.endpoint is None or recipe.model is None:
        return None
    return ChatModel(recipe.endpoint, recipe.model, recipe.output / "answers")


def reflection_job(recipe: CurateReflection, chat: ChatModel | None) -> Job[RankingRow]:
    """What is wrong with the rejected images of `curate orm`.

    chat  `chat_model(recipe)`; afterwards it knows what was asked and left out

    UsageError where there are no rejected images; ImagecotError for rows whose metadata no detector could judge.
    """
    data, detector, who = recipe.data, recipe.detector, recipe.model or recipe.detector
    rows = [row for row in read_rows(data) if row.question == "orm"]
    if not rows:
        raise UsageError(f"{data} has no rows of the question orm; run imagecot curate orm first.")
    rejected = [row for row in rows if row.label == "no"]
    if not rejected:
        raise UsageError(f"{data} has no rejected images, of which reasons could be given; draw more paths.")
    if chat is None:
        requirements(rejected, detector, data)
    weights: Identity = {} if chat else {"weights": digests(detector)}

    def load(under_way: RankingData) -> Make[RankingRow]:
        explain: Explain
        if chat is not None:
            chat.begin = under_way.claim
            explain = chat.explain
        else:
            explain = by_scorer(load_judges(detector)[0], recipe.seed)
            under_way.identity |= {"weights": digests(detector)}
        return lambda unit: reflections(unit, explain, recipe.seed)

    def nothing() -> str:
        left_out = f" ({chat.left_out})" if chat and chat.left_out else ""
        return f"{who} gave no reasons for any of the rejected images of {data}{left_out}; ask another one."

    return Job(
        out=recipe.output,
        identity={"kind": "reflection", "data_sha256": content(data), "reasons": who, **weights, "seed": recipe.seed},
        work=rows,
        load=load,
        doing="reflecting",
        title="Reflection data",
        how=f"The images of {data}; reasons by {who}.",
        nothing=nothing,
    )
