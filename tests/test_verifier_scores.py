"""Scores of CLIP and SigLIP as verifiers: transformers' own logits, and what a score cannot answer."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPModel, PreTrainedTokenizerFast, SiglipConfig, SiglipModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from imagecot import registry, search
from imagecot.checks import check_verifier
from imagecot.checks.toys import ToyGenerator, ToyVerifier
from imagecot.contracts.questions import CLARITY, ORM, POTENTIAL, PRM, REFLECTION, Question
from imagecot.contracts.reflection import Reflector
from imagecot.contracts.verifier import Conversation, Usage
from imagecot.errors import ImagecotError, UsageError
from imagecot.images import to_pictures
from imagecot.verifiers import scores
from imagecot.verifiers.combined import ensemble
from imagecot.verifiers.scores import Parts, Score
from small_models import write_verifier
from test_geneval_clip_colors import small_clip_model, small_tokenizer

IMAGES = torch.rand(5, 3, 40, 56, generator=torch.Generator().manual_seed(0))
PROMPTS = ["a cat", "a photo of four red apples and a chair", "two dogs", "a cat", "a clock"]
TOKENIZER = Path(__file__).parent / "data" / "llava" / "tokenizer.json"


def write_clip(folder: Path, seed: int = 0) -> Path:
    """Write a small random CLIP with its tokenizer and its image processor, as the hub holds them."""
    small_clip_model(seed).save_pretrained(folder)
    small_tokenizer().save_pretrained(folder)
    CLIPImageProcessorPil().save_pretrained(folder)
    return folder


def write_siglip(folder: Path) -> Path:
    """Write a small random SigLIP of 28 pixels and texts of 48 tokens."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(TOKENIZER), pad_token="<|endoftext|>", eos_token="<|endoftext|>"
    )
    torch.manual_seed(0)
    layers = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**layers, "vocab_size": len(tokenizer), "max_position_embeddings": 48}
    model = SiglipModel(SiglipConfig(text_config=text, vision_config={**layers, "image_size": 28, "patch_size": 14}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    SiglipImageProcessorPil(size={"height": 28, "width": 28}).save_pretrained(folder)
    return folder


WRITE = {"clip": write_clip, "siglip": write_siglip}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: write(tmp_path_factory.mktemp(kind)) for kind, write in WRITE.items()}


@pytest.fixture(params=[*WRITE])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def score(kind: str, folders: dict[str, Path]) -> Score:
    found = registry.load("verifier", f"clip:{folders[kind]}", device="cpu")
    assert isinstance(found, Score)
    return found


@torch.no_grad()
def by_transformers(kind: str, folder: Path, images: Tensor, prompts: list[str]) -> Tensor:
    """The logits (B,) of image k and prompt k, one pair at a time."""
    model = {"clip": CLIPModel, "siglip": SiglipModel}[kind].from_pretrained(folder).eval()
    prepares = {"clip": CLIPImageProcessorPil, "siglip": SiglipImageProcessorPil}[kind].from_pretrained(folder)
    found = []
    for picture, prompt in zip(to_pictures(images), prompts, strict=True):
        if kind == "clip":
            texts = dict(small_tokenizer()(prompt, return_tensors="pt"))
        else:
            tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
            texts = {"input_ids": tokenizer(prompt, padding="max_length", max_length=48, return_tensors="pt").input_ids}
        pixels = prepares(images=picture, return_tensors="pt")["pixel_values"]
        found.append(model(**texts, pixel_values=pixels).logits_per_image[0, 0])
    return torch.stack(found)


# What it says.


def test_scores_are_the_logits_of_transformers(score: Score, kind: str, folders: dict[str, Path]) -> None:
    expected = by_transformers(kind, folders[kind], IMAGES, PROMPTS)
    assert expected.std() > 0.01
    torch.testing.assert_close(score.logits(IMAGES, PROMPTS), expected, atol=1e-4, rtol=1e-4)
    p_yes = score.ask(IMAGES, PROMPTS, ORM)
    torch.testing.assert_close(p_yes, torch.sigmoid(expected.double() - score.middle), atol=1e-4, rtol=1e-3)
    assert torch.equal(score.ask(IMAGES, PROMPTS, PRM), p_yes)
    one = score.ask(IMAGES, ["a cat"], ORM)
    assert one.argsort().tolist() == score.logits(IMAGES, ["a cat"]).argsort().tolist()


def test_middles(folders: dict[str, Path], kind: str) -> None:
    usual = registry.load("verifier", f"clip:{folders[kind]}", device="cpu")
    scale = float(usual.model.logit_scale.detach().exp())
    assert usual.settings == {
        "precision": "float32",
        "middle": pytest.approx(scale / 4 if kind == "clip" else 0.0, rel=1e-5),
    }
    for text, middle in (("@21", 21.0), ("@-1.5", -1.5), ("@0", 0.0)):
        other = registry.load("verifier", f"clip:{folders[kind]}{text}", device="cpu")
        assert other.settings["middle"] == middle
        odds = [p / (1 - p) for p in (found.ask(IMAGES, ["a cat"], ORM) for found in (usual, other))]
        # Another middle multiplies all odds alike, so the order and the ratio of odds stay.
        torch.testing.assert_close(odds[0] / odds[0][0], odds[1] / odds[1][0])


def test_answers_are_the_same_in_any_batch(score: Score, monkeypatch: pytest.MonkeyPatch) -> None:
    together = score.logits(IMAGES, PROMPTS)
    alone = torch.cat([score.logits(IMAGES[k : k + 1], PROMPTS[k : k + 1]) for k in range(5)])
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-5)
    score._texts.clear()
    monkeypatch.setattr(scores, "_ROWS", 2)
    torch.testing.assert_close(score.logits(IMAGES, PROMPTS), together, atol=1e-5, rtol=1e-5)
    assert score.logits(IMAGES[:0], ["a cat"]).shape == (0,)


