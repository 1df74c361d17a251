"""A Janus in the whole method: searched, made into pairs, aligned by them and by rewards, loaded again."""

import json
from pathlib import Path

import pytest
import torch

from imagecot.alignment.dpo import DpoRecipe, train_dpo
from imagecot.contracts.paths import finish
from imagecot.curation import run
from imagecot.curation.dataset import RankingData, ranking_row
from imagecot.curation.recipes import CuratePairs
from imagecot.generators import load_generator
from imagecot.geneval.prompts import single_object_metadata
from imagecot.recipes import read
from imagecot.strategies.search import search
from small_models import Brightness, write_janus

torch.set_num_threads(1)
RECIPES = Path(__file__).parents[1] / "recipes" / "janus"
PROMPT = "a photo of a red apple"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_janus(tmp_path_factory.mktemp("janus"), side=3, num_hidden_layers=1, num_embeddings=32)


def test_parm_gives_paths_up_and_takes_them_up_again(folder, tmp_path):
    """What is said of a preview names its fill; paths that ended early cost the rows they had."""
    janus = load_generator(folder).adjusted(fill="repeat")
    told = search(
        PROMPT,
        generator=janus,
        verifier=Brightness(),
        strategy="parm",
        n=6,
        first_step=1,
        keep=0.5,
        folder=tmp_path / "trace",
    )
    gone = [one for one in told.candidates if one.truncated_at is not None]
    assert 0 < len(gone) < 6
    steps = [one.truncated_at or 3 for one in told.candidates]
    assert told.cost.generator_rows == 2 * sum(steps)
    for one in told.candidates:
        for verdict in one.verdicts:
            assert verdict.fill == ("repeat" if verdict.step < 3 else None)
    assert told.choice.image is not None


@pytest.fixture(scope="module")
def pairs(folder, tmp_path_factory) -> Path:
    """Pairs of what a Janus drew, where bright images are right."""
    place = tmp_path_factory.mktemp("data")
    janus, data = load_generator(folder), RankingData(place / "orm", {})
    for number, name in enumerate(("apple", "cup")):
        need = single_object_metadata(name)
        seeds = torch.arange(8) + 10 * number
        codes = finish(janus, janus.start([need.prompt], seeds)).codes
        images = janus.decode(codes)
        right = images.mean((1, 2, 3)) > images.mean((1, 2, 3)).median()
        rows = [
            ranking_row(need, "orm", image, step=3, steps=3, seed=int(seed), label=bool(label), codes=row)
            for image, seed, label, row in zip(images, seeds, right, codes, strict=True)
        ]
        data.keep(number, rows)
    made = run(CuratePairs(data=[place / "orm"], output=place / "pairs", per_prompt=3))
    assert made.counts["pairs"] == 6
    return place / "pairs"


def test_pairs_and_rewards_train_all_that_draws(folder, pairs, tmp_path):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in (PROMPT, "a cup")))
    online = {"verifier": "none", "prompts": prompts, "group": 2, "prompts_a_step": 2, "draws": 1}
    training = {
        "batch_size": 2,
        "steps": 2,
        "learning_rate": 1e-3,
        "held_out": 0.25,
        "pictures": 1,
        "evaluate_every": 2,
        "gradient_checkpointing": True,
        "online": online,
    }
    recipe = DpoRecipe(output=tmp_path / "out", base=str(folder), data=pairs, training=training)
    trained = train_dpo(recipe, Brightness())
    before = load_generator(folder).model.state_dict()
    still = {name for name, value in trained.model.named_parameters() if torch.equal(value, before[name])}
    assert still == {name for name, value in trained.model.named_parameters() if not value.requires_grad}
    curve = (tmp_path / "out/training/curves.csv").read_text()
    first = next(line for line in curve.splitlines() if "pairs/loss" in line)
    assert float(first.split(",")[2]) == pytest.approx(0.6931, abs=1e-3)  # the reference itself
    assert load_generator(tmp_path / "out").canvas == trained.canvas


def test_the_recipe_trains_an_adapter_that_is_loaded(folder, pairs, tmp_path):
    changes = ["precision=no", "steps=1", "batch_size=2", "held_out=0.25", "learning_rate=0.1", "pictures=1"]
    wanted = [f"base={folder}", f"data={pairs}", f"output={tmp_path / 'out'}", *(f"training.{one}" for one in changes)]
    train_dpo(read(RECIPES / "dpo.yaml", wanted))
    merged, base = (load_generator(name).model.state_dict() for name in (tmp_path / "out", folder))
    changed = {name for name, value in merged.items() if not torch.equal(value, base[name])}
    assert changed
    assert all(".language_model.layers." in name and name.endswith("proj.weight") for name in changed)
