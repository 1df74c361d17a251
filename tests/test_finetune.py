"""Fine-tuning a verifier: it learns the answers, moves all that it should and nothing else, resumes, saves adapters."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from imagecot.contracts.questions import ORM
from imagecot.curation.dataset import RankingData, ranking_row
from imagecot.curation.schema import RankingRow
from imagecot.errors import ImagecotError, UsageError
from imagecot.geneval.prompts import OBJECT_NAMES, single_object_metadata
from imagecot.reward_models.finetune import train_answers
from imagecot.reward_models.recipe import FineTuneRecipe
from imagecot.reward_models.rows import label_of, mix, moved
from imagecot.statistics.answers import answer_scores, auroc, balanced_accuracy, calibration_error
from imagecot.training.order import epoch_order, is_held_out
from imagecot.verifiers import load_verifier
from small_models import write_verifier
from stopping import stopped_behind_state

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_verifier(tmp_path_factory.mktemp("base") / "verifier")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Bright pictures are right, dark ones wrong."""
    folder = tmp_path_factory.mktemp("data") / "orm"
    rows = []
    for k, name in enumerate(OBJECT_NAMES[:60]):
        for right in (True, False):
            image = torch.full((3, 28, 28), 0.9 if right else 0.1) + 0.02 * torch.rand(3, 28, 28)
            place = {"step": 18, "steps": 18, "seed": 2 * k + right}
            rows.append(ranking_row(single_object_metadata(name), "orm", image, **place, label=right))
    RankingData(folder, {}).keep(0, rows)
    return folder


def recipe(base, data, output, **more) -> FineTuneRecipe:
    values = {
        "output": output, "base": str(base), "data": [{"folder": data}], "epochs": 3, "batch_size": 8,
        "learning_rate": 3e-3, "held_out": 0.2, "evaluate_every": 20, "save_every": 10,
    }  # fmt: skip
    return FineTuneRecipe(**{**values, **more})


def curves(folder) -> list[list[str]]:
    with (folder / "training/curves.csv").open() as file:
        return list(csv.reader(file))[1:]


def test_it_learns_and_moves_every_trainable_weight(base, data, tmp_path):
    before = {n: p.clone() for n, p in load_verifier(base).model.named_parameters()}
    verifier = train_answers(recipe(base, data, tmp_path / "out", vision_learning_rate=1e-3))
    still = [n for n, p in verifier.model.named_parameters() if p.requires_grad and torch.equal(p, before[n])]
    # Rows of the embedding that no text uses have no gradient, but the table as a whole moves.
    assert still == []
    scores = {name: float(value) for _, name, value in curves(tmp_path / "out") if name.startswith("score/")}
    assert scores["score/balanced"] > 0.9
    assert scores["score/auroc"] > 0.95
    assert "score/orm/balanced/single_object" in scores
    saved = load_verifier(tmp_path / "out")
    bright, dark = torch.full((1, 3, 28, 28), 0.9), torch.full((1, 3, 28, 28), 0.1)
    assert float(saved.ask(bright, ["a photo of a zebra"], ORM)) > 0.8
    assert float(saved.ask(dark, ["a photo of a zebra"], ORM)) < 0.2


def test_how_it_was_asked_and_searched_with_travels_along(base, data, tmp_path):
    before = Path(shutil.copytree(base, tmp_path / "base"))
    told = {"searches": {"parm": {"keep": 0.3}}, "questions": {"orm": " {prompt}, yes?"}}
    (before / "search_config.json").write_text(json.dumps(told))
    trained = train_answers(recipe(before, data, tmp_path / "whole", epochs=0.1))
    assert json.loads((tmp_path / "whole/search_config.json").read_text()) == told
    again = load_verifier(tmp_path / "whole")
    assert again.settings == trained.settings == {"precision": "float32", "questions": told["questions"]}
    assert again.advice == told["searches"]
    train_answers(recipe(before, data, tmp_path / "adapter", epochs=0.1, lora={"r": 4, "alpha": 8}))
    assert not (tmp_path / "adapter/search_config.json").exists()
    assert load_verifier(tmp_path / "adapter").settings == again.settings


def test_the_eye_stays_where_its_rate_is_zero(base, data, tmp_path):
    before = {n: p.clone() for n, p in load_verifier(base).model.named_parameters()}
    verifier = train_answers(recipe(base, data, tmp_path / "out", epochs=0.3))
    for name, parameter in verifier.model.named_parameters():
        assert torch.equal(parameter, before[name]) == ("vision_tower" in name), name


def test_resumed_training_gives_the_same_losses_and_weights(base, data, tmp_path):
    whole = train_answers(recipe(base, data, tmp_path / "whole", epochs=2.5, shift=3))
    parts = recipe(base, data, tmp_path / "parts", epochs=2.5, shift=3)
    with stopped_behind_state():
        train_answers(parts)
    assert [file.name for file in (tmp_path / "parts/training").glob("state-*")] == ["state-0000010"]
    again = train_answers(parts)
    for one, other in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert curves(tmp_path / "parts") == curves(tmp_path / "whole")