def test_a_prompt_is_encoded_once(score: Score, monkeypatch: pytest.MonkeyPatch) -> None:
    found = score.logits(IMAGES, PROMPTS)
    before = score.usage
    monkeypatch.setattr(score.model, "get_text_features", lambda **tokens: pytest.fail("encoded again"))
    torch.testing.assert_close(score.logits(IMAGES.flip(0), [*reversed(PROMPTS)]).flip(0), found)
    assert score.usage - before == before  # and costs what it cost before, so that a resumed run counts alike
    assert before.judge_calls == 5
    words = sum(len(score.tokenizer(prompt).input_ids) for prompt in PROMPTS)
    vision = score.model.config.vision_config
    assert before.tokens_judged == words + 5 * (vision.image_size // vision.patch_size) ** 2


def test_few_prompts_are_kept(score: Score, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "_MOST_TEXTS", 2)
    whole = score.logits(IMAGES, PROMPTS)
    assert torch.equal(score.logits(IMAGES, PROMPTS), whole)
    score.logits(IMAGES[:1], ["a bird"])
    assert [*score._texts] == ["a bird"]


@pytest.mark.parametrize("dtype", ["bfloat16", "int8", torch.float16])
def test_other_number_formats(dtype: str | torch.dtype, kind: str, folders: dict[str, Path]) -> None:
    whole = registry.load("verifier", f"clip:{folders[kind]}", device="cpu").logits(IMAGES, PROMPTS)
    found = registry.load("verifier", f"clip:{folders[kind]}", device="cpu", dtype=dtype)
    assert found.settings["precision"] == str(dtype).removeprefix("torch.")
    logits = found.logits(IMAGES, PROMPTS)
    assert logits.dtype == torch.float32
    assert 0 < (logits - whole).abs().max() < 0.15 * float(found.model.logit_scale.detach().float().exp())


def test_the_product_is_float32(score: Score) -> None:
    half = Parts(score.model.to(torch.bfloat16), score.tokenizer, score.processor)
    logits = Score(half).logits(
        IMAGES.repeat(20, 1, 1, 1) * torch.linspace(0.5, 1, 100)[:, None, None, None], ["a cat"]
    )
    assert (logits.bfloat16().float() != logits).float().mean() > 0.5


# What it cannot say.


@pytest.mark.parametrize("question", [CLARITY, POTENTIAL, REFLECTION, Question("mine", "{prompt}?")])
def test_other_questions_are_refused(question: Question, score: Score) -> None:
    for ask in (score.ask, score.begin):
        with pytest.raises(UsageError, match=rf"cannot answer the {question.name} question; name a verifier"):
            ask(IMAGES, PROMPTS, question)
    assert score.usage == Usage()
    assert not isinstance(score, Reflector)


def test_nothing_follows_a_score(score: Score) -> None:
    answers, turn = score.begin(IMAGES, PROMPTS, ORM)
    assert torch.equal(answers, score.ask(IMAGES, PROMPTS, ORM))
    with pytest.raises(UsageError, match="orm is no follow-up of orm"):
        score.ask(IMAGES, PROMPTS, ORM, turn)
    with pytest.raises(UsageError, match="cannot answer the potential question"):
        score.ask(IMAGES, PROMPTS, POTENTIAL, Conversation(CLARITY))
    with pytest.raises(UsageError, match="takes images"):
        score.ask(IMAGES[0], PROMPTS, ORM)


def test_prompts_that_are_too_long_are_refused(score: Score, kind: str) -> None:
    most = {"clip": 77, "siglip": 48}[kind]
    long = "a cat " * most
    for ask in (lambda: score.check_prompt(long), lambda: score.ask(IMAGES, [long], ORM)):
        with pytest.raises(UsageError, match=rf"the prompt has \d+ tokens, and clip:.* reads {most} at most; shorten"):
            ask()
    longest = next("a " * n for n in range(most, 0, -1) if len(score.tokenizer("a " * n).input_ids) <= most)
    assert bool(score.ask(IMAGES, [longest.strip()], ORM).isfinite().all())


@pytest.mark.parametrize("strategy", ["parm", "parm++"])
def test_parm_refuses_a_score_before_anything_is_drawn(strategy: str, score: Score) -> None:
    generator = ToyGenerator()
    for verifier in (score, ensemble("mean", [ToyVerifier(), score])):
        with pytest.raises(UsageError, match="cannot answer the clarity question"):
            search("a cat", generator=generator, verifier=verifier, strategy=strategy, n=2)
    assert generator.rows == 0


@pytest.mark.parametrize("strategy", ["best-of-n", "stepwise"])
def test_searches_choose_by_the_score(strategy: str, score: Score) -> None:
    trace = search("a cat", generator=ToyGenerator(), verifier=score, strategy=strategy, n=4)
    finished = [one.score for one in trace.candidates if one.score is not None]
    assert trace.candidates[trace.chosen].score == max(finished) > min(finished)
    mixed = ensemble("mean", [ToyVerifier(), score])
    assert search("a cat", generator=ToyGenerator(), verifier=mixed, strategy=strategy, n=4).choice.score > 0


def test_scores_keep_the_contract(score: Score) -> None:
    for verifier in (score, ensemble("min", [score, ToyVerifier()])):
        found = check_verifier(verifier)
        assert [one for one in found if one.state != "kept"] == []
        assert "what is refused is not answered" in [one.rule for one in found]


# Names and folders.


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("clip:", "names no model; write clip:MODEL"),
        ("clip:@3", "names no model"),
        ("clip:nothing", "there is no model 'nothing'; give a folder or hub id"),
        ("clip:Model", "there is no model 'Model'"),
        ("clip:tiny-orm", "neither a CLIP nor a SigLIP"),
        ("clip:nothing@1e9", "there is no model 'nothing@1e9'"),
        ("clip:nothing@99999", "the middle must be from -1000 to 1000, not 99999"),
        ("min(tiny-orm,clip:nothing)", "there is no model 'nothing'"),
    ],
)
def test_names_that_are_none(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as error:
        registry.check("verifier", text)
    assert str(error.value).startswith(text[:4])


def test_hub_ids_are_taken_as_they_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for text in ("clip:openai/clip-vit-large-patch14", "min(tiny-orm,clip:yuvalkirstain/PickScore_v1@21)"):
        assert registry.check("verifier", text) == text
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ImagecotError, match="neither a folder here nor whole in the Hugging Face cache"):
        registry.load("verifier", "clip:someone/clip")


