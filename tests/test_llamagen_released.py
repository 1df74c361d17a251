"""Released and trained files of LlamaGen, in all their wrappings; and folders of which something is wrong."""

import argparse
import json
import pathlib
import shutil

import pytest
import torch

from imagecot import registry
from imagecot.contracts.paths import finish
from imagecot.contracts.randomness import path_seeds
from imagecot.errors import ImagecotError, UsageError
from imagecot.generators.llamagen import VQ16, LlamaGen, convert
from imagecot.watch import Watch
from small_models import write_llamagen

torch.set_num_threads(1)
PROMPT = ["a photo of a red apple"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_llamagen(tmp_path_factory.mktemp("llamagen"))


@pytest.fixture(scope="module")
def state(folder):
    return LlamaGen.from_pretrained(folder).state_dict()


@pytest.fixture(scope="module")
def codes(folder):
    return drawn(folder)


@pytest.fixture
def released(folder, tmp_path):
    """A folder of the same model whose weights are still to be written, as a torch file."""
    copied = tmp_path / "released"
    shutil.copytree(folder, copied)
    (copied / "model.safetensors").unlink()
    return copied


def drawn(folder):
    generator = registry.load("generator", folder)
    return finish(generator, generator.start(PROMPT, path_seeds(0, 2))).codes


def configured(folder, part=".", **values):
    file = folder / part / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


WRAPPINGS = {
    "bare": lambda state: state,
    "model": lambda state: {"model": state, "optimizer": {"step": 3, "state": [1.5]}, "steps": 10},
    "args": lambda state: {"module": state, "args": argparse.Namespace(image_size=24, downsample_size=8, lr=1e-4)},
    "state_dict": lambda state: {"state_dict": state},
    "ema": lambda state: {"ema": state},
    "ddp": lambda state: {"model": {f"module.{name}": t for name, t in state.items()}},
    "compiled": lambda state: {"model": {f"_orig_mod.module.{name}": t for name, t in state.items()}},
    "drew": lambda state: {
        "model": state
        | {f"layers.{k}.attention.kv_cache.{n}_cache": torch.zeros(2, 4, 8, 8) for k in "01" for n in "kv"}
    },
}


@pytest.mark.parametrize("name", WRAPPINGS)
def test_every_wrapping_loads_whole(released, state, name):
    torch.save(WRAPPINGS[name](state), released / "t2i_XL_stage1_256.pt")
    found = LlamaGen.from_pretrained(released)
    assert all(torch.equal(t, state[key]) for key, t in found.state_dict().items())


def test_a_folder_of_released_files_draws(released, folder, state, codes):
    torch.save({"model": state}, released / "t2i_XL_stage1_256.pt")
    tokenizer = VQ16.from_pretrained(folder / "vq_model").state_dict()
    (released / "vq_model" / "model.safetensors").unlink()
    del tokenizer["quantize.codebook_used"]
    torch.save({"model": tokenizer}, released / "vq_model" / "vq_ds16_t2i.pt")
    assert torch.equal(drawn(released), codes)
    digests = [registry.digests("generator", str(one)) for one in (released, folder)]
    assert all(digests[0][part] != digests[1][part] for part in ("generator", "image_tokenizer"))
    assert digests[0]["text_encoder"] == digests[1]["text_encoder"]


def test_two_files_are_converted_and_what_is_left_out_is_told(folder, state, codes, tmp_path):
    tokenizer = VQ16.from_pretrained(folder / "vq_model").state_dict()
    files = tmp_path / "t2i.pt", tmp_path / "vq.pt"
    torch.save(WRAPPINGS["args"](WRAPPINGS["ddp"](state)["model"]), files[0])
    torch.save({"ema": tokenizer, "model": tokenizer, "steps": 3}, files[1])
    sizes = {"n_head": 4, "multiple_of": 16, "text_encoder": str(folder / "text_encoder")}
    told = []
    convert(*files, tmp_path / "new", sizes=sizes, watch=Watch(tell=told.append))
    assert told == [
        "t2i.pt: the weights are those under 'module'; left out are args.",
        "t2i.pt: all names began with 'module.', which was taken off.",
        "vq.pt: the weights are those under 'model'; left out are ema, steps.",
    ]
    generator = registry.load("generator", tmp_path / "new")
    assert (generator.guidance_scale, generator.top_k) == (7.5, 1000)
    generator = generator.adjusted(guidance_scale=2, top_k=40)
    assert torch.equal(finish(generator, generator.start(PROMPT, path_seeds(0, 2))).codes, codes)
    with pytest.raises(ImagecotError, match=r"t2i.pt: images are to have 16 codes .* images of 9"):
        convert(*files, tmp_path / "other", image_size=16, sizes=sizes)
    torch.save(state, files[0])
    with pytest.raises(UsageError, match=r"does not show how large its images are; give image_size"):
        convert(*files, tmp_path / "other", sizes=sizes)
    with pytest.raises(UsageError, match=r"vq.pt has no tensor cls_embedding.uncond_embedding"):
        convert(files[1], files[1], tmp_path / "other", image_size=12, sizes=sizes)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda s: s.pop("cls_embedding.uncond_embedding"), "lacks 1 tensor.*uncond_embedding"),
        (lambda s: s.update({"layers.0.extra": torch.zeros(1)}), "has the unknown 1 tensor.*layers.0.extra"),
        (lambda s: s.update({"norm.weight": torch.zeros(3)}), r"wrong shape for 1 tensor.*norm.weight \(3,\)"),
        (lambda s: s.update({"norm.weight": torch.full((32,), torch.nan)}), "not finite.*norm.weight"),
        (lambda s: s.update({"cls_embedding.embedding_table.weight": torch.zeros(1001, 32)}), "class-conditional"),
        (lambda s: s.update({"module.norm.weight": s.pop("norm.weight")}), "lacks 1 tensor.*norm.weight"),
        (lambda s: s.update({"note": "hello"}), "not a state dict of named tensors"),
    ],
)
def test_files_that_do_not_fit(released, state, change, told):
    changed = dict(state)
    change(changed)
    torch.save({"model": changed}, released / "model.pt")
    with pytest.raises(ImagecotError, match=told) as raised:
        LlamaGen.from_pretrained(released)
    assert "\n" not in str(raised.value)


