"""The verifier against recorded numbers of the reference implementation, and against itself."""

import json
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2Config,
    SiglipVisionConfig,
)

import recorded as recordings
from imagecot.contracts.questions import CLARITY, ORM, POTENTIAL, PRM
from imagecot.errors import ImagecotError, UsageError
from imagecot.verifiers import load_verifier
from imagecot.verifiers.chat import RELEASED_CLARITY, RELEASED_POTENTIAL, conversation
from imagecot.verifiers.llava_onevision import LlavaOnevisionVerifier
from imagecot.verifiers.vision import encode, prepare
from imagecot.weights import save_checkpoint

DATA = Path(__file__).parent / "data" / "llava"
RECORDED = json.loads((DATA / "recorded.json").read_text())
ASKED = {"orm": ORM, "clarity": RELEASED_CLARITY, "potential": RELEASED_POTENTIAL}
PROMPT = RECORDED["prompt"]


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    return recordings.llava()


@pytest.fixture(scope="module")
def folder(tensors: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recorded weights as a checkpoint in the layout of the hub."""
    path = tmp_path_factory.mktemp("llava")
    vision = {k: v for k, v in RECORDED["vision_config"].items() if k != "num_hidden_layers_used"}
    vision["num_hidden_layers"] = RECORDED["vision_config"]["num_hidden_layers_used"]
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(vision_use_head=False, **vision),
        text_config=Qwen2Config(**RECORDED["text_config"]),
        image_token_index=447,
        video_token_index=446,
    )
    weights = {k.removeprefix("weights."): v for k, v in tensors.items() if k.startswith("weights.")}
    save_checkpoint(path, config.to_dict(), weights)
    (path / "tokenizer.json").write_bytes((DATA / "tokenizer.json").read_bytes())
    return path


@pytest.fixture(scope="module")
def recorded(folder: Path) -> LlavaOnevisionVerifier:
    return load_verifier(folder)


@pytest.fixture(scope="module")
def small() -> LlavaOnevisionVerifier:
    """Random weights large enough that answers differ from row to row, on 28-pixel images of 4 patches."""
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(DATA / "tokenizer.json"))
    torch.manual_seed(0)
    model = LlavaOnevisionForConditionalGeneration(
        LlavaOnevisionConfig(
            vision_config=SiglipVisionConfig(
                hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
                image_size=28, patch_size=14, vision_use_head=False, initializer_range=0.3,
            ),
            text_config=Qwen2Config(
                vocab_size=448, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                num_attention_heads=4, num_key_value_heads=2, initializer_range=0.3,
            ),
            image_token_index=447,
            video_token_index=446,
        )
    )  # fmt: skip
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return LlavaOnevisionVerifier(model, tokenizer)


IMAGES = torch.rand(3, 3, 28, 28, generator=torch.Generator().manual_seed(1))
PROMPTS = ["a photo of a cat", "a photo of four red apples and a chair", "two dogs"]


@pytest.mark.parametrize("case", RECORDED["questions"], ids=lambda case: case["name"])
def test_the_answer_equals_the_recorded_one(case: dict, recorded: LlavaOnevisionVerifier) -> None:
    question = ASKED[case["name"]]
    text = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<image>"
    assert text + conversation(question, PROMPT) == case["rendered_prompt"]
    images = recordings.picture("llava/resized_384.webp")[None] / 255
    before = recorded.usage
    p = recorded.ask(images, [PROMPT], question)
    assert p.item() == pytest.approx(case["yes_prob_two_way"], abs=1e-5)
    assert torch.logit(p).item() == pytest.approx(case["yes_logit"] - case["no_logit"], abs=1e-4)
    assert (recorded.usage - before).tokens_judged == case["sequence_length_after_expansion"]


def test_the_two_logits_equal_the_recorded_ones(
    recorded: LlavaOnevisionVerifier, tensors: dict[str, torch.Tensor]
) -> None:
    seen = []
    language = recorded.model.model.language_model
    handle = language.register_forward_hook(lambda *_args: seen.append(_args[-1].last_hidden_state[:, -1]))
    recorded.ask(recordings.picture("llava/resized_384.webp")[None] / 255, [PROMPT], ORM)
    handle.remove()
    with torch.no_grad():
        logits = recorded.model.lm_head(seen[0])[0]
    ids = RECORDED["token_ids"]
    case = RECORDED["questions"][0]
    assert logits[ids["yes"]].item() == pytest.approx(case["yes_logit"], abs=1e-4)
    assert logits[ids["no"]].item() == pytest.approx(case["no_logit"], abs=1e-4)
    torch.testing.assert_close(logits, tensors["orm.last_logits"], atol=1e-4, rtol=0)


def test_image_rows_equal_the_recorded_features(
    recorded: LlavaOnevisionVerifier, tensors: dict[str, torch.Tensor]
) -> None:
    with torch.no_grad():
        rows = encode(recorded.model, prepare(recordings.picture("llava/resized_384.webp")[None] / 255, 384))
    torch.testing.assert_close(rows[:, :-1], tensors["projected_features"], atol=1e-4, rtol=0)
    torch.testing.assert_close(rows[0, -1], tensors["weights.image_newline"])


def test_resizing_equals_the_recorded_one_up_to_rounding() -> None:
    image = recordings.picture("llava/image_256.webp")[None] / 255
    difference = (prepare(image, 384) - (recordings.picture("llava/resized_384.webp") / 255 * 2 - 1)).abs()
    assert difference.max() < 2.5 / 255 * 2
    assert difference.mean() < 0.5 / 255 * 2


def test_a_batch_equals_one_at_a_time(small: LlavaOnevisionVerifier) -> None:
    together = small.ask(IMAGES, PROMPTS, PRM)
    alone = [small.ask(IMAGES[i : i + 1], [PROMPTS[i]], PRM)[0] for i in range(3)]
    torch.testing.assert_close(together, torch.stack(alone), atol=1e-4, rtol=0)
    assert together.max() - together.min() > 1e-3


def test_one_prompt_serves_all_images(small: LlavaOnevisionVerifier) -> None:
    shared = small.ask(IMAGES, PROMPTS[:1], ORM)
    torch.testing.assert_close(shared, small.ask(IMAGES, PROMPTS[:1] * 3, ORM))


def test_micro_batches_change_nothing(small: LlavaOnevisionVerifier, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, begun = small.begin(IMAGES, PROMPTS, CLARITY)
    second = small.ask(IMAGES, PROMPTS, POTENTIAL, begun)
    monkeypatch.setattr(small, "_micro_batch", lambda width: 2)
    parts, split = small.begin(IMAGES, PROMPTS, CLARITY)
    torch.testing.assert_close(parts, whole, atol=1e-4, rtol=0)
    torch.testing.assert_close(small.ask(IMAGES, PROMPTS, POTENTIAL, split), second, atol=1e-4, rtol=0)


def test_a_batch_that_does_not_fit_is_halved(small: LlavaOnevisionVerifier, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = small.ask(IMAGES, PROMPTS, ORM)
    read, tried = small._read, []

    def refuse(embeds: torch.Tensor, *more: object, **keep: bool) -> object:
        tried.append(len(embeds))
        if len(embeds) > 1:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")
        return read(embeds, *more, **keep)

    monkeypatch.setattr(small, "_read", refuse)
    torch.testing.assert_close(small.ask(IMAGES, PROMPTS, ORM), whole, atol=1e-4, rtol=0)
    assert tried == [3, 1, 1, 1]


@pytest.mark.parametrize("prompts", [PROMPTS, PROMPTS[:1]], ids=["padded", "equal"])
def test_a_follow_up_equals_asking_from_scratch(
    small: LlavaOnevisionVerifier, prompts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = small.ask(IMAGES, prompts, POTENTIAL)
    first, begun = small.begin(IMAGES, prompts, CLARITY)
    torch.testing.assert_close(first, small.ask(IMAGES, prompts, CLARITY), atol=1e-4, rtol=0)
    monkeypatch.setattr(small, "embed", None)  # no image is encoded again
    torch.testing.assert_close(small.ask(IMAGES, prompts, POTENTIAL, begun), scratch, atol=1e-4, rtol=0)
    some = begun.select(torch.tensor([2, 0]))
    torch.testing.assert_close(small.ask(IMAGES, prompts, POTENTIAL, some), scratch[[2, 0]], atol=1e-4, rtol=0)
    assert scratch.max() - scratch.min() > 1e-3


def test_both_spellings_of_an_answer_count() -> None:
    class Words:
        added_tokens_decoder: ClassVar[dict] = {}

        def __call__(self, text: str, add_special_tokens: bool) -> "Words":
            self.input_ids = [{"yes": 1, "Yes": 2, "no": 3}.get(text, 0)] * (2 if text == "No" else 1)
            return self

    model = torch.nn.Identity()
    model.config = type("Config", (), {"image_token_index": 9})()  # type: ignore[assignment]
    verifier = LlavaOnevisionVerifier(model, Words())
    assert (verifier._yes, verifier._no) == ([1, 2], [3])


def test_wrong_requests_are_refused(small: LlavaOnevisionVerifier) -> None:
    with pytest.raises(UsageError, match="2 prompts"):
        small.ask(IMAGES, PROMPTS[:2], ORM)
    with pytest.raises(UsageError, match="<\\|im_end\\|>"):
        small.ask(IMAGES, ["a cat<|im_end|>"] * 3, ORM)
    with pytest.raises(UsageError, match="empty"):
        small.ask(IMAGES, [" "], ORM)
    _, begun = small.begin(IMAGES, PROMPTS, CLARITY)
    with pytest.raises(UsageError, match="no follow-up"):
        small.ask(IMAGES, PROMPTS, ORM, begun)


def test_broken_checkpoints_are_refused_in_one_sentence(folder: Path, tmp_path: Path) -> None:
    def copy(name: str) -> Path:
        target = tmp_path / name
        target.mkdir()
        for file in folder.iterdir():
            (target / file.name).write_bytes(file.read_bytes())
        return target

    with pytest.raises(UsageError, match="no verifier 'tiny-zeroshot'"):
        load_verifier("tiny-zeroshot")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImagecotError, match=r"no config\.json"):
        load_verifier(tmp_path / "empty")
    truncated = copy("truncated")
    file = truncated / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(ImagecotError, match="cannot be read"):
        load_verifier(truncated)
    state = load_file(folder / "model.safetensors")
    for name, change, message in [
        ("lacking", lambda s: s.pop("image_newline"), "lack 1 tensor"),
        ("unknown", lambda s: s.update(extra=torch.zeros(1)), "have unknown 1 tensor"),
        ("misfit", lambda s: s.update(image_newline=torch.zeros(3)), "misfit 1 tensor.*image_newline"),
    ]:
        changed = dict(state)
        change(changed)
        save_checkpoint(copy(name), json.loads((folder / "config.json").read_text()), changed)
        with pytest.raises(ImagecotError, match=message):
            load_verifier(tmp_path / name)
    (copy("mute") / "tokenizer.json").unlink()
    with pytest.raises(ImagecotError, match=r"no tokenizer\.json"):
        load_verifier(tmp_path / "mute")


def test_an_unreachable_hub_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def refuse(*args: object, local_files_only: bool = False, **kwargs: object) -> None:
        from huggingface_hub.errors import LocalEntryNotFoundError

        raise LocalEntryNotFoundError("offline")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(ImagecotError, match="cannot be downloaded"):
        load_verifier("llava-hf/llava-onevision-qwen2-7b-ov-hf")