def test_digests_tell_weights_and_preparation_apart(kind: str, tmp_path: Path) -> None:
    text = f"clip:{WRITE[kind](tmp_path)}"
    before = registry.digests("verifier", text)
    assert [*before] == ["verifier_clip", "verifier_clip_settings"]
    settings = json.loads((tmp_path / "preprocessor_config.json").read_text())
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings | {"image_mean": [0.1, 0.2, 0.3]}))
    after = registry.digests("verifier", text)
    assert before["verifier_clip"] == after["verifier_clip"]
    assert before["verifier_clip_settings"] != after["verifier_clip_settings"]
    assert registry.digests("verifier", f"min({text},tiny-orm)")["verifier_part1_verifier_clip"]


def drop(folder: Path, name: str) -> None:
    (folder / name).unlink()


def write_config(folder: Path, part: str, **values: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    config[part].update(values)
    (folder / "config.json").write_text(json.dumps(config))


def spoil(folder: Path, change) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


DAMAGE = {
    "no preprocessor": (lambda f: drop(f, "preprocessor_config.json"), "has no preprocessor_config.json"),
    "cut preprocessor": (lambda f: (f / "preprocessor_config.json").write_text("{"), "preprocessor_config.json cannot"),
    "other size": (
        lambda f: CLIPImageProcessorPil(crop_size=112).save_pretrained(f),
        "cannot score an image .*files belong together",
    ),
    "no weights": (lambda f: drop(f, "model.safetensors"), "holds no weights"),
    "cut weights": (lambda f: (f / "model.safetensors").write_bytes(b"cut"), "the weights in .* cannot be read"),
    "a tensor less": (lambda f: spoil(f, lambda w: w.pop("logit_scale")), "1 tensor.s. are missing .*logit_scale"),
    "not a number": (
        lambda f: spoil(f, lambda w: w["visual_projection.weight"].fill_(float("nan"))),
        "visual_projection.weight",
    ),
    "cut config": (lambda f: (f / "config.json").write_text("{"), "config.json"),
    "another shape": (lambda f: write_config(f, "text_config", hidden_size=32), "do not fit"),
    "no tokenizer": (lambda f: drop(f, "tokenizer.json"), "has no tokenizer, such as tokenizer.json"),
}


@pytest.mark.parametrize("what", [*DAMAGE])
def test_damaged_folders(what: str, tmp_path: Path) -> None:
    change, said = DAMAGE[what]
    write_clip(tmp_path)
    change(tmp_path)
    with pytest.raises(ImagecotError, match=said) as error:
        registry.load("verifier", f"clip:{tmp_path}", device="cpu")
    assert "\n" not in str(error.value)


def test_a_tokenizer_without_end_marks_is_refused(folders: dict[str, Path]) -> None:
    score = registry.load("verifier", f"clip:{folders['clip']}", device="cpu")
    score.tokenizer.backend_tokenizer.post_processor = None
    with pytest.raises(ImagecotError, match="does not mark the end of texts"):
        score.logits(IMAGES, ["a bird"])


def test_a_folder_of_another_kind(tmp_path: Path) -> None:
    write_verifier(tmp_path)
    with pytest.raises(UsageError, match="neither a CLIP nor a SigLIP"):
        registry.load("verifier", f"clip:{tmp_path}")


def test_generate_by_a_score_and_with_it_in_an_ensemble(imagecot, tmp_path: Path) -> None:
    write_clip(tmp_path / "scores@2")
    for verifier in ("clip:scores@2@3.5", 'min("clip:scores@2@3.5",tiny-orm)'):
        command = ["generate", "a photo of a red apple", "--verifier", verifier, "-n", "2", "--out", verifier[:4]]
        code, out, err = imagecot(*command, "--search", "best-of-n")
        assert (code, err) == (0, "")
        assert f"{2 * (1 + verifier.startswith('min'))} judge calls" in out
    code, out, err = imagecot("generate", "a photo of a red apple", "--verifier", "clip:scores@2@3.5", "-n", "2")
    assert (code, out) == (2, "")
    assert "cannot answer the clarity question" in err
