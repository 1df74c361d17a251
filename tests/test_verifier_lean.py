"""A LLaVA-OneVision that is only asked is that of transformers, number by number; another checkpoint is left to it."""

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, LlavaOnevisionForConditionalGeneration

from imagecot.contracts.questions import CLARITY, ORM, POTENTIAL
from imagecot.errors import ImagecotError
from imagecot.generators.attention import KeysAndValues
from imagecot.hub import CHECKPOINTS
from imagecot.plain_tokenizer import PlainTokenizer, read_plain
from imagecot.verifiers import lean, load_verifier
from imagecot.verifiers.llava_onevision import LlavaOnevisionVerifier
from imagecot.verifiers.loading import trained
from imagecot.verifiers.vision import encode
from stock_states import same_states

SHIPPED = CHECKPOINTS / "tiny-zero-shot"
VALUES = json.loads((SHIPPED / "config.json").read_text())
IMAGES = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
PROMPTS = ["a photo of a red apple", "a photo of four blue cups and a green bird", "two clocks"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("padded", [True, False])
@torch.no_grad()
def test_states_and_caches(dtype: torch.dtype, padded: bool) -> None:
    own = lean.read(SHIPPED, VALUES, dtype)
    stock = LlavaOnevisionForConditionalGeneration.from_pretrained(SHIPPED, dtype=dtype).eval()
    assert own is not None and own.state_dict().keys() == stock.state_dict().keys()
    assert torch.equal(encode(own, IMAGES.to(dtype)), encode(stock, IMAGES.to(dtype)))
    same_states(own, stock, padded, dtype)


@pytest.mark.parametrize("padded", [True, False])
@torch.no_grad()
def test_the_last_state_alone_leaves_out_what_it_does_not_need(padded: bool) -> None:
    own = lean.read(SHIPPED, VALUES, torch.float32)
    assert own is not None
    language, fed = own.model.language_model, []
    language.layers[-1].mlp.down_proj.register_forward_hook(lambda module, given, made: fed.append(made.shape[1]))
    mask = torch.arange(20) >= torch.tensor([[0], [3], [5]])
    embeds = torch.randn(3, 20, 192, generator=torch.Generator().manual_seed(2))
    position = (mask.cumsum(1) - 1).clamp_min(0)
    caches = KeysAndValues(), KeysAndValues()
    found, expected = (
        language(embeds, position, mask.long() if padded else None, cache, last=last).last_hidden_state
        for last, cache in zip((True, False), caches, strict=True)
    )
    assert fed == [1, 20] and found.shape == (3, 1, 192)
    torch.testing.assert_close(found[:, 0], expected[:, -1], atol=2e-6, rtol=1e-6)
    for mine, theirs in zip(*caches, strict=True):
        assert torch.equal(mine[0], theirs[0]) and torch.equal(mine[1], theirs[1])


def test_the_verifier_that_is_trained_is_the_same() -> None:
    verifier = load_verifier("tiny-parm")
    assert isinstance(verifier, LlavaOnevisionVerifier) and isinstance(verifier.model, lean.Lean)
    other = trained(verifier)
    assert isinstance(other.model, LlavaOnevisionForConditionalGeneration) and trained(other) is other
    for one in (verifier, other):
        one.check_prompt(PROMPTS[0])
    # The last layer reads the last position alone here, so its products are summed in another order.
    close = partial(torch.testing.assert_close, atol=1e-6, rtol=0)
    close(verifier.ask(IMAGES, PROMPTS, ORM), other.ask(IMAGES, PROMPTS, ORM))
    asked = [one.begin(IMAGES, PROMPTS, CLARITY) for one in (verifier, other)]
    later = [one.ask(IMAGES, PROMPTS, POTENTIAL, c) for one, (_, c) in zip((verifier, other), asked, strict=True)]
    close(asked[0][0], asked[1][0])
    close(*later)
    for mine, theirs in zip(*(one.reflect(IMAGES, PROMPTS) for one in (verifier, other)), strict=True):
        assert replace(mine, p_yes=0.5) == replace(theirs, p_yes=0.5) and abs(mine.p_yes - theirs.p_yes) < 1e-6
    found = [
        one.answer_probability(IMAGES[:1], ["What is it?", "Is it red?"], [["no", "No"], ["yes"]])
        for one in (verifier, other)
    ]
    close(*found)
    assert other.tokenizer is not verifier.tokenizer and verifier.settings == other.settings


def test_one_image_of_many_questions_is_looked_at_once() -> None:
    verifier = load_verifier("tiny-parm")
    assert isinstance(verifier, LlavaOnevisionVerifier)
    looked: list[int] = []
    eye = verifier.model.model.vision_tower.embeddings
    eye.register_forward_pre_hook(lambda _, given: looked.append(len(given[0])))
    once = verifier.ask(IMAGES[:1].expand(3, -1, -1, -1), PROMPTS, ORM)
    each = verifier.ask(IMAGES[:1].repeat(3, 1, 1, 1), PROMPTS, ORM)
    assert torch.equal(once, each) and looked == [1, 3]
    # Only the batch may be expanded: images of one colour are several images.
    grey = torch.tensor([0.2, 0.5, 0.8])[:, None, None, None].expand(-1, 3, 64, 64)
    assert len(set(verifier.ask(grey, PROMPTS[:1], ORM).tolist())) == 3


def test_the_tokenizer_is_that_of_transformers() -> None:
    own, stock = read_plain(SHIPPED), AutoTokenizer.from_pretrained(SHIPPED)
    assert isinstance(own, PlainTokenizer) and len(own) == len(stock)
    texts = [*PROMPTS, "", " yes", "Yes", "No", "<|im_end|>", "a <image> of naïve 猫\n", "<|im_start|>system\nYou"]
    for text in texts:
        ids = stock(text, add_special_tokens=False).input_ids
        assert own(text, add_special_tokens=False).input_ids == ids and own(text).input_ids == stock(text).input_ids
        for skip in (True, False):
            assert own.decode(ids, skip_special_tokens=skip) == stock.decode(ids, skip_special_tokens=skip)
            assert own.batch_decode([ids, ids[:1]], skip_special_tokens=skip) == [
                stock.decode(row, skip_special_tokens=skip) for row in (ids, ids[:1])
            ]
    assert {i: (str(t), t.special) for i, t in own.added_tokens_decoder.items()} == {
        i: (str(t), t.special) for i, t in stock.added_tokens_decoder.items()
    }
    assert own.convert_tokens_to_ids("<image>") == stock.convert_tokens_to_ids("<image>") == 508


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHIPPED, tmp_path / "model"))


