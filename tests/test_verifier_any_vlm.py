"""Other families of transformers as verifiers: the same answers batched, alone, and by hand."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForImageTextToText,
    Idefics3Config,
    Idefics3Processor,
    LlamaConfig,
    LlavaConfig,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    SiglipVisionConfig,
)
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from imagecot.contracts.questions import CLARITY, ORM, POTENTIAL, PRM, REFLECTION, Question
from imagecot.contracts.verifier import Conversation, Usage
from imagecot.errors import ImagecotError, UsageError
from imagecot.verifiers import load_verifier
from imagecot.verifiers.any_vlm import AnyVlm

TOKENIZER = Path(__file__).parent / "data" / "llava" / "tokenizer.json"
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for c in m.content %}{% if c.type == 'image' %}<image>"
    "{% else %}{{ c.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
IMAGES = torch.randint(0, 256, (3, 3, 28, 28), generator=torch.Generator().manual_seed(1)) / 255
PROMPTS = ["a photo of a cat", "a photo of four red apples and a chair", "two dogs"]
SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}


def write(family: str, folder: Path) -> Path:
    """Write a small random model of a family with its processor, as the hub would hold them."""
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(TOKENIZER), pad_token="<|endoftext|>")
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    tokenizer.add_tokens(["Yes", "No"])  # as one token each, like in a large vocabulary
    text = LlamaConfig(vocab_size=448, pad_token_id=359, tie_word_embeddings=False, **SIZES)
    if family == "llava":
        size = {"height": 28, "width": 28}
        pictures = LlavaImageProcessorPil(size=size, crop_size=size, image_mean=[0.5] * 3, image_std=[0.5] * 3)
        processor = LlavaProcessor(
            pictures, tokenizer, patch_size=14, vision_feature_select_strategy="full", chat_template=TEMPLATE
        )
        vision = SiglipVisionConfig(image_size=28, patch_size=14, vision_use_head=False, **SIZES)
        config = LlavaConfig(
            vision_config=vision, text_config=text, image_token_index=362, vision_feature_select_strategy="full",
            vision_feature_layer=-1, image_seq_length=4,
        )  # fmt: skip
    else:
        pictures = Idefics3ImageProcessorPil(size={"longest_edge": 56}, max_image_size={"longest_edge": 28})
        processor = Idefics3Processor(pictures, tokenizer, image_seq_len=4, chat_template=TEMPLATE)
        vision = {"image_size": 28, "patch_size": 7, **SIZES}
        config = Idefics3Config(vision_config=vision, text_config=text, scale_factor=2, image_token_id=362)
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {family: write(family, tmp_path_factory.mktemp(family)) for family in ("llava", "idefics3")}


@pytest.fixture(scope="module", params=["llava", "idefics3"])
def verifier(request: pytest.FixtureRequest, folders: dict[str, Path]) -> AnyVlm:
    return load_verifier(folders[request.param])


def test_a_named_folder_becomes_a_verifier_that_tells_rows_apart(verifier: AnyVlm) -> None:
    assert isinstance(verifier, AnyVlm)
    p = verifier.ask(IMAGES, PROMPTS, ORM)
    assert p.shape == (3,)
    assert p.dtype == torch.float64
    assert p.max() - p.min() > 1e-2
    other = verifier.ask(IMAGES.flip(0), PROMPTS, ORM)
    assert (other - p).abs()[[0, 2]].min() > 1e-3  # the image counts ...
    torch.testing.assert_close(other[1], p[1])
    assert (verifier.ask(IMAGES, PROMPTS, PRM) - p).abs().min() > 1e-3  # ... and the question


def test_a_batch_equals_one_at_a_time(verifier: AnyVlm) -> None:
    before = verifier.usage
    together = verifier.ask(IMAGES, PROMPTS, ORM)
    spent = (verifier.usage - before).tokens_judged
    alone = [verifier.ask(IMAGES[i : i + 1], [PROMPTS[i]], ORM)[0] for i in range(3)]
    torch.testing.assert_close(together, torch.stack(alone), atol=1e-4, rtol=0)
    assert verifier.usage - before == Usage(judge_calls=6, tokens_judged=2 * spent)  # padding is not counted
    shared = verifier.ask(IMAGES, PROMPTS[:1], ORM)
    torch.testing.assert_close(shared, verifier.ask(IMAGES, PROMPTS[:1] * 3, ORM))


def test_micro_batches_change_nothing(verifier: AnyVlm, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = verifier.ask(IMAGES, PROMPTS, ORM)
    monkeypatch.setattr("imagecot.verifiers.any_vlm._ROWS", 2)
    torch.testing.assert_close(verifier.ask(IMAGES, PROMPTS, ORM), whole, atol=1e-4, rtol=0)


def test_reflections_are_written_greedily(verifier: AnyVlm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imagecot.verifiers.any_vlm.ANSWER_TOKENS", 5)
    found = verifier.reflect(IMAGES, PROMPTS)
    p = verifier.ask(IMAGES, PROMPTS, REFLECTION)
    torch.testing.assert_close(torch.tensor([answer.p_yes for answer in found]).double(), p, atol=1e-4, rtol=0)
    assert len({answer.text for answer in found}) > 1
    inputs = verifier._inputs(IMAGES[:1], PROMPTS[:1], REFLECTION)
    ids = inputs.pop("input_ids")
    written = ids
    for _ in range(5):  # every time the whole conversation anew
        inputs["attention_mask"] = torch.ones_like(written)
        last = verifier.model(input_ids=written, **inputs, use_cache=False).logits[:, -1]
        written = torch.cat([written, last.argmax(1, keepdim=True)], 1)
    text = verifier.processor.tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True)
    assert found[0].text == text.strip()
    assert not found[0].complete


FIRST = Question("first", " Is it {prompt}?")
SECOND = Question("second", "Really?", follows=FIRST)
FIRST_CHAT = "<|im_start|>user\n<image><image><image><image>Is it a cat?<|im_end|>\n<|im_start|>assistant\n"
SECOND_CHAT = FIRST_CHAT + "yes<|im_end|>\n<|im_start|>user\nReally?<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize(("question", "chat"), [(FIRST, FIRST_CHAT), (SECOND, SECOND_CHAT)], ids=["first", "second"])
def test_the_answer_equals_one_put_together_by_hand(question: Question, chat: str, folders: dict[str, Path]) -> None:
    verifier = load_verifier(folders["llava"])

    def tokens(text: str) -> list[int]:
        return verifier.processor.tokenizer(text, add_special_tokens=False).input_ids

    with torch.no_grad():
        pixels = IMAGES[:1] * 2 - 1
        logits = verifier.model(input_ids=torch.tensor([tokens(chat)]), pixel_values=pixels).logits[0, -1]
    single = [
        {tokens(text)[0] for text in spellings if len(tokens(text)) == 1}
        for spellings in (("yes", "Yes", " yes", " Yes"), ("no", "No", " no", " No"))
    ]
    yes, no = (sum(logits[i].exp() for i in ids) for ids in single)
    p = verifier.ask(IMAGES[:1], ["a cat"], question)
    torch.testing.assert_close(p[0].float(), yes / (yes + no), atol=1e-5, rtol=0)
    assert verifier.usage == Usage(judge_calls=1, tokens_judged=len(tokens(chat)))


def test_a_follow_up_reads_the_conversation_again(verifier: AnyVlm) -> None:
    scratch = verifier.ask(IMAGES, PROMPTS, POTENTIAL)
    first, conversation = verifier.begin(IMAGES, PROMPTS, CLARITY)
    torch.testing.assert_close(first, verifier.ask(IMAGES, PROMPTS, CLARITY))
    torch.testing.assert_close(verifier.ask(IMAGES[:0], [], POTENTIAL, conversation), scratch)
    for some, rows in ((torch.tensor([2, 0]), [2, 0]), (torch.tensor([False, True, True]), [1, 2])):
        kept = conversation.select(some)
        assert len(kept.own.images) == 2
        torch.testing.assert_close(verifier.ask(IMAGES, PROMPTS, POTENTIAL, kept), scratch[rows], atol=1e-4, rtol=0)
    assert (scratch - first).abs().min() > 1e-3
    _, shared = verifier.begin(IMAGES, PROMPTS[:1], CLARITY)
    kept = shared.select(torch.tensor([1, 2]))
    alone = verifier.ask(IMAGES[1:], PROMPTS[:1], POTENTIAL)
    torch.testing.assert_close(verifier.ask(IMAGES, PROMPTS, POTENTIAL, kept), alone, atol=1e-4, rtol=0)


def test_wrong_requests_are_refused(verifier: AnyVlm) -> None:
    with pytest.raises(UsageError, match="2 prompts"):
        verifier.ask(IMAGES, PROMPTS[:2], ORM)
    with pytest.raises(UsageError, match="<image>"):
        verifier.ask(IMAGES, ["a cat<image>"], ORM)
    with pytest.raises(UsageError, match="empty"):
        verifier.ask(IMAGES, [" "], ORM)
    _, conversation = verifier.begin(IMAGES, PROMPTS, CLARITY)
    with pytest.raises(UsageError, match="no follow-up"):
        verifier.ask(IMAGES, PROMPTS, ORM, conversation)
    with pytest.raises(UsageError, match="another verifier's"):
        verifier.ask(IMAGES, PROMPTS, POTENTIAL, Conversation(CLARITY, IMAGES, PROMPTS))


def test_incomplete_folders_are_refused_in_one_sentence(folders: dict[str, Path], tmp_path: Path) -> None:
    def copy(name: str, *without: str) -> Path:
        (tmp_path / name).mkdir()
        for file in folders["llava"].iterdir():
            if file.name not in without:
                (tmp_path / name / file.name).write_bytes(file.read_bytes())
        return tmp_path / name

    with pytest.raises(ImagecotError, match="no chat template"):
        load_verifier(copy("silent", "chat_template.jinja"))
    with pytest.raises(ImagecotError, match=r"the processor in .* cannot be read"):
        load_verifier(copy("blind", "processor_config.json", "tokenizer.json", "tokenizer_config.json"))
    state = load_file(folders["llava"] / "model.safetensors")
    name = next(name for name in state if name.endswith("norm.weight"))
    save_file({**state, "unused": torch.zeros(1)}, copy("more") / "model.safetensors", {"format": "pt"})
    assert isinstance(load_verifier(tmp_path / "more"), AnyVlm)
    save_file({k: v for k, v in state.items() if k != name}, copy("less") / "model.safetensors", {"format": "pt"})
    with pytest.raises(ImagecotError, match=r"lack 1 tensor"):
        load_verifier(tmp_path / "less")
    text_only = copy("text")
    (text_only / "config.json").write_text('{"model_type": "qwen2"}')
    with pytest.raises(UsageError, match="not a vision-language checkpoint"):
        load_verifier(text_only)
