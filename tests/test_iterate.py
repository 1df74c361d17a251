"""Rounds of drawing, labelling, pairing and aligning; every recipe of alignment followed with small weights."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import imagecot.alignment.iterate as iterate
from imagecot.alignment.iterate import IterativeRecipe, train_iteratively
from imagecot.contracts.metadata import Metadata
from imagecot.curation.dataset import read_rows
from imagecot.curation.pairs import make_pairs, read_pairs, write_pairs
from imagecot.errors import UsageError
from imagecot.generators import load_generator
from imagecot.geneval.prompts import single_object_metadata
from imagecot.kinds import KINDS
from imagecot.recipes import read
from small_models import Brightness, write_generator
from test_curation import Bright

torch.set_num_threads(1)
RECIPES = Path(__file__).parent.parent / "recipes"
ALIGNMENTS = sorted([*RECIPES.glob("*/dpo*.yaml"), *RECIPES.glob("*/grpo.yaml")])


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_generator(tmp_path_factory.mktemp("base") / "generator")


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    file = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    needs = [
        replace(single_object_metadata(name), prompt=f"some {name} for the training", text="")
        for name in ("apple", "cup", "chair")
    ]
    file.write_text("".join(need.text + "\n" for need in needs))
    return file


@pytest.fixture(autouse=True)
def scorer(monkeypatch):
    monkeypatch.setattr(iterate, "load_judges", lambda name: [Bright(0.576, classes=("apple", "cup", "chair"))])


def recipe(base, prompts, output, **more) -> IterativeRecipe:
    training = {"batch_size": 2, "steps": 2, "learning_rate": 1e-3, "draws": 2, "held_out": 0, "pictures": 0}
    values = {"output": output, "base": str(base), "prompts": prompts, "paths": 6, "per_prompt": 2, "rounds": 2}
    return IterativeRecipe(**{**values, **more}, training=training)


def test_rounds_draw_from_the_model_before_and_go_on_after_a_kill(base, prompts, tmp_path, monkeypatch):
    train_iteratively(recipe(base, prompts, tmp_path / "whole"))
    rounds = [tmp_path / "whole" / f"round-{k}" for k in (1, 2)]
    drawn = [[row.codes for row in read_rows(folder / "data")] for folder in rounds]
    assert len(drawn[0]) == len(drawn[1]) == 18
    assert drawn[0] != drawn[1]
    identity = json.loads((rounds[1] / "data/curation.json").read_text())
    assert identity["generator"] == str(rounds[0] / "weights")
    assert len(list(read_pairs(rounds[1] / "pairs"))) >= 2
    last = (rounds[1] / "weights/model.safetensors").read_bytes()
    assert (tmp_path / "whole/model.safetensors").read_bytes() == last
    assert (rounds[0] / "weights/model.safetensors").read_bytes() != last
    assert load_generator(tmp_path / "whole").steps == 4

    # Killed while the second round draws: the first is not touched again, and the end is the same.
    fill = iterate.fill

    def stopping(source, *rest):
        if "round-2" in str(source().out):
            raise KeyboardInterrupt
        fill(source, *rest)

    monkeypatch.setattr(iterate, "fill", stopping)
    with pytest.raises(KeyboardInterrupt):
        train_iteratively(recipe(base, prompts, tmp_path / "parts"))
    first = tmp_path / "parts/round-1/weights/model.safetensors"
    written = first.stat().st_mtime_ns
    monkeypatch.setattr(iterate, "fill", fill)
    train_iteratively(recipe(base, prompts, tmp_path / "parts"))
    assert first.stat().st_mtime_ns == written
    assert (tmp_path / "parts/model.safetensors").read_bytes() == last


@pytest.mark.parametrize(("reference", "of_second"), [("previous", "round-1/weights"), ("start", ""), ("x", "x")])
def test_the_reference_of_a_round(base, prompts, tmp_path, monkeypatch, reference, of_second):
    asked = []

    def stand_in(recipe, verifier, *, watch):
        asked.append(recipe)
        write_generator(recipe.output)

    monkeypatch.setattr(iterate, "train_dpo", stand_in)
    train_iteratively(recipe(base, prompts, tmp_path / "out", reference=reference))
    expected = {"x": "x", "": str(base)}.get(of_second, str(tmp_path / "out" / of_second))
    assert asked[1].reference == expected
    assert [one.training.seed for one in asked] == [1, 2]


def test_test_prompts_are_refused(base, tmp_path):
    from imagecot.worlds.drawn.captions import held_out_prompts

    file = tmp_path / "prompts.jsonl"
    file.write_text(held_out_prompts(1)[0].text + "\n")
    with pytest.raises(UsageError, match="test"):
        train_iteratively(recipe(base, file, tmp_path / "out"))


@pytest.fixture(scope="module")
def pairs(base, prompts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    labeller = iterate.Labeller(load_generator(base), Bright(0.576, classes=("apple", "cup", "chair")), 6, 6, 0)
    needs = [Metadata.of(json.loads(line)) for line in prompts.read_text().splitlines()]
    write_pairs(folder / "pairs", make_pairs(labeller.orm(needs), 0, per_prompt=3), {})
    return folder / "pairs"


@pytest.mark.parametrize("file", ALIGNMENTS, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_every_recipe_of_alignment_runs(file, base, prompts, pairs, tmp_path):
    """With small random weights, two steps and few paths; all else as the recipe says."""
    changes = [
        f"output={tmp_path / 'out'}", f"base={base}", "training.steps=2", "training.batch_size=2",
        "training.held_out=0", "training.pictures=1",
    ]  # fmt: skip
    text = file.read_text()
    if "rounds:" in text:
        changes += [f"prompts={prompts}", "paths=6", "detector=pictograms"]
    elif "data:" in text:
        changes += [f"data={pairs}"]
    if "online:" in text:
        changes += [f"training.online.prompts={prompts}", "training.online.group=2", "training.online.prompts_a_step=1"]
    recipe = read(file, changes)
    assert recipe.kind == ("iterative-dpo" if "rounds:" in text else "dpo")
    KINDS[recipe.kind].function()(recipe, Brightness())
    assert load_generator(tmp_path / "out").guidance_scale == 1.75
