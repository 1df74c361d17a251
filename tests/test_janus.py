"""Janus: greedily what transformers draws; prompts as its processor writes them; what cannot be drawn with."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, GenerationConfig, JanusForConditionalGeneration, JanusProcessor
from transformers.models.janus.image_processing_pil_janus import JanusImageProcessorPil

from imagecot.contracts.paths import finish
from imagecot.contracts.scorer import Draws
from imagecot.errors import ImagecotError, UsageError
from imagecot.families import family_of, kinds_of
from imagecot.generators import load_generator
from imagecot.generators.janus.generator import JanusGenerator
from imagecot.generators.janus.prompting import JanusPrompting
from imagecot.generators.janus.weights import cast
from imagecot.training.lora import Lora, add_adapter, save_adapter
from small_models import write_janus

torch.set_num_threads(1)
PROMPTS = ["a photo of a red apple", "a cat", "two benches and a green cup"]
SEEDS = torch.tensor([5, 6, 7])
DRAWS = Draws(torch.tensor([0]), 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_janus(tmp_path_factory.mktemp("janus"))


@pytest.fixture(scope="module")
def janus(folder):
    return load_generator(folder)


@pytest.fixture
def damaged(folder, tmp_path) -> Path:
    """A copy of the folder, to be damaged."""
    return Path(shutil.copytree(folder, tmp_path / "damaged"))


def edit(file: Path, **changes: object) -> None:
    values = json.loads(file.read_text())
    for path, value in changes.items():
        *outer, name = path.split("__")
        inner = values
        for key in outer:
            inner = inner[key]
        inner[name] = value
    file.write_text(json.dumps(values))


def processed(folder: Path, prompts: list[str]) -> dict[str, torch.Tensor]:
    """What the processor of transformers makes of prompts, padded on the left."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    processor = JanusProcessor(JanusImageProcessorPil(), tokenizer, (folder / "chat_template.jinja").read_text())
    chats = [[{"role": "user", "content": [{"type": "text", "text": prompt}]}] for prompt in prompts]
    texts = processor.apply_chat_template(chats, add_generation_prompt=True)
    return dict(processor(text=texts, generation_mode="image", padding=True, return_tensors="pt"))


def test_prompts_are_those_of_the_processor(janus, folder):
    for prompt in PROMPTS:
        inputs = processed(folder, [prompt])
        assert inputs["input_ids"][0].tolist() == janus.prompting.ids(prompt)
    assert janus.prompting.text("a cat") == "<|User|>: a cat\n\n<|Assistant|>:<begin_of_image>"
    ids = janus.prompting.ids("a cat")
    assert janus.prompting.against(ids) == [256, *[258] * (len(ids) - 2), 260]


@pytest.mark.parametrize(
    ("sizes", "scale"),
    [({"side": 3}, 2.0), ({"side": 2, "num_key_value_heads": 2, "num_hidden_layers": 3, "seed": 1}, 5.0)],
)
def test_greedily_it_draws_what_transformers_draws(tmp_path, sizes, scale):
    """Several prompts of different lengths in one padded batch there, and here; and alone."""
    janus = load_generator(write_janus(tmp_path, **sizes)).adjusted(temperature=0, guidance_scale=scale)
    inputs = processed(tmp_path, PROMPTS)
    assert not bool(inputs["attention_mask"].all())
    config = GenerationConfig.from_pretrained(tmp_path, guidance_scale=scale, do_sample=False)
    stock = JanusForConditionalGeneration.from_pretrained(tmp_path).eval()
    expected = stock.generate(**inputs, generation_mode="image", generation_config=config)
    assert torch.equal(finish(janus, janus.start(PROMPTS, SEEDS)).codes, expected)
    assert torch.equal(finish(janus, janus.start(PROMPTS[1:2], SEEDS[:1])).codes, expected[1:2])
    images = stock.decode_image_tokens(expected).permute(0, 3, 1, 2)
    torch.testing.assert_close(janus.decode(expected), (images / 2 + 0.5).clamp(0, 1))


