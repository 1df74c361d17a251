import gzip
import json

import pytest
import torch

import recorded as recordings
from imagecot.errors import ImagecotError
from imagecot.generators.showo import MagvitV2, MagvitV2Config
from plain_decoder import DATA, VQ_CONFIG, tiny_magvitv2

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def model():
    return tiny_magvitv2()


@pytest.fixture(scope="module")
def want():
    return recordings.read("magvitv2/recorded")


def test_published_names_and_shapes():
    with torch.device("meta"):
        model = MagvitV2(MagvitV2Config())
    expected = json.loads(gzip.decompress((DATA / "magvitv2" / "keys.json.gz").read_bytes()))
    assert {name: list(t.shape) for name, t in model.state_dict().items()} == expected
    assert len(expected) == 382
    assert model.config.codebook_size == 8192
    assert model.config.num_codes == 256


def test_the_weights_are_those_of_the_recording(model, want):
    drawn = sorted(model.named_parameters(), key=lambda named: "post_quant_conv" in named[0])
    torch.testing.assert_close(recordings.sums(dict(drawn)), want["sums"], atol=1e-4, rtol=1e-6)


def test_the_quantizer_buffers_are_recomputed_as_published(want):
    fresh = MagvitV2(VQ_CONFIG)
    assert torch.equal(fresh.quantize.embedding, want["weights.quantize.embedding"])
    assert torch.equal(fresh.quantize.power_vals, want["weights.quantize.power_vals"])


@torch.no_grad()
@pytest.mark.parametrize("suffix", ["", "_nonsquare"])
def test_encode(model, want, suffix):
    image = want[f"image{suffix}"]
    torch.testing.assert_close(model.encode(image), want[f"encoder_output_z{suffix}"], rtol=0, atol=1e-5)
    assert torch.equal(model.codes(image / 2 + 0.5), want[f"codes{suffix}"])


@torch.no_grad()
def test_quantize(model, want):
    quantized, indices = model.quantize(want["encoder_output_z"])
    assert torch.equal(quantized, want["quantized_z"])
    assert torch.equal(indices[:, None], want["quantize_indices_bchw"])
    assert torch.equal(model.quantize.entries(want["all_codes"].view(4, 4, 4)), want["codebook_entry_of_all_codes"])


def test_bits_by_hand():
    quantize = MagvitV2(VQ_CONFIG).quantize
    z = torch.tensor([0.0, 1e-30, -1e-30, 3e7, 1e8, -1e8]).view(1, 6, 1, 1).requires_grad_()
    signs, index = quantize(z)
    assert signs.flatten().tolist() == [-1, 1, -1, 1, 1, -1]  # 0 counts as negative
    assert index.item() == 0b010110
    signs.sum().backward()
    assert torch.equal(z.grad, torch.ones_like(z))  # the gradient passes straight through


@torch.no_grad()
def test_decode(model, want):
    signs = model.quantize.entries(want["codes"].view(-1, 4, 4))
    torch.testing.assert_close(model.decode(signs), want["decode_of_codes"], rtol=0, atol=1e-5)
    pixels = (model.decode_codes(want["codes"]) * 255).to(torch.uint8).permute(0, 2, 3, 1).int()
    assert (pixels - want["decode_uint8_hwc"].int()).abs().max() <= 1
    nonsquare = model.decode_codes(want["codes_nonsquare"], (4, 6))
    expected = (want["decode_nonsquare_shape_4x6"] / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(nonsquare, expected, rtol=0, atol=1e-5)


def test_every_code_decodes(model, want):
    with torch.no_grad():
        images = model.decode(model.quantize.entries(want["all_codes"].view(-1, 4, 4)))
    torch.testing.assert_close(images, want["decode_of_all_codes"], rtol=0, atol=2e-5)


def test_patches_coarsen_the_grid_and_a_checkpoint_returns(tmp_path):
    config = MagvitV2Config(
        channels=32,
        encoder_mult=(1, 2),
        decoder_mult=(1, 2),
        encoder_blocks=(1, 1),
        decoder_blocks=(1, 1),
        code_bits=10,
        image_size=64,
        patch_size=4,
    )
    model = MagvitV2(config).eval()
    images = torch.rand(2, 3, 64, 64)
    reconstructed, z = model(images * 2 - 1)
    assert reconstructed.shape == images.shape
    assert z.shape == (2, 10, 8, 8)
    assert model.encoder.conv_in.weight.shape[1] == model.decoder.conv_out.weight.shape[0] == 48
    assert config.num_codes == 64
    reconstructed.square().mean().backward()
    assert model.encoder.conv_in.weight.grad.abs().sum() > 0
    model.save_pretrained(tmp_path)
    again = MagvitV2.from_pretrained(tmp_path)
    assert again.config == config
    assert torch.equal(again.codes(images), model.codes(images))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_another_architecture_is_refused(model, tmp_path):
    model.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"_class_name": "MAGVITv2"}')  # the published sizes
    with pytest.raises(ImagecotError, match=r"does not fit .*MagvitV2.* lacks \d+ tensor\(s\)"):
        MagvitV2.from_pretrained(tmp_path)


def test_with_gradients_and_without_the_images_are_the_same(model):
    codes = torch.randint(0, model.config.codebook_size, (2, 16), generator=torch.Generator().manual_seed(0))
    entries = model.quantize.entries(codes.view(2, 4, 4))
    before = entries.clone()
    with torch.no_grad():
        plain = model.decoder(entries)
    learned = model.decoder(entries.clone().requires_grad_())
    assert learned.requires_grad and torch.equal(plain, learned) and torch.equal(entries, before)
    learned.sum().backward()
