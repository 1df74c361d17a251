"""Number formats of a generator: what is loaded, how near its logits are, and names that are none."""

from pathlib import Path

import pytest
import torch
import yaml
from pydantic import TypeAdapter, ValidationError

from imagecot import load_generator, load_verifier, recipes
from imagecot.contracts.paths import UNDECIDED
from imagecot.contracts.questions import ORM
from imagecot.errors import UsageError
from imagecot.generators.showo import prefix
from imagecot.precision import PRECISIONS, loaded_as
from imagecot.recipe_fields import MixedPrecision
from imagecot.recipes import in_float32, read, usable
from imagecot.watch import Watch
from masked import logits_of

RECIPES = Path(__file__).parent.parent / "recipes"


def logits(name: str) -> torch.Tensor:
    generator = load_generator("tiny", device="cpu", dtype=name)
    paths = generator.start(["a photo of a red apple"], torch.tensor([3]))
    codes = torch.full_like(paths.codes, UNDECIDED)
    codes[:, ::2] = torch.arange(32)
    return logits_of(generator, codes, paths.prompt_index, paths.shared)


@pytest.fixture(scope="module")
def exact() -> torch.Tensor:
    return logits("float32")


@pytest.mark.parametrize(("name", "least"), [("bfloat16", 0.998), ("int8", 0.98)])
def test_other_precisions_give_nearly_the_same_logits(exact, name, least):
    found = logits(name)
    assert not torch.equal(found, exact)
    cosine = torch.nn.functional.cosine_similarity(found - found.mean(1, True), exact - exact.mean(1, True), dim=1)
    assert cosine.mean() > least


def test_int8_quantizes_the_layers_and_says_so():
    generator = load_generator("tiny", device="cpu", dtype="int8")
    kinds = {type(module).__module__ for module in generator.model.showo.model.layers.modules()}
    assert any("quantized.dynamic" in kind for kind in kinds)
    assert generator.precision == "int8"
    assert load_generator("tiny", device="cpu", dtype=torch.bfloat16).precision == "bfloat16"


@pytest.mark.parametrize("name", ["bfloat16", "int8"])
def test_verifiers_answer_nearly_the_same(name):
    images = torch.rand(6, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    prompts = [f"a photo of {what}" for what in ("an apple", "a cup", "two cups", "a car", "a red bird", "a kite")]
    exact, found = (
        load_verifier("tiny-zero-shot", device="cpu", dtype=kind).ask(images, prompts, ORM).float().logit()
        for kind in ("float32", name)
    )
    assert not torch.equal(exact, found)
    assert (exact - found).abs().max() < 0.25 * exact.std() + 0.3


def test_int8_asks_for_a_cpu():
    with pytest.raises(UsageError, match="int8 runs on a CPU only"):
        loaded_as("int8", torch.device("cuda"))
    assert loaded_as(None, torch.device("cuda")) == torch.bfloat16
    assert loaded_as(None, torch.device("cpu")) == torch.float32


def test_an_unknown_precision_is_a_usage_error(imagecot):
    code, _, err = imagecot("generate", "two cups", "--precision", "float8")
    assert code == 2
    assert f"there is no precision 'float8'; choose one of {', '.join(PRECISIONS)}." in err


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_a_processor_without_fused_products_draws_the_same(monkeypatch, name):
    fused = logits(name)
    monkeypatch.setattr(prefix, "_FUSED", set())
    plain = logits(name)
    cosine = torch.nn.functional.cosine_similarity(plain - plain.mean(1, True), fused - fused.mean(1, True), dim=1)
    assert cosine.mean() > (0.998 if name == "bfloat16" else 1 - 1e-6)


def test_a_bare_no_in_a_recipe_is_no_mixed_precision():
    adapter = TypeAdapter(MixedPrecision)
    assert [adapter.validate_python(said) for said in (yaml.safe_load("no"), "no", "bf16")] == ["no", "no", "bf16"]
    with pytest.raises(ValidationError):
        adapter.validate_python(True)


@pytest.mark.parametrize("file", sorted(str(f.relative_to(RECIPES)) for f in RECIPES.rglob("*.yaml")))
def test_a_recipe_in_float32_differs_in_nothing_else(file):
    recipe = read(RECIPES / file)
    changed = in_float32(recipe)
    text = str(recipe.model_dump(mode="json"))
    for wanted, instead in (("'bf16': True", "'bf16': False"), (": 'bf16'", ": 'no'"), ("'bfloat16'", "'float32'")):
        text = text.replace(wanted, instead)
    assert str(changed.model_dump(mode="json")) == text


@pytest.mark.parametrize("there", [True, False])
def test_who_follows_a_recipe_is_told_of_float32(monkeypatch, there):
    monkeypatch.setattr(recipes, "has_bfloat16", lambda: there)
    told = []
    recipe = read(RECIPES / "study/quick.yaml")
    assert usable(recipe, Watch(tell=told.append)).precision == ("bfloat16" if there else "float32")
    assert len(told) == (not there) and recipe.precision == "bfloat16"
    other = read(RECIPES / "study/quick.yaml", ["precision=float32"])
    assert usable(other, Watch(tell=told.append)) is other and len(told) == (not there)