def test_the_pad_of_the_checkpoint_blanks_the_unconditional_prompt(damaged):
    """It differs between the released checkpoints, and changes what guidance goes against."""
    edit(damaged / "generation_config.json", pad_token_id=259)
    other = load_generator(damaged)
    assert other.prompting.pad_id == 259
    inputs = processed(damaged, PROMPTS[:1])
    config = GenerationConfig.from_pretrained(damaged, do_sample=False)
    stock = JanusForConditionalGeneration.from_pretrained(damaged).eval()
    expected = stock.generate(**inputs, generation_mode="image", generation_config=config)
    greedy = other.adjusted(temperature=0)
    assert torch.equal(finish(greedy, greedy.start(PROMPTS[:1], SEEDS[:1])).codes, expected)


def test_codes_of_pictures_are_looked_up_as_they_are_decoded(janus):
    """Of vectors that are entries of the codebook at any length, the codes are these entries."""
    vq = janus.model.model.vqmodel
    codes = torch.arange(32).view(2, 16)
    entries = vq.quantize.embedding.weight[codes] * torch.rand(2, 16, 1).add(0.1)
    pictures = janus._raster.pictures
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vq.encoder, "forward", lambda images: images)
        patch.setattr(vq.quant_conv, "forward", lambda _: entries.transpose(1, 2).reshape(2, 8, 4, 4))
        assert torch.equal(pictures.encode(torch.rand(2, 3, 32, 32)), codes)
    images = janus.decode(codes)
    assert images.shape == (2, 3, 32, 32)
    vectors = vq.quant_conv(vq.encoder(2 * images - 1)).detach().flatten(2).transpose(1, 2)
    cosines = torch.nn.functional.cosine_similarity(vectors[:, :, None], vq.quantize.embedding.weight, dim=-1)
    assert torch.equal(janus.encode(images), cosines.argmax(-1))


def test_a_folder_is_a_generator_and_a_verifier(folder):
    config = json.loads((folder / "config.json").read_text())
    assert set(kinds_of(config)) == {"generator", "verifier"}
    assert family_of("generator", folder).name == "Janus"


def test_it_brings_its_decoding_along(damaged):
    edit(damaged / "generation_config.json", top_k=9, top_p=0.9, temperature=0.8, fill="repeat", guidance_scale=None)
    settings = load_generator(damaged).settings
    expected = {"top_k": 9, "top_p": 0.9, "temperature": 0.8, "fill": "repeat", "guidance_scale": 5.0}
    assert settings == expected | {"precision": "float32"}


def test_half_precision_is_read_as_it_is_stored(folder, damaged):
    dtype = torch.float16
    state = load_file(folder / "model.safetensors")
    save_file({name: t.to(dtype) for name, t in state.items()}, damaged / "model.safetensors", {"format": "pt"})
    edit(damaged / "config.json", dtype=str(dtype).removeprefix("torch."))
    whole, half = load_generator(damaged), load_generator(damaged, dtype="bfloat16")
    name = "model.language_model.layers.0.mlp.up_proj.weight"
    assert torch.equal(whole.model.state_dict()[name], state[name].to(dtype).float())
    for model in (whole.model, half.model):
        assert model.model.vqmodel.quant_conv.weight.dtype == torch.float32
        assert model.model.language_model.rotary_emb.inv_freq.dtype == torch.float32
    assert half.model.state_dict()[name].dtype == torch.bfloat16
    assert half.settings["precision"] == "bfloat16"
    for one in (half, load_generator(damaged, dtype="int8")):
        assert bool((one.advance(one.start(PROMPTS[:1], SEEDS)).codes[:, :4] >= 0).all())


def test_a_copy_keeps_the_angles_of_late_codes(janus):
    """Rotary frequencies in bfloat16 would be off by a part in 256."""
    before = janus.model.model.language_model.rotary_emb.inv_freq
    other = janus.copy(torch.bfloat16)
    assert torch.equal(other.model.model.language_model.rotary_emb.inv_freq, before)
    assert cast(other.model, torch.float32).model.language_model.norm.weight.dtype == torch.float32


