import dataclasses
import gzip
import json

import pytest
import torch
from torch.nn import functional as F

import recorded as recordings
from imagecot.errors import ImagecotError, UsageError
from imagecot.generators.llamagen import LlamaGen, LlamaGenConfig
from imagecot.generators.llamagen.model import rotary_table
from llamagen_recorded import facts, recorded, tiny_llamagen, weights

torch.set_num_threads(1)
RUNS = facts()["runs"]


@pytest.fixture(scope="module")
def want():
    return recorded()


@pytest.fixture(scope="module")
def model():
    return tiny_llamagen()


def close(found, expected, atol=1e-4):
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("block_size", [256, 1024])
def test_published_names_and_shapes(block_size):
    with torch.device("meta"):
        model = LlamaGen(LlamaGenConfig(block_size=block_size))
    keys = json.loads(gzip.decompress((recordings.DATA / "llamagen" / "keys.json.gz").read_bytes()))["llamagen"]
    assert {name: list(t.shape) for name, t in model.state_dict().items()} == keys
    assert list(model.state_dict()) == list(keys)
    assert len(keys) == 258
    assert sum(parameter.numel() for parameter in model.parameters()) == 777_678_080


@pytest.mark.parametrize(
    ("dim", "n_head", "width", "head_dim"),
    [(768, 12, 2048, 64), (1024, 16, 2816, 64), (1280, 20, 3584, 64), (2560, 40, 6912, 64), (3200, 32, 8704, 100)],
)
def test_widths_of_all_published_sizes(dim, n_head, width, head_dim):
    config = LlamaGenConfig(dim=dim, n_head=n_head, cls_token_num=120)
    assert (config.hidden_size, config.head_dim) == (width, head_dim)


def test_other_widths_of_the_feed_forward():
    assert LlamaGenConfig(dim=64, n_head=4, multiple_of=64).hidden_size == 192
    assert LlamaGenConfig(dim=64, n_head=4, multiple_of=32, ffn_dim_multiplier=1.3).hidden_size == 224  # of 221
    assert LlamaGenConfig(dim=96, n_head=4, multiple_of=256).hidden_size == 256


def test_the_weights_are_those_of_the_recording(model, want):
    torch.testing.assert_close(recordings.sums(model.state_dict()), want["sums"], atol=1e-4, rtol=1e-6)


def test_rotations_are_by_row_and_column(model, want):
    cos, sin = rotary_table(model.config, torch.device("cpu"))
    close(torch.stack([cos, sin], -1)[:, 0], want["freqs_cis"][6:], 1e-6)
    assert not want["freqs_cis"][:6].any()  # the reference multiplies text by zeros


def test_logits_of_training(model, want):
    text, mask, codes = want["text.features"], want["text.mask"], want["train.codes"].long()
    logits = model(text, mask, codes)
    assert logits.dtype == torch.float32
    close(logits, want["train.logits"])
    close(model(text, mask.bool(), codes), want["train.logits"])
    close(model(text, None, codes), want["train.logits_mask_none"])
    scores = logits.log_softmax(-1).gather(2, codes[..., None])[..., 0]
    close(scores, want["train.token_logprobs"])
    dropped = text.clone()
    dropped[1] = model.without_text(6)
    close(model(dropped, mask, codes)[1], want["train.logits_row1_dropped"])


def test_gradients_of_training(model, want):
    found = facts()["train"]
    codes = want["train.codes"].long()
    loss = F.cross_entropy(model(want["text.features"], want["text.mask"], codes).flatten(0, 1), codes.flatten())
    assert loss.item() == pytest.approx(found["loss_without_valid"], abs=1e-5)
    gradients = torch.autograd.grad(loss, [*model.parameters()])
    norms = {name: float(g.norm()) for (name, _), g in zip(model.named_parameters(), gradients, strict=True)}
    assert norms == pytest.approx(found["gradient_norms"], rel=1e-4)


