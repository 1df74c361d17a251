"""Alignment of a generator that is nothing like those of the package: pairs, rewards and side effects, end to end."""

import csv
import json
from collections import Counter
from dataclasses import replace

import pytest
import torch

import toy_raster
from imagecot.alignment.dpo import DpoRecipe, train_dpo
from imagecot.alignment.online import draw
from imagecot.alignment.side_effects import measure
from imagecot.contracts import Generator, Scorer
from imagecot.contracts.paths import finish
from imagecot.curation.pairs import write_pairs
from imagecot.curation.schema import PairRow
from imagecot.errors import UsageError
from imagecot.generators import load_generator
from imagecot.images import png
from small_models import Brightness
from stopping import stopped_behind_state
from toy_raster import ToyRaster

torch.set_num_threads(1)
NAME = "toy_raster:ToyRaster"
PROMPTS = ["a photo of a red apple", "a photo of a bench", "a red bench", "an apple"]


def pairs_in(folder, *without: str):
    """Chosen images have codes below 4, rejected ones the others; some columns are left out."""
    draws = torch.Generator().manual_seed(0)
    rows = []
    for k in range(40):
        low, high = torch.randint(4, (2, 6), generator=draws)
        images = [png(image) for image in ToyRaster().decode(torch.stack([low, high + 4]))]
        prompt, codes = f"{PROMPTS[k % 4]} {k // 4}", (low.tolist(), (high + 4).tolist())
        rows.append(PairRow(str(k), prompt, "single_object", "{}", k, k, *images, *codes))
    write_pairs(folder, [replace(row, **dict.fromkeys(without)) for row in rows], {})
    return folder


@pytest.fixture
def data(tmp_path):
    return pairs_in(tmp_path / "pairs")


@pytest.fixture
def prompts(tmp_path):
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in PROMPTS))
    return file


def recipe(data, output, **training) -> DpoRecipe:
    values = {"batch_size": 8, "learning_rate": 1e-2, "held_out": 0.2, "pictures": 2, "evaluate_every": 8}
    return DpoRecipe(output=output, base=NAME, data=data, training={**values, **training})


def curve(folder, name) -> list[float]:
    with (folder / "training/curves.csv").open() as file:
        return [float(value) for _, n, value in csv.reader(file) if n == name]


def still(trained) -> list[str]:
    before = ToyRaster().model.state_dict()
    return [name for name, value in trained.model.state_dict().items() if torch.equal(value, before[name])]


def test_it_is_a_generator_that_scores_what_it_draws():
    toy = load_generator(NAME)
    assert isinstance(toy, Generator) and isinstance(toy, Scorer)
    # Its log-probabilities are how often it draws an image.
    ends = finish(toy, toy.start(["an apple"], torch.arange(20_000)))
    first = Counter(ends.codes[:, 0].tolist())
    exact = toy.log_probs(["an apple"] * 8, torch.arange(8)[:, None].expand(8, 6))[:, 0].exp()
    found = torch.tensor([first[code] / 20_000 for code in range(8)])
    torch.testing.assert_close(found, exact.detach(), atol=0.02, rtol=0)


def test_pairs_move_every_weight_and_margins_grow(data, tmp_path, monkeypatch):
    trained = train_dpo(recipe(data, tmp_path / "out", epochs=16, learning_rate=2e-2))
    assert still(trained) == []
    assert curve(tmp_path / "out", "pairs/loss")[0] == pytest.approx(0.6931, abs=1e-3)  # the reference itself
    margins = curve(tmp_path / "out", "pairs/margin")
    assert margins[-1] > 1 > margins[0] == pytest.approx(0, abs=1e-5)
    assert curve(tmp_path / "out", "score/accuracy")[-1] > 0.9
    assert curve(tmp_path / "out", "score/kl")[0] == pytest.approx(0, abs=1e-6)
    assert curve(tmp_path / "out", "score/kl")[-1] > 0.01
    # What it left is what its class can load again.
    monkeypatch.setattr(toy_raster, "START", tmp_path / "out")
    saved = load_generator(NAME)
    for name, value in trained.model.state_dict().items():
        assert torch.equal(value, saved.model.state_dict()[name])
    assert train_dpo(recipe(data, tmp_path / "again", steps=1)) is not None


