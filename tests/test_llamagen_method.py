"""The method on a small LlamaGen: searches, pairs of its images, and their alignment."""

import json
from pathlib import Path

import pytest
import torch

from imagecot import registry
from imagecot.alignment.dpo import DpoRecipe, train_dpo
from imagecot.contracts.paths import finish
from imagecot.contracts.randomness import path_seeds
from imagecot.contracts.scorer import Draws
from imagecot.curation.dataset import RankingData, ranking_row
from imagecot.geneval.prompts import single_object_metadata
from imagecot.strategies.trace import Trace
from small_models import write_llamagen, write_verifier

torch.set_num_threads(1)
RECIPE = Path(__file__).parents[1] / "recipes/llamagen/dpo.yaml"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_llamagen(tmp_path_factory.mktemp("llamagen"))


@pytest.fixture(scope="module")
def verifier(tmp_path_factory):
    return write_verifier(tmp_path_factory.mktemp("verifier"))


@pytest.mark.parametrize("search", ["best-of-n", "stepwise", "parm"])
def test_every_search_draws(folder, verifier, search, imagecot, tmp_path):
    models = ("--generator", str(folder), "--verifier", str(verifier))
    code, _, err = imagecot("generate", "a photo of an apple", *models, "--search", search, "-n", "3", "--out", "out")
    assert (code, err) == (0, "")
    trace = Trace.load(tmp_path / "out")
    assert trace.settings["cfg_interval"] == -1
    assert set(trace.weights) == {"generator", "generation_config", "image_tokenizer", "text_encoder", "verifier"}


@pytest.fixture(scope="module")
def pairs(folder, tmp_path_factory):
    """A folder of images that the generator drew; bright ones are called right."""
    generator = registry.load("generator", folder)
    rows = []
    for number, name in enumerate(("apple", "bench", "dog")):
        need = single_object_metadata(name)
        codes = finish(generator, generator.start([need.prompt], path_seeds(0, 6))).codes
        images = generator.decode(codes)
        bright = images.mean((1, 2, 3))
        for k in range(6):
            right = bool(bright[k] > bright.median())
            seed = 6 * number + k
            rows.append(ranking_row(need, "orm", images[k], step=3, steps=3, seed=seed, label=right, codes=codes[k]))
    place = tmp_path_factory.mktemp("data")
    RankingData(place / "orm", {}).keep(0, rows)
    return place / "orm"


@pytest.mark.parametrize("lora", [None, {"r": 2, "alpha": 4}])
def test_pairs_of_its_images_align_it(folder, pairs, lora, imagecot, tmp_path):
    assert imagecot("curate", "pairs", "--data", str(pairs), "--per-prompt", "3", "--out", "pairs")[0] == 0
    training = {"batch_size": 3, "epochs": 4, "held_out": 0.3, "pictures": 0, "learning_rate": 5e-3}
    asked = {"output": tmp_path / "out", "base": folder, "data": tmp_path / "pairs"}
    if lora:
        train_dpo(DpoRecipe(**{**asked, "base": str(folder)}, training={**training, "lora": lora}))
    else:  # the recipe of the real size
        given = {**asked, **{f"training.{name}": value for name, value in training.items()}, "training.precision": "no"}
        code, _, err = imagecot("train", str(RECIPE), *(f"{name}={value}" for name, value in given.items()))
        assert (code, err) == (0, "")
    before, after = registry.load("generator", folder), registry.load("generator", tmp_path / "out")
    codes = finish(before, before.start(["an apple"], path_seeds(9, 4))).codes
    draws = Draws(torch.zeros(4, dtype=torch.long), 1)
    with torch.no_grad():
        found, old = (g.log_likelihood(["an apple"] * 4, codes, draws) for g in (after, before))
    assert (found - old).abs().max() > 0.2
    if lora:
        assert json.loads((tmp_path / "out/adapter_config.json").read_text())["peft_type"] == "LORA"
    else:
        weights = dict(before.model.named_parameters())
        assert [name for name, p in after.model.named_parameters() if torch.equal(p, weights[name])] == []
        torch.testing.assert_close(after.model.without_text(96), before.model.without_text(96), rtol=0, atol=1e-3)