def test_activations_that_are_computed_again_change_nothing(want):
    model, codes = tiny_llamagen(), want["train.codes"].long()
    text, mask = want["text.features"], want["text.mask"]
    plain = torch.autograd.grad(model(text, mask, codes).square().mean(), [*model.parameters()])
    model.activation_checkpointing_enable()
    again = torch.autograd.grad(model(text, mask, codes).square().mean(), [*model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))


def test_heads_may_share_keys_and_values(want):
    model, state = tiny_llamagen(n_kv_head=2), weights(facts())
    for name in [name for name in state if name.endswith("wqkv.weight")]:
        q, k, v = state[name].split(64)
        state[name] = torch.cat([q, k[:32], v[:32]])
    model.load_state_dict(state)
    close(model(want["text.features"], want["text.mask"], want["train.codes"].long()), want["gqa.train_logits"])


@torch.no_grad()
@pytest.mark.parametrize("run", RUNS)
def test_logits_of_every_run(model, want, run):
    codes = want[f"{run}.codes"].long().T
    mask = None if RUNS[run].get("no_mask") else want["text.mask"]
    close(model(want["text.features"], mask, codes).transpose(0, 1), want[f"{run}.logits_cond"])
    if f"{run}.logits_uncond" in want:
        nothing = model.without_text(6).expand(3, -1, -1)
        close(model(nothing, mask, codes).transpose(0, 1), want[f"{run}.logits_uncond"])


@torch.no_grad()
def test_part_of_an_image_has_the_same_logits(model, want):
    codes = want["train.codes"].long()
    whole = model(want["text.features"], want["text.mask"], codes)
    for count in (1, 5):
        close(model(want["text.features"], want["text.mask"], codes[:, :count]), whole[:, :count], 1e-5)
    for count in (0, 17):
        with pytest.raises(UsageError, match="no part of an image of 16 codes"):
            model(want["text.features"], want["text.mask"], torch.zeros(3, count, dtype=torch.long))


def test_as_many_rows_stand_for_no_text_as_the_weights_have(model):
    state = model.state_dict()
    table = torch.randn(120, 24)
    other = tiny_llamagen(n_layer=3)
    other.load_state_dict({**state, "cls_embedding.uncond_embedding": table})
    assert torch.equal(other.without_text(6), table[-6:])
    with pytest.raises(UsageError, match="121 rows of text, but 120 stand for no text"):
        other.without_text(121)


def test_a_checkpoint_returns(model, want, tmp_path):
    model.save_pretrained(tmp_path)
    again = LlamaGen.from_pretrained(tmp_path)
    assert again.config == model.config
    given = (want["text.features"], want["text.mask"], want["train.codes"].long())
    assert torch.equal(again(*given), model(*given))
    again(*given).sum().backward()  # loaded weights can be trained
    assert again.output.weight.grad is not None
    half = LlamaGen.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert half.dtype == half.cls_embedding.uncond_embedding.dtype == torch.bfloat16
    assert (half(*given) - model(*given)).abs().max() < 0.2


def test_fields_of_training_are_ignored():
    found = facts()["model_args"]
    assert LlamaGenConfig(**found) == LlamaGenConfig.from_dict({**found, "model_type": "llamagen", "other": 1})
    assert LlamaGenConfig(**found).to_dict()["model_type"] == "llamagen"
    replaced = dataclasses.replace(LlamaGenConfig(**found), rope_base=500.0, norm_eps=1e-3)
    assert LlamaGenConfig.from_dict(replaced.to_dict()) == replaced


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"model_type": "c2i"}, "class-conditional LlamaGen, which reads no text"),
        ({"block_size": 250}, "block_size must be a square, not 250"),
        ({"dim": 1282}, "dim 1282 must be divisible by n_head 20"),
        ({"n_head": 128}, "multiple of 4 channels, not 10"),
        ({"n_kv_head": 3}, "n_head 20 must be divisible by n_kv_head 3"),
        ({"n_layer": 1000, "dim": 65520}, "more than 100,000,000,000 weights"),
        ({"norm_eps": 0.0}, "norm_eps"),
    ],
)
def test_sizes_that_cannot_be(values, told):
    with pytest.raises(ImagecotError, match=told):
        LlamaGenConfig.from_dict(values)
