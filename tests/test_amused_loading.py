"""Folders of aMUSEd: what is missing or does not go together is one sentence, and what is written loads again."""

import json
import shutil
import sys
from importlib import util

import pytest
import torch

pytest.importorskip("diffusers", reason="aMUSEd needs the extra imagecot[amused]")

from diffusers import AmusedPipeline, UVit2DModel
from diffusers.utils import logging
from safetensors.torch import load_file, save_file

from imagecot import families, hub, models, registry
from imagecot.alignment.dpo import DpoRecipe, train_dpo
from imagecot.contracts.correction import Correction
from imagecot.contracts.paths import UNDECIDED, states
from imagecot.contracts.scorer import Draws
from imagecot.curation.pairs import write_pairs
from imagecot.curation.schema import PairRow
from imagecot.errors import ImagecotError, UsageError
from imagecot.generators import load_generator
from imagecot.images import png
from masked import logits_of
from small_amused import CODES, write_amused
from small_models import Brightness, write_generator

torch.set_num_threads(1)
APPLE, CATS = "a photo of a red apple", "two cats"
PARTS = ("scheduler", "text_encoder", "tokenizer", "transformer", "vqvae")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write_amused(tmp_path_factory.mktemp("whole") / "amused")


@pytest.fixture
def folder(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "amused")


def changed(file, **values):
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_is_missing_is_said(part, folder):
    shutil.rmtree(folder / part)
    with pytest.raises(ImagecotError, match=rf"has no folder {part}, a part that its model_index.json names; copy"):
        load_generator(folder)
    index = json.loads((folder / "model_index.json").read_text())
    del index[part]
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ImagecotError, match=rf"model_index.json names no part '{part}', which aMUSEd needs; copy"):
        load_generator(folder)


@pytest.mark.parametrize(
    ("file", "values", "told"),
    [
        ("transformer/config.json", {"codebook_size": 16}, "has 32 codes .* draws with 16 .*trained with"),
        ("transformer/config.json", {"downsample": True}, "downsample and upsample go together"),
        ("transformer/config.json", {"downsample": True, "upsample": True, "sample_size": 5}, "sample_size must be ev"),
        ("transformer/config.json", {"sample_size": "4"}, "sample_size: .*integer"),
        (
            "transformer/config.json",
            {"hidden_size": 64},
            "does not fit its config.json .UVit2DModel.: it has the wrong",
        ),
        ("transformer/config.json", {"num_hidden_layers": 3}, "it lacks 1. tensor"),
        ("transformer/config.json", {"num_hidden_layers": 10**9}, "num_hidden_layers: .*less than or equal to 1000"),
        ("transformer/config.json", {"encoder_hidden_size": 8}, "hidden_size is 16, but the transformer .* reads 8"),
        ("transformer/config.json", {"cond_embed_dim": 4}, "projection_dim is 8, but the transformer .* reads 4"),
        (
            "transformer/config.json",
            {"micro_cond_embed_dim": 19},
            "must be 5 times micro_cond_encode_dim, not 19 and 4",
        ),
        ("transformer/config.json", {"vocab_size": 32}, "leaves no room for the mask beside 32 codes"),
        ("transformer/config.json", {"num_attention_heads": 3}, "must divide hidden_size"),
        ("vqvae/config.json", {"num_vq_embeddings": 64}, "has 64 codes .* draws with 32"),
        ("vqvae/config.json", {"act_fn": "nothing"}, "describes no image tokenizer that diffusers can build"),
        ("vqvae/config.json", {"latent_channels": 8}, "does not fit its config.json"),
        ("scheduler/scheduler_config.json", {"mask_token_id": 3}, "mask_token_id is 3, but it must come behind the 32"),
        ("scheduler/scheduler_config.json", {"masking_schedule": "sine"}, "masking_schedule: .*cosine"),
        ("tokenizer/tokenizer_config.json", {"model_max_length": 77}, "model_max_length is 77, but .* reads 40 tokens"),
        ("text_encoder/config.json", {"num_hidden_layers": 4}, "they lack 16 tensor"),
        ("text_encoder/config.json", {"vocab_size": 30}, "misfit 1 tensor"),
        ("generation_config.json", {"guidance_scale": 0.5}, "guidance_scale: .*greater than or equal to 1"),
        ("model_index.json", {"_class_name": "OtherPipeline"}, "is not a Show-o or .*aMUSEd checkpoint"),
    ],
)
def test_parts_that_do_not_go_together_are_one_sentence(file, values, told, folder):
    changed(folder / file, **values)
    with pytest.raises((ImagecotError, UsageError), match=told) as caught:
        load_generator(folder)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_damaged_weights_are_said(folder):
    file = folder / "vqvae/diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(ImagecotError, match="is truncated or corrupt"):
        load_generator(folder)