def test_gradients_reach_what_is_trained_and_nothing_else(janus):
    janus = janus.copy(torch.float32)
    model = janus.trainable()
    janus.log_likelihood(PROMPTS, torch.arange(48).view(3, 16), DRAWS).sum().backward()
    still = {name for name, p in model.named_parameters() if p.grad is None or not bool(p.grad.any())}
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert still == frozen
    assert {name.split(".")[1] for name in frozen} == {"vision_model", "aligner", "vqmodel", "weight"}


def test_what_is_saved_draws_and_judges_again(janus, folder, tmp_path):
    other = janus.copy(torch.float32).adjusted(fill="draft", top_k=7)
    torch.nn.init.normal_(other.model.model.language_model.layers[1].mlp.up_proj.weight, std=0.3)
    other.save(tmp_path / "saved")
    again = load_generator(tmp_path / "saved")
    assert again.settings == other.settings
    assert json.loads((tmp_path / "saved/config.json").read_text())["dtype"] == "float16"
    for name in ("processor_config.json", "preprocessor_config.json"):
        assert (tmp_path / "saved" / name).read_bytes() == (folder / name).read_bytes()
    codes = finish(other, other.start(PROMPTS, SEEDS)).codes
    with torch.no_grad():
        ours, theirs = (one.log_likelihood(PROMPTS, codes, DRAWS) for one in (other, again))
    torch.testing.assert_close(ours, theirs, atol=0.3, rtol=0.01)
    assert again.prompting.ids("a cat") == janus.prompting.ids("a cat")


def adapted(janus: JanusGenerator, base: Path, folder: Path) -> torch.Tensor:
    """Write an adapter that changes something; log-probabilities under it."""
    janus = janus.copy(torch.float32)
    adapter = add_adapter(janus.trainable(), Lora(r=2), str(base), janus.adapted_layers)
    for name, parameter in adapter.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    save_adapter(adapter, folder)
    with torch.no_grad():
        return janus.log_likelihood(PROMPTS, torch.arange(48).view(3, 16), DRAWS)


def test_adapters_are_merged(janus, folder, tmp_path):
    expected = adapted(janus, folder, tmp_path / "adapter")
    (tmp_path / "adapter/generation_config.json").write_text('{"guidance_scale": 3}')
    merged = load_generator(tmp_path / "adapter")
    assert merged.guidance_scale == 3
    with torch.no_grad():
        found = merged.log_likelihood(PROMPTS, torch.arange(48).view(3, 16), DRAWS)
        plain = janus.log_likelihood(PROMPTS, torch.arange(48).view(3, 16), DRAWS)
    torch.testing.assert_close(found, expected)
    assert bool(((found - plain).abs() > 0.1).any())
    # In an adapter of another family other layers are updated.
    edit(tmp_path / "adapter/adapter_config.json", target_modules=r".*\.layers\..*\.(q_proj|fc1)")
    with pytest.raises(ImagecotError, match=r"the adapter in .* does not fit its base"):
        load_generator(tmp_path / "adapter")


