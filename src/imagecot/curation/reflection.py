"""Reflections: what is wrong with rejected images, in words, and yes for accepted ones (paper, section 3.4).

The images are those of `curate orm`. The reasons come from the scorer's own findings, or from a chat model.
"""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from imagecot.bounds import check_seed
from imagecot.contracts.detector import Detector
from imagecot.contracts.metadata import Metadata
from imagecot.curation.chat_model import ChatModel
from imagecot.curation.dataset import REASONS, RankingData, Row, content, read_rows
from imagecot.curation.job import Job, Make
from imagecot.curation.judging import requirements
from imagecot.errors import UsageError
from imagecot.geneval.detection import judge
from imagecot.images import from_png
from imagecot.reflection.discrepancies import from_reason, to_text
from imagecot.worlds.find import digests, load_judges

REJECTED_FOR_EACH_ACCEPTED = 4  # about 80 % of the paper's instances are negative
# Maps rejected rows to what is wrong with their images; empty where that could not be found out.
Explain = Callable[[Sequence[Row]], list[str]]


def by_scorer(detector: Detector, seed: int) -> Explain:
    """Explain by the findings of GenEval's rules, in a wording that depends on (seed, row) alone."""

    def explain(rows: Sequence[Row]) -> list[str]:
        images = [from_png(row["image"]["bytes"]) for row in rows]
        needs = [Metadata.of(json.loads(row["metadata"])) for row in rows]
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


@dataclass(frozen=True)
class Reflecting:
    """Whose reasons: those of a detector, or with `endpoint` and `model` of a chat model there, and what it did."""

    detector: str = "pictograms"
    endpoint: str | None = None
    model: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if (self.endpoint is None) != (self.model is None):
            raise UsageError("--endpoint and --model go together; give both or neither.")

    @property
    def who(self) -> str:
        """The name of who gives the reasons."""
        return self.model or self.detector

    def chat(self, out: Path) -> ChatModel | None:
        """The chat model, whose answers are kept in `out`; None where a detector gives the reasons."""
        if self.endpoint is None or self.model is None:
            return None
        return ChatModel(self.endpoint, self.model, out / "answers")


def reflection_job(data: Path, out: Path, by: Reflecting, chat: ChatModel | None) -> Job:
    """What is wrong with the rejected images of `curate orm`.

    chat  `by.chat(out)`; afterwards it knows what was asked and left out

    UsageError where there are no rejected images; ImagecotError for rows whose metadata no detector could judge.
    """
    rows = [row for row in read_rows(data) if row["question"] == "orm"]
    if not rows:
        raise UsageError(f"{data} has no rows of the question orm; run imagecot curate orm first.")
    rejected = [row for row in rows if row["label"] == "no"]
    if not rejected:
        raise UsageError(f"{data} has no rejected images, of which reasons could be given; draw more paths.")
    if chat is None:
        requirements(rejected, by.detector, data)
    weights = {} if chat else {"weights": digests(by.detector)}

    def load(under_way: RankingData) -> Make:
        explain: Explain
        if chat is not None:
            chat.begin = under_way.claim
            explain = chat.explain
        else:
            explain = by_scorer(load_judges(by.detector)[0], by.seed)
            under_way.identity |= {"weights": digests(by.detector)}
        return lambda unit: reflections(unit, explain, by.seed)

    def nothing() -> str:
        left_out = f" ({chat.left_out})" if chat and chat.left_out else ""
        return f"{by.who} gave no reasons for any of the rejected images of {data}{left_out}; ask another one."

    return Job(
        out=out,
        identity={"kind": "reflection", "data_sha256": content(data), "reasons": by.who, **weights, "seed": by.seed},
        work=rows,
        load=load,
        title="Reflection data",
        how=f"The images of {data}; reasons by {by.who}.",
        nothing=nothing,
    )
