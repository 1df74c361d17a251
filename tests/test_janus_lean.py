"""A Janus that is drawn with and asked is that of transformers, number by number; another one is left to it."""

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, JanusForConditionalGeneration, JanusProcessor

from imagecot.contracts.questions import CLARITY, ORM, POTENTIAL, QUESTIONS
from imagecot.errors import ImagecotError
from imagecot.generators import load_generator
from imagecot.generators.janus import lean
from imagecot.generators.janus.generator import JanusGenerator
from imagecot.generators.janus.lean import LeanJanus
from imagecot.hub import CHECKPOINTS
from imagecot.plain_tokenizer import PlainTokenizer, read_plain
from imagecot.verifiers import load_verifier
from imagecot.verifiers.janus import JanusChat, JanusVerifier
from imagecot.verifiers.janus_processor import PlainProcessor, read_processor
from imagecot.verifiers.loading import trained
from stock_states import same_states

SHIPPED = CHECKPOINTS / "tiny-janus"
VALUES = json.loads((SHIPPED / "config.json").read_text())
IMAGES = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
PROMPTS = ["a photo of a red apple", "a photo of four blue cups and a green bird", "two clocks"]


def both(dtype: torch.dtype) -> tuple[LeanJanus, JanusForConditionalGeneration]:
    own = lean.read(SHIPPED, VALUES, dtype)
    assert own is not None
    return own, JanusForConditionalGeneration.from_pretrained(SHIPPED, dtype=dtype).eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_every_part_computes_the_same(dtype: torch.dtype) -> None:
    own, stock = both(dtype)
    assert own.state_dict().keys() == stock.state_dict().keys()
    draw = torch.Generator().manual_seed(3)
    codes, pixels = torch.randint(0, 2048, (3, 64), generator=draw), (2 * IMAGES - 1).to(dtype)
    states = torch.randn(3, 20, 192, generator=draw).to(dtype)
    mine, theirs = own.model, stock.model
    found, expected = (
        [
            model.vqmodel.decode(codes),
            model.vqmodel.quant_conv(model.vqmodel.encoder(pixels)),
            model.get_image_features(pixels).pooler_output,
            model.generation_head(states),
            model.language_model(inputs_embeds=states, use_cache=False).last_hidden_state,
        ]
        for model in (mine, theirs)
    )
    assert all(map(torch.equal, found, expected))
    rows = [one.prepare_embeddings_for_image_generation(codes) for one in (own, stock)]
    assert torch.equal(*rows) and torch.equal(own.lm_head.weight, stock.lm_head.weight)


@pytest.mark.parametrize("padded", [True, False])
def test_states_and_caches(padded: bool) -> None:
    same_states(*both(torch.float32), padded, torch.float32)