def test_files_that_cannot_be_read(released, state):
    file = released / "model.pt"
    torch.save({"model": state, "args": pathlib.PurePosixPath("/")}, file)
    with pytest.raises(ImagecotError, match="holds something other than tensors, or is corrupt"):
        LlamaGen.from_pretrained(released)
    torch.save(state, file)
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(ImagecotError, match=r"model.pt"):
        LlamaGen.from_pretrained(released)


def test_another_image_size_is_noticed_where_a_file_shows_it(released, state):
    torch.save({"model": state, "args": argparse.Namespace(image_size=512, downsample_size=16)}, released / "model.pt")
    with pytest.raises(ImagecotError, match=r"config.json: images are to have 9 codes .* images of 1024"):
        LlamaGen.from_pretrained(released)
    cache = {"layers.0.attention.kv_cache.k_cache": torch.zeros(2, 4, 352, 8)}  # 96 rows of text
    torch.save({"model": state | cache}, released / "model.pt")
    with pytest.raises(ImagecotError, match=r"images are to have 9 codes .* images of 256"):
        LlamaGen.from_pretrained(released)


def test_a_class_conditional_model_reads_no_text(folder, tmp_path, imagecot):
    other = tmp_path / "c2i"
    shutil.copytree(folder, other)
    (other / "model.safetensors").unlink()
    state = {"cls_embedding.embedding_table.weight": torch.zeros(1001, 32)}
    torch.save({"model": state}, other / "c2i_XL_384.pt")
    code, _, err = imagecot("generate", "an apple", "--generator", str(other), "--search", "single")
    assert code == 1
    assert "c2i_XL_384.pt cannot be loaded: it is a class-conditional LlamaGen, which reads no text" in err


@pytest.mark.parametrize(
    ("part", "values", "told"),
    [
        (".", {"text_encoder": "nowhere"}, r"there is no text encoder 'nowhere' \(text_encoder\)"),
        (".", {"vq_model": "nowhere"}, r"there is no image tokenizer 'nowhere' \(vq_model\)"),
        (".", {"text_encoder": "vq_model"}, "is of no T5 whose features have 16 numbers"),
        (".", {"model_type": "llamagen", "block_size": 10}, "block_size must be a square, not 10"),
        ("text_encoder", {"d_model": 24}, "is of no T5 whose features have 16 numbers"),
        ("text_encoder", {"num_layers": 3}, "lack .* tensor"),
        ("text_encoder", {"relative_attention_max_distance": 0}, "text_encoder cannot read text"),
        ("vq_model", {"codebook_size": 64}, r"wrong shape for 1 tensor.*quantize.embedding.weight \(48"),
    ],
)
def test_folders_of_which_something_is_wrong(folder, tmp_path, part, values, told):
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    configured(other, part, **values)
    with pytest.raises(ImagecotError, match=told) as raised:
        registry.load("generator", other)
    assert "\n" not in str(raised.value)


def test_an_image_tokenizer_of_other_codes(folder, tmp_path):
    other = write_llamagen(tmp_path / "other", vocab_size=40)
    shutil.rmtree(other / "vq_model")
    shutil.copytree(folder / "vq_model", other / "vq_model")
    with pytest.raises(ImagecotError, match=r"has 48 codes but .* draws with 40; set vq_model"):
        registry.load("generator", other)
    (other / "generation_config.json").write_text('{"top_k": -1}')
    shutil.rmtree(other / "vq_model")
    with pytest.raises(ImagecotError, match="there is no image tokenizer 'vq_model'"):
        registry.load("generator", other)


def test_a_text_encoder_without_its_tokenizer(folder, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    for file in (other / "text_encoder").glob("token*"):
        file.unlink()
    with pytest.raises(ImagecotError, match=r"text_encoder holds no tokenizer \(tokenizer.json or spiece.model\)"):
        registry.load("generator", other)
