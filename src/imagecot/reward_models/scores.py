"""How well a verifier answers held-out rows of ranking data."""

from collections.abc import Sequence

import torch
from torch import Tensor

from imagecot.contracts.questions import REFLECTION
from imagecot.curation.schema import RankingRow
from imagecot.reflection.answers import found_and_said
from imagecot.reflection.discrepancies import parse, understood
from imagecot.reward_models.recipe import FineTuneRecipe
from imagecot.reward_models.rows import QUESTIONS, images_of, label_of
from imagecot.statistics.answers import answer_scores
from imagecot.verifiers.chat_verifier import ChatVerifier

_REFLECTED = 256  # held-out reflections that are written out in an evaluation


@torch.no_grad()
def evaluate(
    verifier: ChatVerifier, rows: Sequence[RankingRow], recipe: FineTuneRecipe, batch: int = 64
) -> dict[str, float]:
    """Scores of the answers to held-out rows, by task and by question and step."""
    answers: list[Tensor] = []
    for question in sorted({row.question for row in rows}):
        own = [row for row in rows if row.question == question]
        for first in range(0, len(own), batch):
            part = own[first : first + batch]
            images = images_of(part, verifier)
            answers.append(verifier.ask(images, [row.prompt for row in part], QUESTIONS[question]))
    ordered = sorted(rows, key=lambda row: row.question)
    p_yes = torch.cat(answers).float()
    labels = torch.tensor([label_of(row, recipe.clarity_label) for row in ordered])
    scores = answer_scores(p_yes, labels, [row.question for row in ordered])
    for name in sorted({row.question for row in rows}):
        here = torch.tensor([row.question == name for row in ordered])
        some = [row for row in ordered if row.question == name]
        by_task = answer_scores(p_yes[here], labels[here], [row.task for row in some])
        scores |= {f"{name}/{key}": value for key, value in by_task.items() if "/" in key}
        by_step = answer_scores(p_yes[here], labels[here], [f"step {row.step:02d}" for row in some])
        scores |= {f"{name}/{key}": value for key, value in by_step.items() if "/" in key}
    return scores | reason_scores(verifier, rows, batch)


def reason_scores(verifier: ChatVerifier, rows: Sequence[RankingRow], batch: int) -> dict[str, float]:
    """Precision and recall of the written reasons of rejected images, where those of the rows can be understood."""
    wrong = [row for row in rows if row.question == REFLECTION.name and row.label == "no"]
    wrong = [row for row in wrong if parse(row.reasons or "")][:_REFLECTED]
    if not wrong:
        return {}
    said = []
    for first in range(0, len(wrong), batch):
        part = wrong[first : first + batch]
        said += verifier.reflect(images_of(part, verifier), [row.prompt for row in part])
    found = found_and_said([understood(reflection) for reflection in said], [parse(row.reasons or "") for row in wrong])
    return {f"reflection/{name}": value for name, value in found.items()}
