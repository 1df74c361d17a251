"""Adapters: merged where they are just what their base needs, and refused by name where they are not."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from imagecot import load_generator, load_verifier, models
from imagecot.adapters import read_adapter
from imagecot.errors import ImagecotError, UsageError
from imagecot.training.lora import Lora, add_adapter
from small_models import write_generator, write_verifier

torch.set_num_threads(1)
State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generator and a verifier with an adapter each, whose updates are not nothing."""
    folder = tmp_path_factory.mktemp("made")
    generator = load_generator(write_generator(folder / "generator"))
    verifier = load_verifier(write_verifier(folder / "verifier"))
    lora = Lora(r=4, alpha=8)
    pattern = r".*language_model.*\.(q_proj|v_proj)|.*vision_tower.*\.(q_proj)"
    for name, adapter in (
        ("drawing", add_adapter(generator.model, lora, str(folder / "generator"), generator.adapted_layers)),
        ("judging", add_adapter(verifier.model, lora, str(folder / "verifier"), pattern)),
    ):
        torch.manual_seed(0)
        for key, parameter in adapter.named_parameters():
            if "lora_" in key:
                torch.nn.init.normal_(parameter, std=0.1)
        adapter.save_pretrained(folder / name)
    return folder


@pytest.fixture
def adapter(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "drawing", tmp_path / "adapter"))


def change(folder: Path, **values: object) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def rewrite(folder: Path, edit: Callable[[State], State]) -> None:
    file = folder / "adapter_model.safetensors"
    save_file(edit(load_file(file)), file, {"format": "pt"})


def test_a_merged_adapter_adds_its_product(made):
    plain, merged = (dict(load_generator(made / n).model.named_parameters()) for n in ("generator", "drawing"))
    state = load_file(made / "drawing/adapter_model.safetensors")
    moved = 0
    for name, weight in plain.items():
        key = f"base_model.model.{name.removesuffix('.weight')}.lora_"
        expected = weight
        if f"{key}A.weight" in state:
            expected = weight + 8 / 4 * state[f"{key}B.weight"] @ state[f"{key}A.weight"]
            moved += 1
        torch.testing.assert_close(merged[name], expected, atol=1e-6, rtol=1e-5)
    assert moved == 18
    assert sum("lora_A" in name for name in state) == moved