def without(folder: Path, *parts: str) -> None:
    """Take the tensors of some parts out of the weights."""
    state = load_file(folder / "model.safetensors")
    left = {name: tensor for name, tensor in state.items() if not name.startswith(parts)}
    save_file(left, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize("part", ["model.generation_head.", "model.vqmodel.decoder."])
def test_weights_that_draw_nothing_are_told(damaged, part):
    without(damaged, part)
    with pytest.raises(ImagecotError, match=rf"draw no images: \d+ tensor.* such as {part}.*; pass a Janus that draws"):
        load_generator(damaged)


def test_weights_that_lack_more_are_told(damaged):
    without(damaged, "model.language_model.norm", "model.generation_head.")
    with pytest.raises(ImagecotError, match=r"do not fit its config.json: they lack \d+ tensor"):
        load_generator(damaged)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vision_config__num_image_tokens": 9}, "num_image_tokens is 9, but .* a grid of 4 x 4 codes"),
        ({"vision_config__image_size": 40}, "num_image_tokens is 16, but .* a grid of 5 x 5 codes"),
        ({"vq_config__projection_dim": 16}, r"vq_config.projection_dim is 16, but the states .* have 32 numbers"),
        ({"text_config": {"model_type": "qwen2"}}, "text_config is of the type 'qwen2', but Janus draws with a llama"),
    ],
)
def test_parts_that_do_not_go_together_are_told(damaged, changes, message):
    edit(damaged / "config.json", **changes)
    with pytest.raises(ImagecotError, match=message):
        load_generator(damaged)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"guidance_scale": 0.5}, "generation_config.json.*guidance_scale"),
        ({"fill": "white"}, "generation_config.json.*fill"),
        ({"generation_kwargs": {"boi_token_id": 261}}, "boi_token_id is 261 .* but 260 in the tokenizer"),
        ({"pad_token_id": 5000}, "the tokenizer has 5001 entries but the model knows 272"),
    ],
)
def test_settings_that_do_not_fit_are_told(damaged, changes, message):
    edit(damaged / "generation_config.json", **changes)
    with pytest.raises(ImagecotError, match=message):
        load_generator(damaged)


def test_a_tokenizer_that_lacks_something_is_told(damaged):
    template = (damaged / "chat_template.jinja").read_text()
    (damaged / "chat_template.jinja").unlink()
    with pytest.raises(ImagecotError, match=r"has no chat template; copy chat_template.jinja too"):
        load_generator(damaged)
    # Older processors keep it in another file.
    (damaged / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    assert load_generator(damaged).prompting.text("a cat").endswith("<|Assistant|>:<begin_of_image>")
    values = json.loads((damaged / "tokenizer_config.json").read_text())
    del values["boi_token"]
    (damaged / "tokenizer_config.json").write_text(json.dumps(values))
    with pytest.raises(ImagecotError, match="the tokenizer has no boi_token, without which Janus draws no image"):
        load_generator(damaged)
    (damaged / "tokenizer.json").unlink()
    with pytest.raises(ImagecotError, match=r"has no tokenizer.json"):
        load_generator(damaged)


def test_tokenizers_as_they_were_released_are_read(janus, damaged):
    """Saved by transformers 4: another class by name, and special tokens as a table."""
    named = {"image_token": "<image_placeholder>", "boi_token": "<begin_of_image>", "eoi_token": "<end_of_image>"}
    now = json.loads((damaged / "tokenizer_config.json").read_text())
    kept = {name: now[name] for name in ("bos_token", "eos_token", "pad_token")}
    then = {"tokenizer_class": "LlamaTokenizerFast", "add_bos_token": True, "legacy": True, "unk_token": None}
    then |= {**kept, **named, "extra_special_tokens": named, "model_max_length": 16384, "sp_model_kwargs": {}}
    (damaged / "tokenizer_config.json").write_text(json.dumps(then))
    again = JanusPrompting.from_pretrained(damaged, janus.model.config)
    for prompt in PROMPTS:
        assert again.ids(prompt) == janus.prompting.ids(prompt)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("", "the prompt is empty"),
        ("a red cup " * 60, r"the prompt has \d+ tokens but this generator reads at most 496; shorten it"),
        ("a <begin_of_image> cup", "contains <begin_of_image>, which Janus reads as a mark of its own"),
    ],
)
def test_prompts_that_cannot_be_drawn_are_refused(janus, prompt, message):
    with pytest.raises(UsageError, match=message):
        janus.start([prompt], SEEDS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 8}, "Janus draws a row of codes a step, 4 in all; leave out steps"),
        ({"schedule": "cosine"}, "Janus has no setting 'schedule'; it has guidance_scale, temperature"),
        ({"memory_budget": 0}, "memory_budget must be a number of bytes"),
        ({"folder": "x"}, "Janus has no setting 'folder'"),
    ],
)
def test_settings_that_there_are_not_are_refused(janus, settings, message):
    with pytest.raises(UsageError, match=message):
        janus.adjusted(**settings)
