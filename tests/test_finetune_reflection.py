"""Fine-tuning on reflections: the whole answer is learnt, weighed by hand, and judged by its discrepancies."""

import csv
import math
from dataclasses import replace

import pytest
import torch

from imagecot.contracts.questions import REFLECTION
from imagecot.curation.dataset import RankingData, ranking_row
from imagecot.geneval.prompts import OBJECT_NAMES, single_object_metadata
from imagecot.reflection.answers import found_and_said
from imagecot.reflection.discrepancies import Discrepancy, understood
from imagecot.reward_models.finetune import answer_loss, train_answers
from imagecot.reward_models.recipe import FineTuneRecipe
from imagecot.reward_models.rows import answer_ids, targets
from imagecot.verifiers import load_verifier
from small_models import write_verifier

torch.set_num_threads(1)
REASON = "there is no cup."


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_verifier(tmp_path_factory.mktemp("base") / "verifier")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Dark pictures lack a cup, of bright ones the verifier shall say yes; both also as plain ORM rows."""
    folder = tmp_path_factory.mktemp("data") / "mixed"
    rows = []
    for k, name in enumerate(OBJECT_NAMES[:40]):
        for right in (True, False):
            image = torch.full((3, 28, 28), 0.9 if right else 0.1) + 0.02 * torch.rand(3, 28, 28)
            for question in ("orm", "reflection"):
                place = {"step": 18, "steps": 18, "seed": 2 * k + right}
                row = ranking_row(single_object_metadata(name), question, image, **place, label=right)
                rows.append(replace(row, reasons="" if right or question == "orm" else REASON))
    RankingData(folder, {}).keep(0, rows)
    return folder


def test_the_loss_by_hand():
    logits = torch.zeros(2, 3, 4)
    logits[1, :, 0] = math.log(3.0)  # token 0 with probability 1/2, the others 1/6
    target = targets([[2], [0, 1, 0]])
    assert target.tolist() == [[-100, -100, 2], [0, 1, 0]]
    expected = (math.log(4) + math.log(2) + (math.log(6) + math.log(2)) / 2) / 2
    assert float(answer_loss(logits, target)) == pytest.approx(expected)
    only_words = targets([[2], [3]])
    plain = torch.nn.functional.cross_entropy(logits[:, 0], only_words[:, 0])
    assert float(answer_loss(logits[:, :1], only_words)) == pytest.approx(float(plain))


def test_what_shall_be_said(base):
    verifier = load_verifier(base)
    image, place = torch.zeros(3, 4, 4), {"step": 18, "steps": 18, "seed": 0}
    rows = {
        question: replace(
            ranking_row(single_object_metadata("cup"), question, image, **place, label=False), reasons=REASON
        )
        for question in ("orm", "reflection")
    }
    assert answer_ids(verifier, rows["orm"], "static") == [verifier.words[1]]
    whole = answer_ids(verifier, rows["reflection"], "static")
    assert whole[0] == verifier.words[1]
    assert whole[-1] in verifier._ends
    assert verifier.tokenizer.decode(whole, skip_special_tokens=True) == f"no, {REASON}"
    yes = answer_ids(verifier, replace(rows["reflection"], label="yes", reasons=None), "static")
    assert (yes[0], len(yes), yes[1]) == (verifier.words[0], 2, whole[-1])


def test_it_learns_to_say_why(base, data, tmp_path):
    verifier = train_answers(
        FineTuneRecipe(
            output=tmp_path / "out",
            base=str(base),
            data=[{"folder": data}],
            epochs=8,
            batch_size=16,
            learning_rate=5e-3,
            held_out=0.2,
            evaluate_every=1000,
            save_every=1000,
            vision_learning_rate=1e-3,
        )
    )
    pictures = torch.stack([torch.full((3, 28, 28), 0.1), torch.full((3, 28, 28), 0.9)])
    dark, bright = verifier.reflect(pictures, ["a photo of a zebra"])
    assert dark.text == f"no, {REASON}"
    assert understood(dark) == [Discrepancy("missing", "cup")]
    assert (bright.text, bright.accepted) == ("yes", True)
    again = load_verifier(tmp_path / "out").ask(pictures, ["a photo of a zebra"], REFLECTION)
    assert float(again[0]) < 0.2
    assert float(again[1]) > 0.8
    with (tmp_path / "out/training/curves.csv").open() as file:
        scores = {name: float(value) for _, name, value in list(csv.reader(file))[1:] if name.startswith("score/")}
    assert scores["score/reflection/precision"] > 0.9
    assert scores["score/reflection/recall"] > 0.9
    assert scores["score/reflection/balanced/single_object"] > 0.9


def test_precision_and_recall_by_hand():
    red, green = Discrepancy("color", "cup", "blue", "red"), Discrepancy("color", "cup", "blue", "green")
    gone = Discrepancy("missing", "apple")
    scores = found_and_said([[red, gone], [], [gone]], [[green, gone], [red], []])
    assert scores["precision"] == pytest.approx(1 / 3)
    assert scores["recall"] == pytest.approx(1 / 3)
    assert scores["precision_of_kind"] == pytest.approx(2 / 3)
    assert scores["recall_of_kind"] == pytest.approx(2 / 3)
    assert math.isnan(found_and_said([[]], [[red]])["precision"])
