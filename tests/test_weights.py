import json
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from imagecot import hub, models
from imagecot.contracts.randomness import path_seeds
from imagecot.errors import ImagecotError, UsageError
from imagecot.generators import load_generator
from imagecot.weights import load_into, load_state_dict, save_checkpoint
from plain_decoder import VQ_CONFIG, tiny_generator

torch.set_num_threads(1)
STATE = {"weight": torch.arange(6.0).view(2, 3), "bias": torch.zeros(2)}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    "name", ["model.safetensors", "pytorch_model.safetensors", "diffusion_pytorch_model.safetensors"]
)
def test_safetensors(tmp_path, name):
    save_file(STATE, tmp_path / name)
    assert equal(load_state_dict(tmp_path), STATE)
    assert equal(load_state_dict(tmp_path / name), STATE)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model.pt"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_torch_files(tmp_path, name, wrapped):
    torch.save({"state_dict": STATE, "step": 3} if wrapped else STATE, tmp_path / name)
    assert equal(load_state_dict(tmp_path), STATE)


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_shards(tmp_path, suffix):
    stem = "model" if suffix == "safetensors" else "pytorch_model"
    files = {name: f"{stem}-{i}-of-2.{suffix}" for i, name in enumerate(STATE)}
    for name, file in files.items():
        (save_file if suffix == "safetensors" else torch.save)({name: STATE[name]}, tmp_path / file)
    index = tmp_path / f"{stem}.{suffix}.index.json"
    index.write_text(json.dumps({"weight_map": files}))
    assert equal(load_state_dict(tmp_path), STATE)
    (tmp_path / files["bias"]).unlink()
    with pytest.raises(ImagecotError, match=r"names 1 shard\(s\) that are not there"):
        load_state_dict(tmp_path)
    index.write_text("[]")
    with pytest.raises(ImagecotError, match="input should be an object"):
        load_state_dict(tmp_path)


def test_types_are_converted(tmp_path):
    save_file({**STATE, "count": torch.tensor([3])}, tmp_path / "model.safetensors")
    state = load_state_dict(tmp_path, dtype=torch.bfloat16)
    assert state["weight"].dtype == torch.bfloat16
    assert state["count"].dtype == torch.int64


def test_missing_files(tmp_path):
    with pytest.raises(ImagecotError, match="does not exist"):
        load_state_dict(tmp_path / "nowhere")
    with pytest.raises(ImagecotError, match=r"holds no weights; expected one of model\.safetensors"):
        load_state_dict(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"<html>404</html>" * 9])
def test_damaged_files(tmp_path, name, damage):
    file = tmp_path / name
    (save_file if name.endswith("safetensors") else torch.save)(STATE, file)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ImagecotError, match="corrupt") as caught:
        load_state_dict(tmp_path)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


class Payload:
    """Would create a file if it were ever unpickled."""

    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return open, (self.target, "w")