def test_gradients_are_the_same_with_activations_computed_again_too() -> None:
    states = torch.randn(2, 12, 192, generator=torch.Generator().manual_seed(4))
    gradients = []
    for model in (*both(torch.float32), both(torch.float32)[0]):
        if len(gradients) == 2:
            model.model.language_model.activation_checkpointing_enable()
        read = model.model.language_model(inputs_embeds=states, use_cache=False).last_hidden_state
        read.square().sum().backward()
        named = model.model.language_model.named_parameters()
        gradients.append({name: one.grad for name, one in named if one.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, found in gradients[0].items():
        torch.testing.assert_close(found, gradients[1][name], atol=1e-4, rtol=1e-4)
        assert torch.equal(found, gradients[2][name])


def test_the_verifier_that_is_trained_is_the_same(tmp_path: Path) -> None:
    verifier = load_verifier("tiny-janus-parm")
    assert isinstance(verifier, JanusVerifier) and isinstance(verifier.model, LeanJanus)
    assert isinstance(verifier.processor, PlainProcessor)
    with pytest.raises(TypeError, match="is not saved"):
        verifier.chat.save(tmp_path)
    other = trained(verifier)
    assert isinstance(other.model, JanusForConditionalGeneration) and trained(other) is other
    close = partial(torch.testing.assert_close, atol=1e-6, rtol=0)
    asked = [one.begin(IMAGES, PROMPTS, CLARITY) for one in (verifier, other)]
    later = [one.ask(IMAGES, PROMPTS, POTENTIAL, c) for one, (_, c) in zip((verifier, other), asked, strict=True)]
    close(asked[0][0], asked[1][0])
    close(*later)
    close(verifier.ask(IMAGES, PROMPTS, ORM), other.ask(IMAGES, PROMPTS, ORM))
    written = [[found.text for found in one.reflect(IMAGES, PROMPTS)] for one in (verifier, other)]
    assert written[0] == written[1] and verifier.settings == other.settings


def test_the_processor_is_that_of_transformers() -> None:
    own, stock = read_processor(SHIPPED), JanusProcessor.from_pretrained(SHIPPED)
    model = lean.read(SHIPPED, VALUES, torch.float32)
    assert own is not None and model is not None
    mine, theirs = JanusChat(model, own), JanusChat(model, stock)
    assert (mine.start, mine.image, mine.end) == (theirs.start, theirs.image, theirs.end)
    for question in QUESTIONS:
        assert all(mine.asked(question, prompt) == theirs.asked(question, prompt) for prompt in (*PROMPTS, ""))
    for height, width in ((64, 64), (40, 61)):
        images = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(height))
        assert torch.equal(mine.framed(images), theirs.framed(images))
        assert torch.equal(mine.rows(images), theirs.rows(images))


def test_the_prompts_are_those_of_transformers() -> None:
    own, stock = read_plain(SHIPPED, chats=True), AutoTokenizer.from_pretrained(SHIPPED)
    assert isinstance(own, PlainTokenizer) and own.get_vocab() == stock.get_vocab()
    assert own.special_tokens_map == stock.special_tokens_map
    assert own.all_special_tokens == stock.all_special_tokens
    for prompt in (*PROMPTS, " a  cup ", "naïve 猫 {{ messages }}", "<|User|>: a cup"):
        said = [{"role": "user", "content": [{"type": "text", "text": prompt}]}]
        chats = [one.apply_chat_template(said, tokenize=False, add_generation_prompt=True) for one in (own, stock)]
        assert chats[0] == chats[1] and own(chats[0]).input_ids == stock(chats[0]).input_ids


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHIPPED, tmp_path / "model"))


@pytest.mark.parametrize("change", [
    {"model_type": "llava"},
    {"text_config": {"num_key_value_heads": 2}},
    {"text_config": {"attention_bias": True}},
    {"text_config": {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}}},
    {"text_config": {"num_hidden_layers": 5}},
    {"text_config": {"hidden_size": "192"}},
    {"vision_config": {"use_qk_norm": True}},
    {"vision_config": {"num_image_tokens": 63}},
    {"vq_config": {"double_latent": True}},
    {"vq_config": {"projection_dim": 96}},
    {"tie_word_embeddings": False},
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
    name = "model.aligner.fc1.bias"
    save_file({**state, name: state[name] * float("nan")}, file, {"format": "pt"})
    for load in (load_generator, load_verifier):
        with pytest.raises(ImagecotError, match="not finite"):
            load(copied)


@pytest.mark.parametrize("template", [
    "{{ messages[0]['content'][0]['text'] | tojson }}",
    "{{ raise_exception('no') }}",
    "{{ tools }}",
    "{% generation %}a{% endgeneration %}",
    "{% for m in messages %}",
])  # fmt: skip
def test_a_template_that_asks_for_more_is_left_to_transformers(copied: Path, template: str) -> None:
    assert read_plain(copied, chats=True) is not None and read_processor(copied) is not None
    (copied / "chat_template.jinja").write_text(template)
    assert read_plain(copied, chats=True) is None and read_processor(copied) is None
    assert read_plain(copied) is not None


def test_what_is_saved_is_a_checkpoint_of_transformers(tmp_path: Path) -> None:
    generator = load_generator("tiny-janus")
    assert isinstance(generator, JanusGenerator) and isinstance(generator.model, LeanJanus)
    generator.save(tmp_path / "saved")
    stock = JanusForConditionalGeneration.from_pretrained(tmp_path / "saved")
    for name, tensor in stock.state_dict().items():
        assert torch.equal(tensor.float(), generator.model.state_dict()[name]), name
    again = load_generator(tmp_path / "saved")
    assert isinstance(again, JanusGenerator) and isinstance(again.model, LeanJanus)
    assert again.prompting.ids("a cat") == generator.prompting.ids("a cat")
