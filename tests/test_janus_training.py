"""Trainings of a Janus from scratch, at a small size: they resume exactly, every weight moves, it draws and sees."""

import random
from pathlib import Path

import pytest
import torch
from torch import nn

from imagecot.contracts.paths import finish
from imagecot.generators import load_generator
from imagecot.generators.janus.pictures import JanusPictures
from imagecot.generators.janus.prompting import JanusPrompting
from imagecot.geneval.prompts import counting_metadata, two_object_metadata
from imagecot.worlds.drawn import dataset
from imagecot.worlds.drawn.captions import held_out_texts, placed
from imagecot.worlds.drawn.scenes import Item, Scene
from imagecot.worlds.drawn.training.janus_generator import (
    JanusGeneratorRecipe,
    encode_pool,
    scene_caption,
    train_janus_generator,
)
from imagecot.worlds.drawn.training.janus_student import SharedSigns, new_janus
from imagecot.worlds.drawn.training.janus_text import janus_tokenizer
from imagecot.worlds.drawn.training.janus_tokenizer import (
    ImageTokenizerSizes,
    JanusTokenizerRecipe,
    codes_of,
    load_image_tokenizer,
    new_image_tokenizer,
    object_weights,
    train_janus_tokenizer,
)
from stopping import stopped_behind_state

STEPS = {"batch_size": 2, "learning_rate": 1e-3, "warmup": 1, "bf16": False, "save_every": 2, "evaluate_every": 100}
SMALL = {"embed_dim": 5, "latent_channels": 8, "base_channels": 32, "channel_multiplier": [1, 1, 1, 1]}
SIZES = {
    "text": {
        "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "num_key_value_heads": 1,
    },
    "vision": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
}  # fmt: skip


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(dataset, "_CHUNK", 12)
    dataset.Pool(tmp_path / "data", 12, seed=1, workers=1)
    return tmp_path / "data"


@pytest.fixture
def tokenizer(tmp_path: Path, data: Path) -> Path:
    train_janus_tokenizer(tokenizer_recipe(data, tmp_path / "vq", 1))
    return tmp_path / "vq"


def tokenizer_recipe(data: Path, output: Path, steps: int) -> JanusTokenizerRecipe:
    return JanusTokenizerRecipe(
        output=output, data=data, examples=12, model=SMALL, optimization={"steps": steps, **STEPS}, soft_steps=2
    )


def generator_recipe(data: Path, output: Path, tokenizer: Path, steps: int, **more: object) -> JanusGeneratorRecipe:
    return JanusGeneratorRecipe(
        output=output, data=data, tokenizer=tokenizer, examples=12, model=SIZES, prompts_per_task=1,
        optimization={"steps": steps, "muon": True, **STEPS}, **more,
    )  # fmt: skip


def still(before: nn.Module, after: nn.Module) -> list[str]:
    old = dict(before.named_parameters())
    return [name for name, parameter in after.named_parameters() if torch.equal(old[name], parameter)]


def curves(folder: Path) -> str:
    return (folder / "training/curves.csv").read_text()


def test_the_image_tokenizer_resumes_exactly_and_moves_all_but_its_codebook(data: Path, tmp_path: Path) -> None:
    whole = train_janus_tokenizer(tokenizer_recipe(data, tmp_path / "whole", 4))
    torch.manual_seed(0)
    assert still(new_image_tokenizer(ImageTokenizerSizes(**SMALL)), whole) == ["quantize.embedding.weight"]
    with stopped_behind_state(2):
        train_janus_tokenizer(tokenizer_recipe(data, tmp_path / "broken", 4))
    resumed = train_janus_tokenizer(tokenizer_recipe(data, tmp_path / "broken", 4))
    assert still(whole, resumed) == [name for name, _ in whole.named_parameters()]
    assert curves(tmp_path / "broken") == curves(tmp_path / "whole")


def test_codes_are_those_that_drawing_decodes_and_that_the_stock_model_finds() -> None:
    model = new_image_tokenizer(ImageTokenizerSizes(**SMALL)).eval()
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        codes = codes_of(model, pixels)
        assert torch.equal(codes, JanusPictures(model).encode((pixels + 1) / 2))
        assert torch.equal(codes.flatten(), model.encode(pixels).image_tokens)
    assert len(codes.unique()) > 2


def test_pixels_of_objects_weigh_more_and_all_pictures_the_same() -> None:
    scene = Scene((Item("apple", "red", 20, 20, 24, 1),), "sky")
    weights = object_weights([scene, Scene((), "sky")], extra=3)
    assert torch.allclose(weights.mean((1, 2, 3)), torch.ones(2))
    assert torch.equal(weights[1], torch.ones(1, 64, 64))
    assert weights[0, 0, 20, 20] / weights[0, 0, 60, 60] == pytest.approx(4)