@pytest.mark.parametrize("vision_rate", [0.0, 1e-2])
def test_an_adapter_is_saved_alone_and_loads_onto_its_base(base, data, tmp_path, vision_rate):
    rates = {"learning_rate": 1e-2, "vision_learning_rate": vision_rate}
    low = recipe(base, data, tmp_path / "adapter", lora={"r": 4, "alpha": 8}, **rates)
    trained = train_answers(low)
    names = {file.name for file in (tmp_path / "adapter").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors"} <= names
    assert "model.safetensors" not in names
    assert json.loads((tmp_path / "adapter/adapter_config.json").read_text())["base_model_name_or_path"] == str(base)
    moved = [n for n, p in trained.model.named_parameters() if p.requires_grad]
    assert moved
    assert all("lora_" in name for name in moved)
    assert any("vision_tower" in name for name in moved) == (vision_rate > 0)
    images = torch.rand(4, 3, 28, 28)
    trained.model.eval()
    answers = trained.ask(images, ["a photo of a dog"], ORM)
    again = load_verifier(tmp_path / "adapter").ask(images, ["a photo of a dog"], ORM)
    torch.testing.assert_close(again, answers, atol=1e-5, rtol=0)
    plain = load_verifier(base).ask(images, ["a photo of a dog"], ORM)
    assert (plain - answers).abs().max() > 1e-3
    broken = tmp_path / "adapter/adapter_model.safetensors"
    broken.write_bytes(broken.read_bytes()[:100])
    with pytest.raises(ImagecotError, match="truncated or corrupt"):
        load_verifier(tmp_path / "adapter")


def test_no_prompt_is_on_both_sides(base, data, tmp_path):
    train, held, weights = mix(recipe(base, data, tmp_path))
    assert not {row.prompt for row in train} & {row.prompt for row in held}
    assert len(train) + len(held) == 120
    assert len(weights) == len(train)
    assert 0.1 < len(held) / 120 < 0.35
    assert is_held_out("a", 1.0)
    assert not is_held_out("a", 0.0)


def test_questions_that_are_not_there_are_said(base, data, tmp_path):
    asking = recipe(base, data, tmp_path)
    asking.data[0].questions = ["prm"]
    with pytest.raises(UsageError, match="has no rows of the question prm"):
        mix(asking)


def test_images_are_moved_and_their_border_is_repeated():
    images = torch.arange(2 * 3 * 4 * 5, dtype=torch.float32).view(2, 3, 4, 5)
    assert moved(images, 0, []) is images
    seen = set()
    for corner in [(y, x) for y in range(3) for x in range(3)]:
        for before, after in zip(images, moved(images, 1, [corner, corner]), strict=True):
            fits = [
                (dy, dx)
                for dy in (-1, 0, 1)
                for dx in (-1, 0, 1)
                if all(
                    torch.equal(after[:, y, x], before[:, min(max(y + dy, 0), 3), min(max(x + dx, 0), 4)])
                    for y in range(4)
                    for x in range(5)
                )
            ]
            assert len(fits) == 1
            seen |= set(fits)
    assert len(seen) == 9


def test_weights_of_the_mix():
    order = epoch_order([2.0] * 50 + [0.5] * 400 + [1.0] * 10, seed=0, epoch=0)
    assert all(order.count(k) == 2 for k in range(50))
    assert all(order.count(k) == 1 for k in range(450, 460))
    assert 160 < sum(50 <= k < 450 for k in order) < 240
    assert order == epoch_order([2.0] * 50 + [0.5] * 400 + [1.0] * 10, seed=0, epoch=0)
    assert order != epoch_order([2.0] * 50 + [0.5] * 400 + [1.0] * 10, seed=0, epoch=1)


def test_labels_of_clarity():
    row = RankingRow("x", "a cup", "", "{}", "clarity", 12, 18, 0, "yes", "no", b"")
    assert label_of(row, "static")
    assert not label_of(row, "agreement")
    assert label_of(row, 12) and not label_of(row, 13)
    with pytest.raises(ImagecotError, match="neither yes nor no"):
        label_of(replace(row, agreement=""), "agreement")


def test_scores_by_hand():
    p = torch.tensor([0.9, 0.6, 0.4, 0.2])
    labels = torch.tensor([True, False, True, False])
    assert balanced_accuracy(p, labels) == 0.5
    assert auroc(p, labels) == 0.75  # .9 beats both, .4 beats .2 only
    assert auroc(torch.tensor([0.5, 0.5]), torch.tensor([True, False])) == 0.5
    # bins .9: |.9 - 1|, .6: .6, .4: .6, .2: .2, a quarter each
    assert calibration_error(p, labels) == pytest.approx((0.1 + 0.6 + 0.6 + 0.2) / 4)
    scores = answer_scores(p, labels, ["a", "a", "b", "b"])
    assert scores["balanced/a"] == 0.5
    assert scores["auroc/b"] == 1.0
    assert "balanced/c" not in answer_scores(p, labels, ["a", "a", "c", "a"])