def test_the_hub_knows_it_and_asks_for_its_library(whole, folder, monkeypatch, imagecot, tmp_path):
    code, out, _ = imagecot("models")
    assert code == 0 and "amused/amused-256" in out and "603.5 M" in out
    assert models.kinds_of_folder(folder) == ("generator",)
    assert models.parameters_of(str(folder)) == sum(p.numel() for p in load_generator(folder).model.parameters())
    assert set(models.weights_of("generator", str(folder))) == {
        *("generator", "scheduler", "text_encoder", "tokenizer", "vqvae", "generation_config")
    }
    before = models.weights_of("generator", str(folder))
    changed(folder / "scheduler/scheduler_config.json", masking_schedule="linear")
    after = models.weights_of("generator", str(folder))
    assert [name for name in before if before[name] != after[name]] == ["scheduler"]
    wanted = {str(file.relative_to(whole)) for file in whole.rglob("*") if file.is_file()}
    from fnmatch import fnmatch

    fetched = {name for name in wanted if any(fnmatch(name, pattern) for pattern in hub.GENERATOR)}
    assert fetched == wanted
    monkeypatch.setattr(families, "find_spec", lambda name: None if name == "diffusers" else util.find_spec(name))
    sentence = "aMUSEd needs diffusers, which is not installed; run pip install 'imagecot[amused]'.\n"
    for name in (str(folder), "amused/amused-256"):
        code, _, err = imagecot("generate", APPLE, "--generator", name, "--search", "single", "--out", "out")
        assert (code, err.removeprefix("error: ")) == (2, sentence)
    assert registry.check("generator", "tiny") == "tiny"


def test_scores_are_what_decoding_draws_from_and_corrections_are_refused(whole):
    generator = load_generator(whole)
    for guidance in (3.0, 1.0):
        drawn = generator.adjusted(guidance_scale=guidance)
        paths = drawn.advance(drawn.start([APPLE, CATS], torch.tensor([1, 2])))
        unknown, codes = paths.codes == UNDECIDED, drawn.predicted(paths)
        expected = logits_of(drawn, paths.codes, paths.prompt_index, paths.shared).log_softmax(1)
        expected = expected.gather(1, codes[unknown][:, None])[:, 0]
        passed = [drawn.start([APPLE, CATS], torch.tensor([1, 2]))]
        passed += states(drawn, passed[0])
        terms = drawn.step_terms(passed, 100)
        assert terms.log_probs.shape == (2, 4 * 16) and (terms.log_probs <= 0).all()
        if guidance == 1:
            found = drawn.masked_log_probs([APPLE, CATS], codes, unknown)
            torch.testing.assert_close(found[unknown], expected, atol=1e-4, rtol=1e-4)
            assert (found[~unknown] == 0).all()
    both = generator.log_likelihood([APPLE, CATS], codes, Draws(torch.tensor([3, 4]), 2))
    alone = generator.log_likelihood([CATS], codes[1:], Draws(torch.tensor([4]), 2))
    torch.testing.assert_close(both[1:], alone, atol=1e-4, rtol=1e-4)
    with pytest.raises(UsageError, match="draws no image again"):
        generator.masked_log_probs([(APPLE, Correction(codes[0], ""))], codes[:1], unknown[:1])