@pytest.mark.parametrize("change", [
    {"model_type": "llava"},
    {"tie_word_embeddings": False},
    {"vision_feature_layer": [-1, -2]},
    {"text_config": {"num_key_value_heads": 1}},
    {"text_config": {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}}},
    {"text_config": {"use_sliding_window": True}},
    {"text_config": {"hidden_size": "192"}},
    {"text_config": {"num_hidden_layers": 5}},
    {"vision_config": {"vision_use_head": True}},
    {"vision_config": {"hidden_act": "gelu"}},
])  # fmt: skip
def test_what_is_built_in_another_way_is_left_to_transformers(copied: Path, change: dict[str, object]) -> None:
    values = {**VALUES}
    for name, value in change.items():
        values[name] = {**VALUES[name], **value} if isinstance(value, dict) else value
    assert lean.read(copied, VALUES, torch.float32) is not None
    assert lean.read(copied, values, torch.float32) is None


def test_damaged_weights_are_told_as_of_any_model(copied: Path) -> None:
    file = copied / "model.safetensors"
    state = load_file(file)
    save_file({**state, "image_newline": state["image_newline"] * float("nan")}, file, {"format": "pt"})
    assert lean.read(copied, VALUES, torch.float32) is None
    with pytest.raises(ImagecotError, match="not finite"):
        load_verifier(copied)
    save_file({name: tensor for name, tensor in state.items() if "layers.0." not in name}, file, {"format": "pt"})
    with pytest.raises(ImagecotError, match=r"they lack \d+ tensor"):
        load_verifier(copied)


def test_a_tokenizer_that_asks_for_more_is_left_to_transformers(copied: Path) -> None:
    file = copied / "tokenizer_config.json"
    values = json.loads(file.read_text())
    assert read_plain(copied) is not None
    for change in ({"clean_up_tokenization_spaces": True}, {"eos_token": "yes"}, {"add_bos_token": True}):
        file.write_text(json.dumps(values | change))
        assert read_plain(copied) is None
