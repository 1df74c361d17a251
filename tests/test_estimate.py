"""GPU hours of full-size recipes by hand."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from imagecot import recipes
from imagecot.curation.recipes import CuratePrm
from imagecot.generators import load_generator
from imagecot.generators.bench import products
from imagecot.hub import CHECKPOINTS
from imagecot.models import parameters_of
from imagecot.planning.costs import BANDWIDTH, FLOPS, drawing_of, drawn
from imagecot.planning.estimate import gpu_hours
from imagecot.strategies.best_of_n import BestOfN
from imagecot.strategies.dry_run import Sizes, dry_run
from imagecot.strategies.parm import Parm
from imagecot.strategies.parm_plus_plus import ParmPlusPlus
from imagecot.strategies.single import Single
from imagecot.strategies.stepwise import Stepwise
from imagecot.study.recipe import StudyRecipe
from small_models import write_janus, write_llamagen

RECIPES = Path(__file__).parents[1] / "recipes"
SHOWO = 24 * (4 * 2048**2 + 2 * 2048 * 8192) + 2048 * 8192  # weights of layers and head


def read(name: str, *changes: str):
    return recipes.read(RECIPES / name, changes)


def hours(recipe) -> float:
    found = gpu_hours(recipe)
    assert found
    return found[0]


def test_dpo_by_hand():
    # Two images of a pair under 4 masks, 288 tokens through its weights; training is 4 passes, the reference 1.
    flops = 10_000 * 2 * 4 * 2 * SHOWO * 288 * 5
    assert hours(read("show-o/dpo.yaml")) == pytest.approx(flops / FLOPS / 3600)
    twice = hours(read("show-o/dpo.yaml", "training.epochs=2"))
    assert twice == pytest.approx(2 * flops / FLOPS / 3600)


def test_fine_tuning_by_hand():
    flops = 100_000 * 2 * 8e9 * 809 * 4
    recipe = read("llava-onevision/orm.yaml")
    assert hours(recipe) == pytest.approx(recipe.epochs * flops / FLOPS / 3600)


def test_a_study_by_hand():
    draw, judge = 2 * SHOWO * 258 * 36, 2 * 8e9 * 809
    recipe = StudyRecipe.model_validate(
        {"output": "x", "n": 2, "prompts_per_task": 3, "timed_prompts": 1, "generators": {"g": "showlab/show-o"},
         "detector": "facebook/mask2former-swin-small-coco-instance",
         "rows": {"a": {"generator": "g"}, "b": {"generator": "g", "search": "best-of-n", "verifier": "v"}}}
    )  # fmt: skip
    # 18 prompts with two paths each, judged once; one row timed with 1 path, the other with 1 and 2.
    flops = 18 * 2 * draw + 18 * 2 * judge + draw + 3 * (draw + judge)
    assert hours(recipe) == pytest.approx(flops / FLOPS / 3600)


def test_a_code_of_janus_waits_for_the_weights_or_for_the_products():
    """The 7B: 30 layers of width 4096, 24 x 24 codes, two rows, in bfloat16."""
    work = drawing_of("deepseek-community/Janus-Pro-7B")
    weights = 30 * (4 * 4096**2 + 3 * 4096 * 11008) + 2 * 4096**2 + 4096 * 16384
    assert (work.weights, work.codes, work.tokens * work.steps) == (weights, 576, 576)
    cache = 2 * (60 + 288) * 2 * 30 * 4096  # numbers that the two rows of a path attend to, for a code
    assert drawn(work, 1, 1) == pytest.approx(576 * 2 * (weights + cache) / BANDWIDTH)
    assert drawn(work, 20, 20) == pytest.approx(576 * 2 * (weights + 20 * cache) / BANDWIDTH)
    assert drawn(work, 20, 1) == pytest.approx(20 * drawn(work, 1, 1))
    few = dataclasses.replace(work, kept=0)  # of a small cache a hundred paths are bound by products
    assert drawn(few, 200, 200) == pytest.approx(576 * 200 * 2 * 2 * weights / FLOPS)


def test_recipes_of_janus_by_hand():
    weights = drawing_of("deepseek-community/Janus-Pro-7B").weights
    # An exact likelihood: both images of a pair in one pass each; four passes of training, one of the reference.
    found = gpu_hours(read("janus/dpo.yaml"))
    assert found[0] == pytest.approx(10_000 * 2 * 2 * weights * (576 + 60) * 5 / FLOPS / 3600)
    work = drawing_of("deepseek-community/Janus-Pro-7B")
    assert hours(read("janus/curate-orm.yaml")) == pytest.approx(drawn(work, 200_000, 20) / 3600)
    assert hours(read("janus/dpo.yaml", "base=deepseek-community/Janus-Pro-1B")) < found[0] / 4


def test_a_verifier_is_counted_by_its_own_parameters_and_tokens():
    larger, smaller = (
        hours(read("llava-onevision/orm.yaml", f"base={name}"))
        for name in ("llava-hf/llava-onevision-qwen2-7b-ov-hf", "deepseek-community/Janus-Pro-1B")
    )
    assert smaller / larger == pytest.approx(2.1 * (576 + 80) / (8.0 * (729 + 80)))
    assert gpu_hours(read("llava-onevision/orm.yaml", "base=tiny-zero-shot")) is None


def test_a_study_counts_each_generator_by_its_own_work():
    def study(*names: str) -> float:
        return hours(
            StudyRecipe.model_validate(
                {"output": "x", "n": 2, "prompts_per_task": 1, "timed_prompts": 0,
                 "generators": {f"g{k}": name for k, name in enumerate(names)},
                 "detector": "facebook/mask2former-swin-small-coco-instance",
                 "rows": {f"r{k}": {"generator": f"g{k}"} for k in range(len(names))}}
            )
        )  # fmt: skip

    showo, janus = "showlab/show-o", "deepseek-community/Janus-Pro-7B"
    assert study(showo, janus) == pytest.approx(study(showo) + study(janus))
    assert study(janus, "runs/trained/from/it") == pytest.approx(2 * study(janus))  # what is not there yet


def test_sizes_are_those_of_the_folder(tmp_path):
    """The work of a small model by its config.json is the weights that its own steps multiply with."""
    for write in (write_janus, write_llamagen):
        folder = (
            write(tmp_path / write.__name__, num_hidden_layers=3) if write is write_janus else write(tmp_path / "l")
        )
        generator = load_generator(folder)
        work, bench = drawing_of(str(folder)), generator.bench()
        aside = 8 * 32 if write is write_janus else 0  # the aligner's first layer, from vectors of codes
        assert abs(work.weights - products(bench.weights)) <= aside
        layers, heads, size = generator._raster.transformer.cache_shape
        assert work.kept == 2 * layers * heads * size
        assert (work.codes, work.steps, work.rows) == (generator.canvas.positions, generator.steps, 2)
        assert gpu_hours(read("janus/dpo.yaml", f"base={folder}")) is None
    large = tmp_path / "xl"
    large.mkdir()
    (large / "config.json").write_text(json.dumps({"model_type": "llamagen", "block_size": 1024}))
    work = drawing_of(str(large))
    assert (work.weights, work.codes) == (36 * (4 * 1280**2 + 3 * 1280 * 3584) + 1280 * 16384, 1024)
    assert hours(read("llamagen/dpo.yaml", f"base={large}")) > 0
    assert hours(read("llamagen/curate-orm.yaml", f"generator={large}")) > 0
    (large / "config.json").write_text(json.dumps({"model_type": "llamagen", "dim": -1}))
    assert gpu_hours(read("llamagen/dpo.yaml", f"base={large}")) is None


def test_data_of_a_prm_are_continuations_of_half_a_path():
    work = drawing_of("showlab/show-o")
    recipe = CuratePrm(prompts="none", output="x", generator="showlab/show-o")
    assert hours(recipe) == pytest.approx((10_000 + 10_000 * 4 * 17 / 2) * drawn(work, 1, 1) / 3600)


def test_a_search_costs_what_it_does_when_every_answer_is_no():
    """18 steps of 2 rows; 800 tokens a question, 40 a follow-up, which a no does not have."""
    sizes = Sizes(steps=18, rows_per_path=2, judged=800, follow_up=40)

    def cost(strategy, n: int, **options: object) -> tuple[int, int]:
        found = dry_run(strategy, options, n, sizes)
        return found.generator_rows, found.tokens_judged

    assert cost(Single(), 4) == (36, 0)
    assert cost(BestOfN(), 4) == (4 * 36, 4 * 800)
    assert cost(Stepwise(), 4) == (4 * 36, 4 * 18 * 800)
    assert cost(Parm(), 4) == (4 * 36, 4 * 18 * 800)
    assert cost(Parm(), 4, first_step=6) == (4 * 36, 4 * 13 * 800)
    assert cost(Parm(), 4, first_step=50) == cost(Parm(), 4)  # of another generator's paths
    rows, tokens = cost(ParmPlusPlus(), 10)
    # Each of three rounds asks what is wrong, then about "a photo of a bench"; 2 paths are drawn and judged.
    assert (rows, tokens) == ((10 + 3 * 2) * 36, (10 * 18 + 3 * (1 + 1 + 2)) * 800)


def test_small_models_have_none():
    assert gpu_hours(read("tiny/dpo.yaml")) is None
    for name in ("tiny", "self-correction", "few-paths"):
        assert gpu_hours(read(f"study/{name}.yaml")) is None


def test_nothing_is_said_of_models_whose_size_is_not_known(tmp_path):
    assert gpu_hours(read("show-o/dpo.yaml", f"base={tmp_path}/none")) is None
    assert gpu_hours(read("show-o/dpo.yaml", "base=somebody/else")) is None


def test_a_name_says_nothing_of_a_size(tmp_path):
    """A small model by a large name, and an adapter on a small model, have no full-size costs."""
    shutil.copytree(CHECKPOINTS / "tiny", tmp_path / "show-o")
    shutil.copytree(CHECKPOINTS / "tiny-dpo", tmp_path / "show-o-dpo")
    for name in ("show-o", "show-o-dpo"):
        assert gpu_hours(read("show-o/dpo.yaml", f"base={tmp_path / name}")) is None
    assert parameters_of("tiny-dpo") == parameters_of("tiny") == parameters_of(str(tmp_path / "show-o"))
    assert 1e6 < parameters_of("tiny") < 1e7


FULL_SIZE = [
    *(RECIPES / "show-o" / f"{name}.yaml" for name in ("dpo", "self-correction")),
    *(RECIPES / "janus" / f"{name}.yaml" for name in ("curate-orm", "orm", "dpo", "study")),
    RECIPES / "study/show-o.yaml",
]


@pytest.mark.slow
@pytest.mark.parametrize("file", FULL_SIZE, ids=lambda f: f.name)
def test_every_full_size_recipe_has_one(file):
    done = subprocess.run([sys.executable, "-m", "imagecot", "validate", str(file)], capture_output=True, text=True)
    assert "hours of one A100" in done.stdout
