"""Rows of ranking data as what a verifier is shown and shall say."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from imagecot.contracts.questions import CLARITY, ORM, POTENTIAL, PRM, REFLECTION, Question
from imagecot.curation.dataset import read_rows
from imagecot.curation.label import CLEAR_AFTER, scaled
from imagecot.curation.schema import RankingRow
from imagecot.errors import ImagecotError, UsageError
from imagecot.images import from_png
from imagecot.reward_models.recipe import ClarityLabel, FineTuneRecipe
from imagecot.training.order import is_held_out
from imagecot.verifiers.chat_verifier import ChatVerifier

QUESTIONS: dict[str, Question] = {q.name: q for q in (ORM, PRM, CLARITY, POTENTIAL, REFLECTION)}
IGNORED = -100


def label_of(row: RankingRow, clarity_label: ClarityLabel) -> bool:
    """Whether a row's answer is yes."""
    if row.question == "clarity" and isinstance(clarity_label, int):
        return row.step >= clarity_label
    if row.question != "clarity" or clarity_label != "agreement":
        return row.label == "yes"
    if row.agreement not in ("yes", "no"):
        raise ImagecotError(f"row {row.id} has the agreement {row.agreement!r}, neither yes nor no; curate again.")
    return row.agreement == "yes"


def follows_clarity(row: RankingRow, recipe: FineTuneRecipe) -> bool:
    """Whether a row's question would be asked: of potential, by a clarity that is bound to a step, only from there."""
    label = recipe.clarity_label
    if row.question != "potential" or label == "agreement":
        return True
    return row.step >= (label if isinstance(label, int) else scaled(CLEAR_AFTER, row.steps) + 1)


def mix(recipe: FineTuneRecipe) -> tuple[list[RankingRow], list[RankingRow], list[float]]:
    """Rows for training, rows held out, and the weight of each of the former."""
    train: list[RankingRow] = []
    held: list[RankingRow] = []
    weights: list[float] = []
    for source in recipe.data:
        wanted: list[str] = [*(source.questions or QUESTIONS)]
        rows = [row for row in read_rows(source.folder) if row.question in wanted and follows_clarity(row, recipe)]
        if not rows:
            raise UsageError(f"{source.folder} has no rows of the question {' or '.join(wanted)}.")
        for row in rows:
            if is_held_out(row.prompt, recipe.held_out):
                held.append(row)
            else:
                train.append(row)
                weights.append(source.weight)
    if not train or not held:
        raise UsageError("the ranking data has too few prompts to keep some for evaluation; curate more prompts.")
    return train, held, weights


def images_of(rows: Sequence[RankingRow], verifier: ChatVerifier) -> Tensor:
    """The images of rows (B, 3, H, W) in [0, 1], resized as the verifier does where sizes differ."""
    found = [from_png(row.image)[None] for row in rows]
    if len({image.shape for image in found}) > 1:
        found = [verifier.chat.framed(image) for image in found]
    return torch.cat(found)


def moved(images: Tensor, most: int, corners: Sequence[Sequence[int]]) -> Tensor:
    """Images (B, 3, H, W), each moved by up to `most` pixels along both axes; what came in repeats the border.

    corners  for each the row and column, from 0 to 2 * most, at which it is cut out of the wider one
    """
    if not most:
        return images
    height, width = images.shape[2:]
    wide = F.pad(images, (most,) * 4, mode="replicate")
    return torch.stack([image[:, y : y + height, x : x + width] for image, (y, x) in zip(wide, corners, strict=True)])


def answer_ids(verifier: ChatVerifier, row: RankingRow, clarity_label: ClarityLabel) -> list[int]:
    """The tokens that a verifier shall say to a row: yes or no; of a reflection all of it, to its end."""
    word = verifier.words[0 if label_of(row, clarity_label) else 1]
    if row.question != REFLECTION.name:
        return [word]
    rest = row.answer.removeprefix(row.label) + verifier.chat.end
    return [word, *verifier.tokenizer(rest, add_special_tokens=False).input_ids]


def targets(answers: Sequence[list[int]]) -> Tensor:
    """Answers as rows (B, longest), ignored places on the left: where their logits are in a left-padded batch."""
    longest = max(len(ids) for ids in answers)
    return torch.tensor([[IGNORED] * (longest - len(ids)) + ids for ids in answers])


def read_batch(
    verifier: ChatVerifier, rows: Sequence[RankingRow], clarity_label: ClarityLabel
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images (B, 3, S, S) of rows, ids (B, L) of their questions and answers with the mask, and the targets (B, T)."""
    images = images_of(rows, verifier)
    said = [answer_ids(verifier, row, clarity_label) for row in rows]
    asked = [verifier.text(QUESTIONS[row.question], row.prompt) for row in rows]
    # Each token is said behind the ones before it; nothing is said behind the last.
    ids, mask = verifier.layout([text + ids[:-1] for text, ids in zip(asked, said, strict=True)])
    return images, ids, mask, targets(said).to(ids.device)
