import gzip
import json

import pytest
import torch

from imagecot.generators.showo import Showo, ShowoConfig, omni_attention_mask
from imagecot.generators.showo.model import understanding_attention_mask
from plain_decoder import CONFIG, DATA, recorded, tiny_showo
from recorded import sums

torch.set_num_threads(1)
PAD, SOI, EOI = 300, 301, 302


@pytest.fixture(scope="module")
def model():
    return tiny_showo()


@pytest.fixture(scope="module")
def want():
    return recorded()


def test_the_weights_are_those_of_the_recording(model, want):
    torch.testing.assert_close(sums(dict(model.named_parameters())), want["sums"], atol=1e-4, rtol=1e-6)


@pytest.mark.parametrize(("projector", "count"), [(False, 437), (True, 441)])
def test_published_names_and_shapes(projector, count):
    with torch.device("meta"):
        model = Showo(ShowoConfig(w_clip_vit=projector))
    keys = json.loads(gzip.decompress((DATA / "showo" / "keys.json.gz").read_bytes()))
    expected = keys[f"w_clip_vit_{projector}"]
    assert {name: list(t.shape) for name, t in model.state_dict().items()} == expected
    assert len(expected) == count


def test_published_config():
    values = {
        "_class_name": "Showo",
        "_diffusers_version": "0.30.1",
        "codebook_size": 8192,
        "llm_model_path": "microsoft/phi-1_5",
        "llm_vocab_size": 50295,
        "load_from_showo": True,
        "mask_token_id": 58497,
        "num_vq_tokens": 1024,
        "vocab_size": 58498,
        "w_clip_vit": False,
    }
    config = ShowoConfig.from_dict(values)
    assert config == ShowoConfig(num_vq_tokens=1024)
    assert config.code_offset == 50305
    assert (config.mask_token_id, config.vocab_size, config.grid_size) == (58497, 58498, 32)
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (2048, 24, 32)
    written = config.to_dict()
    assert all(
        written[name] == value
        for name, value in values.items()
        if name not in ("_diffusers_version", "load_from_showo")
    )


def test_attention_mask_of_drawing(want):
    ids = torch.cat([want["prompt.cond_input_ids"], want["prompt.uncond_input_ids"]])
    assert torch.equal(omni_attention_mask(ids, PAD, SOI, EOI), want["prompt.attention_allowed"].bool())
    case = next(c for c in prompting_cases() if c["task"].startswith("create_attention_mask"))
    ids = torch.tensor(prompting_cases()[0]["sequence_ids"])
    rows = [[int(c) for c in row] for row in case["allowed_rm_pad_in_image_true"]]
    assert torch.equal(omni_attention_mask(ids, PAD, SOI, EOI).flatten(0, 2), torch.tensor(rows).bool())


def test_attention_mask_with_two_images_by_hand():
    text = 5
    ids = torch.tensor([[SOI, 310, EOI, text, SOI, 311, EOI]])
    rows = ["1110000", "1110000", "1110000", "1111000", "1111111", "1111111", "1111111"]
    expected = torch.tensor([[c == "1" for c in row] for row in rows])
    assert torch.equal(omni_attention_mask(ids, PAD, SOI, EOI)[0, 0], expected)


def test_attention_mask_of_describing():
    case = next(c for c in prompting_cases() if c["task"].startswith("mmu inference"))
    ids = torch.tensor(case["sequence_ids"])
    expected = torch.tensor(case["allowed_attention"]).view(25, 25).bool()
    assert torch.equal(understanding_attention_mask(ids, EOI)[0, 0], expected)


@torch.no_grad()
def test_recorded_logits(model, want):
    ids = torch.cat([want["prompt.cond_input_ids"], want["prompt.uncond_input_ids"]])
    mask = omni_attention_mask(ids, PAD, SOI, EOI)
    hidden = model.hidden_states(ids, mask)
    torch.testing.assert_close(hidden, want["forward.hidden_states.3"], rtol=0, atol=1e-5)
    logits = model.forward_logits(ids, mask)
    torch.testing.assert_close(logits, want["forward.full_logits"], rtol=0, atol=1e-5)
    torch.testing.assert_close(model.code_logits(hidden), logits[..., 310:374], rtol=0, atol=1e-5)


def test_a_checkpoint_returns(model, want, tmp_path):
    model.save_pretrained(tmp_path)
    again = Showo.from_pretrained(tmp_path)
    assert again.config == CONFIG
    ids = want["prompt.cond_input_ids"]
    mask = omni_attention_mask(ids, PAD, SOI, EOI)
    assert torch.equal(again(ids, mask), model(ids, mask))
    again(ids, mask).sum().backward()  # loaded weights can be trained
    assert again.showo.lm_head.weight.grad is not None
    half = Showo.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16
    assert half.showo.model.rotary_emb.inv_freq.dtype == torch.float32  # positions stay exact


def prompting_cases() -> list:
    return json.loads((DATA / "showo" / "prompting.json").read_text())["cases"]
