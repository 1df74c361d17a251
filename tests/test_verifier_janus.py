"""Janus as a verifier: transformers' own forward pass on its own processor's inputs, and what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import JanusForConditionalGeneration, JanusProcessor

from imagecot.contracts.questions import CLARITY, ORM, POTENTIAL, PRM, QUESTIONS, REFLECTION, Question
from imagecot.contracts.verifier import Usage
from imagecot.errors import ImagecotError, UsageError
from imagecot.generators import load_generator
from imagecot.verifiers import load_verifier, turns
from imagecot.verifiers.janus import JanusVerifier
from small_models import write_janus

IMAGES = torch.randint(0, 256, (3, 3, 32, 32), generator=torch.Generator().manual_seed(1)) / 255
PROMPTS = ["a photo of a cat", "a photo of four red apples and a chair", "two dogs"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_janus(tmp_path_factory.mktemp("janus"), max_position_embeddings=2048, num_key_value_heads=2)


@pytest.fixture(scope="module")
def verifier(folder: Path) -> JanusVerifier:
    found = load_verifier(folder)
    assert isinstance(found, JanusVerifier)
    return found


def pictures(images: torch.Tensor) -> list[Image.Image]:
    levels = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(picture) for picture in levels]


def messages(question: Question, prompt: str, picture: Image.Image) -> list[dict[str, object]]:
    text = {"type": "text", "text": question.about(prompt).strip()}
    if question.follows is None:
        return [{"role": "user", "content": [{"type": "image", "image": picture}, text]}]
    yes = {"role": "assistant", "content": [{"type": "text", "text": "yes"}]}
    return [*messages(question.follows, prompt, picture), yes, {"role": "user", "content": [text]}]


def logits_of(folder: Path, verifier: JanusVerifier, question: Question) -> torch.Tensor:
    """The last logits (B, V) by transformers' processor and model, a conversation at a time."""
    processor = JanusProcessor.from_pretrained(folder)
    found = []
    for picture, prompt in zip(pictures(IMAGES), PROMPTS, strict=True):
        inputs = processor.apply_chat_template(
            messages(question, prompt, picture), add_generation_prompt=True, tokenize=True, return_dict=True,
            return_tensors="pt",
        )  # fmt: skip
        with torch.no_grad():
            found.append(verifier.model(**inputs).logits[0, -1])
    return torch.stack(found)


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.name)
def test_answers_equal_the_forward_pass_of_transformers(
    question: Question, folder: Path, verifier: JanusVerifier
) -> None:
    ids = {word: verifier.tokenizer.convert_tokens_to_ids(word) for word in (" yes", "yes", "Yes", " no", "no", "No")}
    logits = logits_of(folder, verifier, question).double()
    yes, no = ([logits[:, i] for word, i in ids.items() if said in word.lower()] for said in ("yes", "no"))
    expected = torch.sigmoid(torch.stack(yes).logsumexp(0) - torch.stack(no).logsumexp(0))
    found = verifier.ask(IMAGES, PROMPTS, question)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    assert found.dtype == torch.float64
    assert found.max() - found.min() > 1e-2


def test_a_follow_up_encodes_no_image_again(verifier: JanusVerifier, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = verifier.ask(IMAGES, PROMPTS, POTENTIAL)
    first, begun = verifier.begin(IMAGES, PROMPTS, CLARITY)
    torch.testing.assert_close(first, verifier.ask(IMAGES, PROMPTS, CLARITY), atol=1e-4, rtol=0)
    monkeypatch.setattr(verifier.chat, "rows", None)
    before = verifier.usage
    torch.testing.assert_close(verifier.ask(IMAGES, PROMPTS, POTENTIAL, begun), scratch, atol=1e-4, rtol=0)
    follow = len(verifier.tokenizer(verifier.chat.followed(POTENTIAL), add_special_tokens=False).input_ids)
    assert verifier.usage - before == Usage(judge_calls=3, tokens_judged=3 * follow)
    some = begun.select(torch.tensor([2, 0]))
    torch.testing.assert_close(verifier.ask(IMAGES, PROMPTS, POTENTIAL, some), scratch[[2, 0]], atol=1e-4, rtol=0)


def test_an_image_is_encoded_once_for_each_answer(verifier: JanusVerifier) -> None:
    seen: list[int] = []
    tower = verifier.model.model.vision_model
    handle = tower.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    verifier.ask(IMAGES, PROMPTS, PRM)
    handle.remove()
    assert sum(seen) == 3


def test_half_precision_says_nearly_the_same(folder: Path, verifier: JanusVerifier) -> None:
    half = load_verifier(folder, dtype=torch.bfloat16)
    assert half.settings == {"precision": "bfloat16"}
    state = torch.randn(2, 32, generator=torch.Generator().manual_seed(0)).bfloat16()
    head = half.model.lm_head.weight.float()
    yes, no = (state.float() @ head[ids].T for ids in (half._yes, half._no))
    expected = torch.sigmoid(yes.double().logsumexp(1) - no.double().logsumexp(1))
    torch.testing.assert_close(half._p_yes(state), expected, atol=1e-9, rtol=0)  # logits are no bfloat16 numbers
    torch.testing.assert_close(half.ask(IMAGES, PROMPTS, ORM), verifier.ask(IMAGES, PROMPTS, ORM), atol=0.2, rtol=0)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (50, 50), (20, 20), (24, 40), (61, 17), (64, 3)])