def test_a_search_draws_and_is_told(whole, imagecot, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "judge", type(sys)("judge"))
    sys.modules["judge"].Judge = Brightness
    asked = ("--generator", str(whole), "--verifier", "judge:Judge", "--search", "best-of-n", "-n", "3")
    code, _, err = imagecot("generate", APPLE, *asked, "--out", "out")
    assert (code, err) == (0, ""), err
    assert (tmp_path / "out/image.png").is_file()


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Chosen images have codes below 16, rejected ones the others."""
    place, random = tmp_path_factory.mktemp("data") / "pairs", torch.Generator().manual_seed(0)
    rows = []
    for k in range(16):
        low, high = torch.randint(CODES // 2, (2, 16), generator=random)
        images = [png(picture) for picture in torch.rand(2, 3, 8, 8, generator=random)]
        codes = (low.tolist(), (high + CODES // 2).tolist())
        rows.append(PairRow(str(k), f"{APPLE} {k % 5}", "single_object", "{}", k, k, *images, *codes))
    write_pairs(place, rows, {})
    return place


@pytest.mark.parametrize("lora", [None, {"r": 4, "alpha": 8}])
def test_dpo_learns_and_loads_again(lora, whole, pairs, tmp_path):
    training = {"batch_size": 4, "draws": 2, "held_out": 0.2, "pictures": 0, "steps": 6, "learning_rate": 5e-3}
    recipe = DpoRecipe(output=tmp_path / "out", base=str(whole), data=pairs, training={**training, "lora": lora})
    trained = train_dpo(recipe)
    chosen, rejected = torch.randint(CODES // 2, (2, 4, 16), generator=torch.Generator().manual_seed(1))
    draws = Draws(torch.arange(4), 4)

    def margin(generator) -> float:
        likelihood = [generator.log_likelihood([APPLE] * 4, c, draws) for c in (chosen, rejected + CODES // 2)]
        return float((likelihood[0] - likelihood[1]).mean())

    with torch.no_grad():
        again, before = margin(load_generator(tmp_path / "out")), margin(load_generator(whole))
        assert margin(trained) > before + 1
        assert again == pytest.approx(margin(trained), abs=0.1)
    if lora is None:
        old = dict(load_generator(whole).model.named_parameters())
        assert [name for name, p in trained.model.named_parameters() if torch.equal(p, old[name])] == []
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        AmusedPipeline.from_pretrained(tmp_path / "out", local_files_only=True)
        return
    assert {"generator", "generator_base", "vqvae"} <= set(models.weights_of("generator", str(tmp_path / "out")))


def test_an_adapter_of_another_family_is_refused(whole, pairs, folder, tmp_path):
    other = write_generator(tmp_path / "show-o")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    config = {"peft_type": "LORA", "base_model_name_or_path": str(other), "r": 2, "lora_alpha": 4}
    config["target_modules"] = r".*\.layers\..*\.q_proj"
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    weights = load_file(other / "model.safetensors")
    name = next(name for name in weights if name.endswith("q_proj.weight"))
    lora = f"base_model.model.{name.removesuffix('.weight')}.lora_"
    rows, columns = weights[name].shape
    tensors = {f"{lora}A.weight": torch.ones(2, columns), f"{lora}B.weight": torch.ones(rows, 2)}
    save_file(tensors, adapter / "adapter_model.safetensors")
    changed(adapter / "adapter_config.json", base_model_name_or_path=str(folder))
    with pytest.raises(ImagecotError, match=r"the adapter in .* does not fit its base"):
        load_generator(adapter)


def test_a_released_size_is_described_by_the_defaults():
    from imagecot.generators.amused.config import UVitConfig

    with torch.device("meta"):
        model = UVit2DModel()
    assert UVitConfig() == UVitConfig(**{k: v for k, v in model.config.items() if k in UVitConfig.__annotations__})
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(603.5e6, rel=1e-4)
