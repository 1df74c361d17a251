"""Caches of the hub, folders and prompts that no model can be loaded from or asked about: one sentence each."""

import shutil
from pathlib import Path

import pytest
import torch

from changing import change
from imagecot import hub, load_generator, load_verifier, models, registry
from imagecot.contracts.questions import ORM
from imagecot.contracts.randomness import path_seeds
from imagecot.errors import ImagecotError, UsageError
from imagecot.generators.showo import ShowoGenerator
from plain_decoder import tiny_generator

torch.set_num_threads(1)


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache of the hub, which cannot be reached."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "hub/models--acme--gen"


def snapshot(cache: Path, source: Path, revision: str, main: bool = False) -> Path:
    """A revision in the cache, its files links into `blobs` as the hub's library makes them."""
    folder = cache / "snapshots" / revision
    for file in sorted(source.rglob("*")):
        if file.is_file():
            place = folder / file.relative_to(source)
            blob = cache / "blobs" / f"{revision}-{str(file.relative_to(source)).replace('/', '-')}"
            for parent in (place.parent, blob.parent):
                parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, blob)
            place.symlink_to(blob)
    if main:
        (cache / "refs").mkdir(exist_ok=True)
        (cache / "refs/main").write_text(revision)
    return folder


def test_of_two_revisions_the_loaded_one_is_recorded(cache, small, copied):
    other = copied(small / "generator")
    change(other / "generation_config.json", steps=7)
    main = snapshot(cache, other, "1" * 40, main=True)
    snapshot(cache, small / "generator", "f" * 40)
    assert models.locate("acme/gen") == main
    assert load_generator("acme/gen").steps == 7
    assert models.weights_of("generator", "acme/gen") == models.weights_of("generator", str(other))
    (cache / "refs/main").unlink()  # then neither is meant
    assert models.locate("acme/gen") is None
    (cache / "refs/main").write_text("../../../..")
    assert models.locate("acme/gen") is None


@pytest.mark.parametrize("lacking", ["model.safetensors", "config.json"])
def test_an_incomplete_cache_is_filled(cache, small, monkeypatch, lacking):
    folder = snapshot(cache, small / "generator", "1" * 40, main=True)
    whole = (folder / lacking).resolve()
    whole.rename(whole.with_suffix(".moved"))  # the link is left, as by a download that was broken off
    with pytest.raises(ImagecotError, match=r"acme/gen .* cannot be downloaded|none could be downloaded"):
        load_generator("acme/gen")
    with pytest.raises(ImagecotError, match="acme/gen"):
        models.weights_of("generator", "acme/gen")
    asked = []

    def download(repository: str, allow_patterns: list[str], **options: object) -> str:
        asked.append((repository, tuple(allow_patterns)))
        whole.with_suffix(".moved").rename(whole)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert load_generator("acme/gen").steps == 4
    assert asked == [("acme/gen", hub.GENERATOR)]
    load_generator("acme/gen")
    assert len(asked) == 1


def test_a_verifier_of_the_hub_without_its_tokenizer_is_incomplete(cache, small):
    folder = snapshot(cache, small / "verifier", "1" * 40, main=True)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ImagecotError, match=r"acme/gen has no tokenizer|lacks tokenizer"):
        load_verifier("acme/gen")


def test_a_folder_that_is_no_checkpoint_hides_none(cache, small, tmp_path):
    (tmp_path / "tiny").mkdir()
    assert models.locate("tiny") == hub.CHECKPOINTS / "tiny" == registry.folder_of("generator", "tiny")
    (tmp_path / "acme/gen").mkdir(parents=True)
    assert models.locate("acme/gen") == Path("acme/gen")
    with pytest.raises(ImagecotError, match=r"has no config\.json"):
        load_generator("acme/gen")
    main = snapshot(cache, small / "generator", "1" * 40, main=True)
    assert models.locate("acme/gen") == main == registry.folder_of("generator", "acme/gen")
    shutil.rmtree(tmp_path / "tiny")
    shutil.copytree(small / "generator", tmp_path / "tiny")  # a checkpoint does, for the shipped adapters alone not
    assert models.locate("tiny") == Path("tiny") == registry.folder_of("generator", "tiny")
    assert load_generator("tiny-dpo").model.config.hidden_size == 256


def test_models_with_damaged_and_foreign_folders(cache, small, tmp_path, imagecot):
    hubs = cache.parent
    for name, content in (("show-o", b"\xff" * 9), ("show-o-512x512", b"\x05" + b"\0" * 7 + b"[1,2]")):
        folder = snapshot(hubs / f"models--showlab--{name}", small / "generator", "1" * 40, main=True)
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors").write_bytes(content)
        (folder / "config.json").unlink()
        (folder / "config.json").write_bytes(content)
    snapshot(hubs / "models--showlab--magvitv2", small / "verifier", "2" * 40, main=True)
    (hubs / "models--lmms-lab--llava-onevision-qwen2-7b-ov").write_text("no folder")
    code, out, err = imagecot("models")
    assert (code, err) == (0, "")
    assert all(name in out for name in models.HUB_MODELS)


@pytest.mark.parametrize("prompt", ["a cat <image>", "a <|im_end|> cat", "word " * 2000])
def test_prompts_that_a_verifier_cannot_read(small, prompt):
    verifier = load_verifier(small / "verifier")
    verifier.model.config.text_config.max_position_embeddings = 1024
    verifier.check_prompt("a photo of a red apple")
    for refused in (verifier.check_prompt, lambda p: verifier.ask(torch.rand(1, 3, 28, 28), [p], ORM)):
        with pytest.raises(UsageError):
            refused(prompt)


def test_prompts_that_a_generator_cannot_read():
    generator: ShowoGenerator = tiny_generator()
    generator.check_prompt("a photo of a cat")
    with pytest.raises(UsageError, match="tokens but this generator reads at most 30; shorten it"):
        generator.check_prompt("cat " * 40)
    with pytest.raises(UsageError, match="shorten it"):
        generator.start(["cat " * 40], path_seeds(0, 1))