@pytest.mark.parametrize("save", [torch.save, lambda value, file: file.write_bytes(pickle.dumps(value, protocol=2))])
def test_code_in_a_torch_file_is_not_run(tmp_path, save):
    save({"weight": Payload(tmp_path / "created")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ImagecotError, match="other than tensors"):
        load_state_dict(tmp_path)
    assert not (tmp_path / "created").exists()


def test_a_torch_file_of_other_values_is_refused(tmp_path):
    torch.save({"weight": [1, 2]}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ImagecotError, match="not a state dict"):
        load_state_dict(tmp_path)


def test_tensors_that_do_not_fit():
    model = nn.Linear(3, 2)
    load_into(model, STATE, "here")
    assert torch.equal(model.weight, STATE["weight"])
    assert model.weight.requires_grad
    with pytest.raises(ImagecotError) as caught:
        load_into(model, {"weight": torch.zeros(3, 2), **{f"extra{i}": torch.zeros(1) for i in range(5)}}, "here")
    assert str(caught.value) == (
        "here does not fit its config.json (Linear): it lacks 1 tensor(s): bias; it has the unknown "
        "5 tensor(s): extra0, extra1, extra2, and 2 more; it has the wrong shape for 1 tensor(s): "
        "weight (3, 2) instead of (2, 3)."
    )
    assert torch.equal(model.weight, STATE["weight"])


def test_saving_leaves_nothing_half_written(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, {"size": 1}, STATE)

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("imagecot.files.os.replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path, {"size": 2}, {"weight": torch.ones(1)})
    assert equal(load_state_dict(tmp_path), STATE)
    assert json.loads((tmp_path / "config.json").read_text()) == {"size": 1}


@pytest.fixture
def checkpoint(tmp_path):
    """A generator's folder beside its image tokenizer's, as they are shipped."""
    generator = tiny_generator()
    values = {**generator.model.config.to_dict(), "vq_model": "vq"}
    save_checkpoint(tmp_path / "small", values, generator.model.state_dict())
    generator.prompting.save_pretrained(tmp_path / "small")
    (tmp_path / "small" / "generation_config.json").write_text('{"steps": 4, "guidance_scale": 0.5}')
    generator.image_tokenizer.save_pretrained(tmp_path / "vq")
    return tmp_path


def test_load_generator_by_name_and_by_folder(checkpoint, monkeypatch):
    monkeypatch.setattr(hub, "CHECKPOINTS", checkpoint)
    assert models.shipped("generator") == ["small"]
    generator = load_generator("small", device="cpu")
    assert (generator.steps, generator.guidance_scale, generator.temperature) == (4, 0.5, 1.0)
    (checkpoint / "vq").rename(checkpoint / "small" / "vq")  # now relative to the folder
    again = load_generator(checkpoint / "small", device="cpu")
    images = []
    for g in (generator, again, tiny_generator(steps=4, guidance_scale=0.5)):
        paths = g.start(["cat"], path_seeds(0, 2))
        while not paths.finished:
            paths = g.advance(paths)
        images.append(g.preview(paths))
    assert torch.equal(images[0], images[1])
    assert torch.equal(images[0], images[2])
    half = load_generator(checkpoint / "small", device="cpu", dtype=torch.bfloat16)
    assert (half.model.dtype, half.image_tokenizer.decoder.conv_in.weight.dtype) == (
        torch.bfloat16,
        torch.float32,
    )
    paths = half.advance(half.start(["cat"], path_seeds(0, 2)))
    assert half.preview(paths).dtype == torch.float32


def test_load_generator_refusals(checkpoint, monkeypatch):
    monkeypatch.setattr(hub, "CHECKPOINTS", checkpoint)
    with pytest.raises(
        UsageError, match=r"no generator 'smal' \(did you mean small\?\); choose one of small, .*module:Class\."
    ):
        load_generator("smal")
    (checkpoint / "empty").mkdir()
    with pytest.raises(ImagecotError, match=r"has no config\.json"):
        load_generator(checkpoint / "empty")
    with pytest.raises(UsageError, match=r"not a Show-o or .* checkpoint"):
        load_generator(checkpoint / "vq")
    (checkpoint / "empty" / "config.json").write_text("{")
    with pytest.raises(ImagecotError, match="not valid JSON"):
        load_generator(checkpoint / "empty")


def test_image_tokenizer_of_another_size(checkpoint, monkeypatch):
    monkeypatch.setattr(hub, "CHECKPOINTS", checkpoint)
    values = {**VQ_CONFIG.to_dict(), "code_bits": 5}
    from imagecot.generators.showo import MagvitV2, MagvitV2Config

    MagvitV2(MagvitV2Config.from_dict(values)).save_pretrained(checkpoint / "vq")
    with pytest.raises(ImagecotError, match=r"32 codes but .* draws with 64"):
        load_generator("small")


def test_an_unreachable_hub_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        ImagecotError, match=r"showlab/show-o is neither a folder .* pass the folder of a copy\."
    ) as caught:
        load_generator("showlab/show-o")
    assert "\n" not in str(caught.value)