def test_pictures_are_encoded_by_the_generator_or_refused(data, tmp_path):
    pictures = pairs_in(tmp_path / "pictures", "chosen_codes", "rejected_codes")
    by_codes = train_dpo(recipe(data, tmp_path / "codes", steps=2))
    by_pictures = train_dpo(recipe(pictures, tmp_path / "out", steps=2))
    assert torch.equal(by_codes.model["head"].weight, by_pictures.model["head"].weight)
    blind = recipe(pictures, tmp_path / "refused", steps=2).model_copy(update={"base": "toy_raster:Blind"})
    with pytest.raises(UsageError, match=r"the pair 0 of .* has pictures without codes.*no Encoder.*; curate pairs"):
        train_dpo(blind)


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_a_killed_training_goes_on_with_the_same_losses(data, prompts, tmp_path, precision):
    online = {"verifier": "none", "prompts": prompts, "group": 4, "prompts_a_step": 2, "draws": 2}
    settings = {"steps": 7, "save_every": 4, "evaluate_every": 3, "online": online, "precision": precision}
    train_dpo(recipe(data, tmp_path / "whole", **settings), Brightness())
    with stopped_behind_state():
        train_dpo(recipe(data, tmp_path / "parts", **settings), Brightness())
    assert (tmp_path / "parts/training/state-0000004").is_dir()
    train_dpo(recipe(data, tmp_path / "parts", **settings), Brightness())
    whole, parts = ((tmp_path / name / "training/curves.csv").read_text() for name in ("whole", "parts"))
    assert whole == parts
    assert train_dpo(recipe(data, tmp_path / "parts", **settings), Brightness()) is None  # finished


@pytest.mark.parametrize("estimator", ["steps", "masks"])
def test_rewards_alone_teach_and_move_every_weight(prompts, tmp_path, estimator):
    online = {"verifier": "none", "prompts": prompts, "group": 8, "prompts_a_step": 4, "draws": 2}
    online["estimator"] = estimator
    trained = train_dpo(recipe(None, tmp_path / "out", dpo_weight=0, steps=30, online=online), Brightness())
    assert still(trained) == []

    def brightness(generator) -> torch.Tensor:
        return generator.preview(draw(generator, PROMPTS, 64, 99)[-1]).mean((1, 2, 3))

    before, after = brightness(ToyRaster()), brightness(trained)
    assert after.mean() - before.mean() > 5 * (before.var() / 256 + after.var() / 256).sqrt()
    assert curve(tmp_path / "out", "online/kl")[0] == pytest.approx(0, abs=1e-6)


def test_side_effects_are_measured():
    images = ToyRaster().decode(torch.arange(12).view(2, 6) % 8)
    found = measure(NAME, ["a cat", "a dog"], images, PROMPTS[:2], paths=4)
    exact = ToyRaster().log_probs(["a cat", "a dog"], torch.arange(12).view(2, 6) % 8).mean(1)
    assert found["clean"] == pytest.approx(float(exact.detach().mean()))
    assert 0 < found["variety"] < 1


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"lora": {"r": 2, "alpha": 2}}, "toy_raster:ToyRaster is a class, which no adapter .*; leave out lora"),
        ({"gradient_checkpointing": True}, "no part that can compute .*; leave out gradient_checkpointing"),
    ],
)
def test_what_its_weights_cannot_is_told(data, tmp_path, training, message):
    with pytest.raises(UsageError, match=message):
        train_dpo(recipe(data, tmp_path / "out", steps=1, **training))


def test_a_generator_that_scores_nothing_is_told(data, tmp_path):
    asked = recipe(data, tmp_path / "out", steps=1).model_copy(update={"base": "small_models:Flat"})
    with pytest.raises(UsageError, match=r"small_models:Flat gives no log-probabilities .*Scorer"):
        train_dpo(asked)
    with pytest.raises(UsageError, match=r"small_models:Flat gives no log-probabilities of pictures"):
        measure("small_models:Flat", ["a cat"], torch.zeros(1, 3, 4, 4), PROMPTS)