HALF = {
    "half": lambda s: dict(list(sorted(s.items()))[: len(s) // 2]),
    "another prefix": lambda s: {k.replace("base_model.model.showo.", "base_model.model."): v for k, v in s.items()},
    "one more": lambda s: s | {"base_model.model.showo.model.layers.9.mlp.fc1.lora_A.weight": torch.zeros(4, 64)},
    "one less": lambda s: dict(list(s.items())[1:]),
    "none": lambda s: {"x": torch.zeros(1)},
    "another shape": lambda s: s | {min(s): torch.zeros(4, 3)},
    "no numbers": lambda s: {k: v * math.nan for k, v in s.items()},
    "whole numbers": lambda s: {k: v.long() for k, v in s.items()},
}


@pytest.mark.parametrize(("edit", "message"), [
    ("half", r"lacks 18 tensor\(s\)"),
    ("another prefix", r"lacks 36 tensor\(s\).* unknown 36 tensor\(s\)"),
    ("one more", r"unknown 1 tensor\(s\): .*layers\.9"),
    ("one less", r"lacks 1 tensor\(s\)"),
    ("none", r"lacks 36 tensor\(s\)"),
    ("another shape", r"wrong shape for 1 tensor\(s\)"),
    ("no numbers", "not finite"),
    ("whole numbers", "wrong type"),
])  # fmt: skip
def test_tensors_that_are_not_those_of_the_base_are_named(adapter, edit, message):
    rewrite(adapter, HALF[edit])
    with pytest.raises(ImagecotError, match=message) as caught:
        load_generator(adapter)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("values", "message"), [
    ({"use_dora": True}, "use_dora true is not supported"),
    ({"modules_to_save": ["lm_head"]}, "modules_to_save .* is not supported"),
    ({"bias": "all"}, "bias"),
    ({"layers_to_transform": 0}, "layers_to_transform"),
    ({"peft_type": "IA3"}, "adapters of the type 'IA3' are not supported"),
    ({"peft_type": None}, "peft_type"),
    ({"target_modules": "((("}, "is no pattern of names"),
    ({"target_modules": "(a+)+$"}, "repeats no group"),
    ({"target_modules": ".*" * 30 + "x"}, "at most 6 times"),
    ({"target_modules": []}, "target_modules"),
    ({"target_modules": ["nothing"]}, "does not fit its base"),
    ({"target_modules": ["q_proj"]}, "has the unknown"),
    ({"r": 1_000_000}, "r: .*less than or equal to 4096"),
    ({"r": 8}, "r is 8, but the adapter's tensors have rank 4"),
    ({"r": "4"}, "r: "),
    ({"lora_alpha": None}, "lora_alpha"),
    ({"rank_pattern": {"q_proj": 2}}, "wrong shape"),
    ({"init_lora_weights": "pissa"}, "init_lora_weights"),
    ({"revision": "v2"}, "revision"),
    ({"base_model_name_or_path": None}, "base_model_name_or_path"),
    ({"base_model_name_or_path": "nothing"}, "there is no generator 'nothing'|no base model"),
])  # fmt: skip
def test_what_of_a_configuration_is_not_supported_is_named(adapter, values, message):
    change(adapter, **values)
    with pytest.raises(ImagecotError, match=message):
        load_generator(adapter)


def test_adapters_that_go_round_in_a_circle(adapter, made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    change(adapter, base_model_name_or_path=str(adapter))
    for load in (load_generator, load_verifier):
        with pytest.raises(ImagecotError, match="an adapter that leads back here"):
            load(adapter)
    other = shutil.copytree(made / "drawing", tmp_path / "other")
    change(adapter, base_model_name_or_path="other")
    change(other, base_model_name_or_path="adapter")
    with pytest.raises(ImagecotError, match="leads back here"):
        load_generator("adapter")
    assert models.kinds_of_folder(adapter) == ()
    assert models.known_words("adapter") is None
    with pytest.raises(ImagecotError, match="leads back here"):
        models.weights_of("generator", "adapter")


def test_an_adapter_on_an_adapter(adapter, made):
    change(adapter, base_model_name_or_path=str(made / "drawing"))
    once, twice = (load_generator(f).model.state_dict() for f in (made / "drawing", adapter))
    assert any(not torch.equal(once[name], twice[name]) for name in once)
    assert list(models.weights_of("generator", str(adapter))) == [
        "generator_base_base", "generation_config", "image_tokenizer", "generator_base", "generator",
    ]  # fmt: skip


def test_an_adapter_of_another_kind_of_model(made):
    with pytest.raises(UsageError, match=r"not a Show-o or .* checkpoint"):
        load_generator(made / "judging")
    with pytest.raises(UsageError, match=r"drawing cannot judge: its tokenizer has no token for yes"):
        load_verifier(made / "drawing")
    load_verifier(made / "judging")


def test_half_an_adapter_judges_nothing(made, tmp_path):
    folder = Path(shutil.copytree(made / "judging", tmp_path / "judging"))
    rewrite(folder, lambda state: {k: v for k, v in state.items() if "vision_tower" not in k})
    with pytest.raises(ImagecotError, match=r"lacks 4 tensor\(s\): .*vision_tower"):
        load_verifier(folder)


@settings(max_examples=100)
@given(
    st.sampled_from(
        ["r", "lora_alpha", "target_modules", "rank_pattern", "use_rslora", "peft_type", "bias", "use_dora"]
    ),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
        max_leaves=6,
    ),
)
def test_any_value_in_an_adapters_configuration(made, tmp_path_factory, field, value):
    folder = tmp_path_factory.mktemp("any")
    shutil.copy(made / "drawing/adapter_config.json", folder)
    change(folder, **{field: value})
    try:
        read_adapter(folder)
    except ImagecotError as error:
        assert str(folder) in str(error)
