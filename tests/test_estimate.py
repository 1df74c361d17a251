"""GPU hours of full-size recipes by hand."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from imagecot import recipes
from imagecot.estimate import FLOPS, gpu_hours
from imagecot.hub import CHECKPOINTS
from imagecot.models import parameters_of
from imagecot.strategies.best_of_n import BestOfN
from imagecot.strategies.dry_run import Sizes, dry_run
from imagecot.strategies.parm import Parm
from imagecot.strategies.parm_plus_plus import ParmPlusPlus
from imagecot.strategies.single import Single
from imagecot.strategies.stepwise import Stepwise
from imagecot.study.recipe import StudyRecipe

RECIPES = Path(__file__).parents[1] / "recipes"


def read(name: str, *changes: str):
    return recipes.read(RECIPES / name, changes)


def hours(recipe) -> float:
    found = gpu_hours(recipe)
    assert found
    return found[0]


def test_dpo_by_hand():
    # Two images of a pair under 4 masks, 288 tokens through 1.4 B weights; training is 4 passes, the reference 1.
    flops = 10_000 * 2 * 4 * 2 * 1.4e9 * 288 * 5
    assert hours(read("show-o/dpo.yaml")) == pytest.approx(flops / FLOPS / 3600)
    twice = hours(read("show-o/dpo.yaml", "training.epochs=2"))
    assert twice == pytest.approx(2 * flops / FLOPS / 3600)


def test_fine_tuning_by_hand():
    flops = 100_000 * 2 * 8e9 * 809 * 4
    recipe = read("llava-onevision/orm.yaml")
    assert hours(recipe) == pytest.approx(recipe.epochs * flops / FLOPS / 3600)


def test_a_study_by_hand():
    draw, judge = 2 * 1.4e9 * 258 * 36, 2 * 8e9 * 809
    recipe = StudyRecipe.model_validate(
        {"output": "x", "n": 2, "prompts_per_task": 3, "timed_prompts": 1, "generators": {"g": "showlab/show-o"},
         "detector": "facebook/mask2former-swin-small-coco-instance",
         "rows": {"a": {"generator": "g"}, "b": {"generator": "g", "search": "best-of-n", "verifier": "v"}}}
    )  # fmt: skip
    # 18 prompts with two paths each, judged once; one row timed with 1 path, the other with 1 and 2.
    flops = 18 * 2 * draw + 18 * 2 * judge + draw + 3 * (draw + judge)
    assert hours(recipe) == pytest.approx(flops / FLOPS / 3600)


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
    RECIPES / "study/show-o.yaml",
]


@pytest.mark.slow
@pytest.mark.parametrize("file", FULL_SIZE, ids=lambda f: f.name)
def test_every_full_size_recipe_has_one(file):
    done = subprocess.run([sys.executable, "-m", "imagecot", "validate", str(file)], capture_output=True, text=True)
    assert "hours of one A100" in done.stdout