def test_images_are_prepared_as_by_the_processor(
    height: int, width: int, folder: Path, verifier: JanusVerifier
) -> None:
    draw = torch.Generator().manual_seed(height)
    images = torch.randint(0, 256, (2, 3, height, width), generator=draw) / 255
    processor = JanusProcessor.from_pretrained(folder).image_processor
    expected = np.stack(processor(pictures(images)).pixel_values)
    framed = verifier.chat.framed(images)
    torch.testing.assert_close((framed - 0.5) / 0.5, torch.from_numpy(expected), atol=1e-6, rtol=0)


def test_reflections_are_written_greedily(
    folder: Path, verifier: JanusVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "ANSWER_TOKENS", 5)
    found = verifier.reflect(IMAGES, PROMPTS)
    torch.testing.assert_close(
        torch.tensor([one.p_yes for one in found]).double(),
        verifier.ask(IMAGES, PROMPTS, REFLECTION),
        atol=1e-4,
        rtol=0,
    )
    inputs = JanusProcessor.from_pretrained(folder).apply_chat_template(
        messages(REFLECTION, PROMPTS[0], pictures(IMAGES)[0]), add_generation_prompt=True, tokenize=True,
        return_dict=True, return_tensors="pt",
    )  # fmt: skip
    written: list[int] = []
    ids = inputs["input_ids"]
    for _ in range(5):
        with torch.no_grad():
            last = verifier.model(input_ids=ids, pixel_values=inputs["pixel_values"]).logits[0, -1]
        written.append(int(last[: len(verifier.tokenizer)].argmax()))
        ids = torch.cat([ids, torch.tensor([[written[-1]]])], 1)
    eos = verifier.tokenizer.eos_token_id
    said = written[: written.index(eos)] if eos in written else written
    assert found[0].text == verifier.tokenizer.decode(said, skip_special_tokens=True).removeprefix(" ")


def test_one_folder_draws_and_judges(folder: Path) -> None:
    generator = load_generator(folder)
    assert isinstance(load_verifier(folder), JanusVerifier)
    assert generator.canvas.grid == (4, 4)


def test_wrong_requests_are_refused(verifier: JanusVerifier) -> None:
    with pytest.raises(UsageError, match="2 prompts"):
        verifier.ask(IMAGES, PROMPTS[:2], ORM)
    with pytest.raises(UsageError, match="begin_of_image"):
        verifier.check_prompt("a cat<begin_of_image>")
    with pytest.raises(UsageError, match="reads at most 2048"):
        verifier.check_prompt("a cat " * 400)


def changed(folder: Path, target: Path, file: str, **values: object) -> Path:
    shutil.copytree(folder, target)
    told = json.loads((target / file).read_text())
    told.get("image_processor", told).update(values)
    (target / file).write_text(json.dumps(told))
    return target


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": {"height": 64, "width": 64}}, r"has the size 64 but the model 32"),
        ({"resample": 2}, r"prepares images otherwise"),
    ],
)
def test_a_processor_of_another_model_is_refused(
    values: dict[str, object], message: str, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ImagecotError, match=message):
        load_verifier(changed(folder, tmp_path / "other", "processor_config.json", **values))


def test_missing_files_are_said(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "none", ignore=shutil.ignore_patterns("tokenizer*"))
    with pytest.raises(ImagecotError, match=r"the processor in .* cannot be read"):
        load_verifier(tmp_path / "none")
    shutil.copytree(folder, tmp_path / "silent", ignore=shutil.ignore_patterns("chat_template*"))
    with pytest.raises(ImagecotError, match="has no chat template"):
        load_verifier(tmp_path / "silent")


def test_weights_that_are_lost_are_said(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, tmp_path / "lost")
    file = tmp_path / "lost" / "model.safetensors"
    state = load_file(file)
    state.pop("model.aligner.fc1.weight")
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(ImagecotError, match=r"lack 1 tensor\(s\), such as model.aligner.fc1.weight"):
        load_verifier(tmp_path / "lost")
    assert isinstance(JanusForConditionalGeneration.from_pretrained(folder), JanusForConditionalGeneration)