def test_the_generator_resumes_exactly_and_moves_all_that_draws(data: Path, tokenizer: Path, tmp_path: Path) -> None:
    whole = train_janus_generator(generator_recipe(data, tmp_path / "whole", tokenizer, 4))
    with stopped_behind_state(2):
        train_janus_generator(generator_recipe(data, tmp_path / "broken", tokenizer, 4))
    resumed = train_janus_generator(generator_recipe(data, tmp_path / "broken", tokenizer, 4))
    assert still(whole, resumed) == [name for name, _ in whole.named_parameters()]
    assert curves(tmp_path / "broken") == curves(tmp_path / "whole")

    first = train_janus_generator(generator_recipe(data, tmp_path / "first", tokenizer, 1))
    unseen = {name for name in still(first, whole) if not name.startswith("model.vqmodel.")}
    assert unseen and all(name.startswith(("model.vision_model.", "model.aligner.")) for name in unseen)


def test_understanding_moves_what_sees_too_and_the_checkpoint_draws(
    data: Path, tokenizer: Path, tmp_path: Path
) -> None:
    seeing = {"understanding": {"batch_size": 2, "text_tokens": 60, "held_out": 4}}
    first = train_janus_generator(generator_recipe(data, tmp_path / "first", tokenizer, 1, **seeing))
    whole = train_janus_generator(generator_recipe(data, tmp_path / "whole", tokenizer, 3, **seeing))
    assert {name for name in still(first, whole) if not name.startswith("model.vqmodel.")} == set()
    drawer = load_generator(tmp_path / "whole")
    paths = finish(drawer, drawer.start(["a photo of a red apple"], torch.tensor([1, 2])))
    assert drawer.decode(paths.codes).shape == (2, 3, 64, 64)
    assert drawer.steps == 8

    more = generator_recipe(data, tmp_path / "more", tokenizer, 1, start_from=tmp_path / "whole", **seeing)
    further = train_janus_generator(more)
    assert max((a - b).abs().max().item() for a, b in zip(whole.parameters(), further.parameters(), strict=True)) < 0.01


def test_the_eye_alone_is_learnt_beside_drawing(data: Path, tokenizer: Path, tmp_path: Path) -> None:
    eye = {"understanding": {"batch_size": 2}}
    first = train_janus_generator(generator_recipe(data, tmp_path / "first", tokenizer, 1, **eye))
    whole = train_janus_generator(generator_recipe(data, tmp_path / "whole", tokenizer, 3, **eye))
    assert {name for name in still(first, whole) if not name.startswith("model.vqmodel.")} == set()


def test_what_the_head_shares_is_in_the_weights_that_are_saved() -> None:
    torch.manual_seed(0)
    tokenizer, text = new_image_tokenizer(ImageTokenizerSizes(**SMALL)), janus_tokenizer()
    recipe = generator_recipe(Path("data"), Path("out"), Path("vq"), 1)
    trained = SharedSigns(new_janus(recipe.model, tokenizer, text))
    nn.init.normal_(trained.shared)
    states = torch.randn(3, 16)
    expected = trained.code_logits(states)
    assert torch.allclose(trained.folded().model.generation_head(states), expected, atol=1e-5)
    assert (trained.model.model.generation_head(states) - expected).abs().max() > 0.1
    assert JanusPrompting.of(text, trained.model.config).ids("a red apple")


def test_pools_are_encoded_once(data: Path, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, pool = load_image_tokenizer(tokenizer), dataset.Pool(data, 12, seed=1)
    codes = encode_pool(model, pool, tmp_path / "cache")
    monkeypatch.setattr("imagecot.worlds.drawn.training.janus_generator.codes_of", None)
    assert torch.equal(encode_pool(model, pool, tmp_path / "cache"), codes)
    assert codes.shape == (12, 64)


def test_captions_say_where_objects_stand_and_are_never_held_out() -> None:
    scene = Scene((Item("apple", "red", 12, 12, 24, 1), Item("cup", "green", 32, 52, 24, 1)), "sky")
    found = placed(scene, random.Random(0))
    assert found.endswith("a red apple at the top left and a green cup at the bottom")
    example = dataset.Example(two_object_metadata("apple", "cup"), scene)
    captions = {scene_caption(example, random.Random(k), 0.3) for k in range(200)}
    assert sum("at the top left" in caption for caption in captions) > 2
    assert any("red" in caption and "at the" not in caption for caption in captions)
    counted = dataset.Example(counting_metadata("apple", 1), Scene((), "sky"))
    assert not {scene_caption(counted, random.Random(k), 0.0) for k in range(100)} & held_out_texts()
