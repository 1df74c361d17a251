import dataclasses
import gzip
import json

import pytest
import torch

import recorded as recordings
from imagecot.errors import ImagecotError, UsageError
from imagecot.generators.llamagen import VQ16, VQ16Config
from llamagen_recorded import tiny_vq16

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def want():
    return recordings.read("llamagen/vq16")


@pytest.fixture(scope="module")
def model(want):
    return tiny_vq16(want)


def test_published_names_and_shapes():
    with torch.device("meta"):
        model = VQ16(VQ16Config())
    keys = json.loads(gzip.decompress((recordings.DATA / "llamagen" / "keys.json.gz").read_bytes()))["vq16"]
    assert {name: list(t.shape) for name, t in model.state_dict().items()} == keys
    assert list(model.state_dict()) == list(keys)
    assert len(keys) == 344
    assert model.config.downsample_factor == 16


def test_the_weights_are_those_of_the_recording(model, want):
    state = {name: t for name, t in model.state_dict().items() if name != "quantize.codebook_used"}
    torch.testing.assert_close(recordings.sums(state), want["sums"], atol=1e-4, rtol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("suffix", ["", "_nonsquare"])
def test_encode(model, want, suffix):
    codes = model.encode(want[f"image{suffix}"])
    assert codes.dtype == torch.int64
    assert torch.equal(codes.flatten(1), want[f"codes{suffix}"].long())
    assert codes.shape[1:] == (4, 6 if suffix else 4)


@torch.no_grad()
def test_what_codes_are_looked_up_for(model, want):
    torch.testing.assert_close(model.vectors(want["image"]), want["quant_conv"], rtol=0, atol=1e-5)


@torch.no_grad()
def test_decode(model, want):
    torch.testing.assert_close(model.decode(want["codes"]), want["decode_of_codes"], rtol=0, atol=1e-4)
    found = model.decode(want["random_codes"])
    torch.testing.assert_close(found, want["decode_of_random_codes"], rtol=0, atol=1e-4)
    assert found.abs().max() > 1  # not clamped
    pixels = ((found * 0.5 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    assert torch.equal(pixels, want["uint8_hwc_sample_t2i_ddp"])
    nonsquare = model.decode(want["codes_nonsquare"].view(1, 4, 6))
    torch.testing.assert_close(nonsquare, want["decode_nonsquare"], rtol=0, atol=1e-4)


@torch.no_grad()
def test_codes_that_are_not_of_unit_length(model, want):
    other = VQ16(dataclasses.replace(model.config, codebook_l2_norm=False)).eval()
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.encode(want["image"]).flatten(1), want["codes_l2norm_false"].long())
    assert not torch.equal(want["codes_l2norm_false"], want["codes"])


def test_the_length_of_a_code_says_nothing(model, want):
    scaled = VQ16(model.config).eval()
    state = model.state_dict()
    length = torch.linspace(0.1, 9, len(state["quantize.embedding.weight"]))[:, None]
    scaled.load_state_dict({**state, "quantize.embedding.weight": state["quantize.embedding.weight"] * length})
    with torch.no_grad():
        assert torch.equal(scaled.encode(want["image"]), model.encode(want["image"]))
        torch.testing.assert_close(scaled.decode(want["codes"]), model.decode(want["codes"]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("codes", [torch.zeros(1, 6), torch.full((1, 4), 48), torch.full((1, 4), -1)])
def test_codes_that_cannot_be_decoded(model, codes):
    with pytest.raises(UsageError, match=r"no square|from 0 to 47"):
        model.decode(codes)


def test_a_checkpoint_returns(model, want, tmp_path):
    model.save_pretrained(tmp_path)
    again = VQ16.from_pretrained(tmp_path)
    assert again.config == model.config
    with torch.no_grad():
        assert torch.equal(again.encode(want["image"]), model.encode(want["image"]))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_the_statistic_of_training_may_be_missing(model, want):
    state = {name: t for name, t in model.state_dict().items() if name != "quantize.codebook_used"}
    again = VQ16(model.config).eval()
    again.load_state_dict(state)
    with torch.no_grad():
        assert torch.equal(again.encode(want["image"]), model.encode(want["image"]))
    plain = VQ16(dataclasses.replace(model.config, codebook_show_usage=False))
    assert "quantize.codebook_used" not in plain.state_dict()
    plain.load_state_dict(state)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"ch": 48}, "ch must be divisible by 32"),
        ({"encoder_ch_mult": [1, 2]}, "of one length"),
        ({"codebook_size": 1}, "codebook_size"),
    ],
)
def test_sizes_that_cannot_be(values, told):
    with pytest.raises(ImagecotError, match=told):
        VQ16Config.from_dict(values)
