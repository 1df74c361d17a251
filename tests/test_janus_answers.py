"""What a Janus from scratch learns of understanding: tokens, layout, blocks, and that every weight of it learns."""

import hashlib
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import (
    JanusConfig,
    JanusForConditionalGeneration,
    JanusVisionConfig,
    JanusVQVAEConfig,
    LlamaConfig,
    PreTrainedTokenizerFast,
)

from imagecot.contracts.questions import ORM, QUESTIONS, Question
from imagecot.training.loop import Part
from imagecot.training.optimization import Optimization, optimizers
from imagecot.worlds.drawn.captions import caption, random_requirement
from imagecot.worlds.drawn.dataset import example
from imagecot.worlds.drawn.questions import describe
from imagecot.worlds.drawn.scenes import draw
from imagecot.worlds.drawn.training.answering import Answering, Weights
from imagecot.worlds.drawn.training.eye import Seeing, Shown
from imagecot.worlds.drawn.training.janus_answers import JANUS, JanusStudent, hidden_states, janus_packer
from imagecot.worlds.drawn.training.janus_text import IMAGE, janus_processor, janus_tokenizer
from imagecot.worlds.drawn.training.packing import Packer, attention_mask, new_tokenizer
from imagecot.worlds.drawn.training.verifier_scores import accuracy

PATCHES = 16
# Of the packed texts with which `tiny-zero-shot` is trained.
LLAVA_DIGEST = "5a023e3160ede7779d1e0993ec2415a7db9456b10d8f9931ddfc8bdeaddc9504"


class FewScenes:
    """A pool of eight scenes that is on no disk."""

    def __init__(self) -> None:
        self.examples = [example(5, i) for i in range(8)]

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> object:
        return self.examples[index]

    def images(self, indices: list[int]) -> np.ndarray:
        return np.stack([np.asarray(draw(self.examples[i].scene)) for i in indices])


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return janus_tokenizer()


@pytest.fixture(scope="module")
def pool() -> FewScenes:
    return FewScenes()


def small_janus(tokenizer: PreTrainedTokenizerFast, std: float | None = 0.3) -> JanusForConditionalGeneration:
    """A Janus of 4 x 4 patches of the drawn world's pictures, with random weights."""
    torch.manual_seed(0)
    heads = {"num_attention_heads": 2}
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = JanusConfig(
        text_config=LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=16, intermediate_size=24, num_hidden_layers=2, **heads, **ids
        ),
        vision_config=JanusVisionConfig(
            hidden_size=16, num_hidden_layers=1, image_size=64, patch_size=16, projection_dim=16,
            num_image_tokens=PATCHES, **heads
        ),
        vq_config=JanusVQVAEConfig(
            embed_dim=4, num_embeddings=8, base_channels=32, channel_multiplier=[1, 1], num_res_blocks=1,
            latent_channels=32, projection_dim=16, image_token_embed_dim=16,
        ),
        image_token_id=tokenizer.image_token_id,
    )  # fmt: skip
    model = JanusForConditionalGeneration(config).eval()
    for parameter in model.parameters():
        if std and parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=std)
    return model


def test_the_texts_of_the_other_verifier_are_packed_as_ever() -> None:
    packer = Packer(new_tokenizer(), 126, 65)
    packed = packer([example(5, i).scene for i in range(8)], [random.Random(f"p:{i}") for i in range(8)])
    digest = hashlib.sha256()
    for tensor in (packed.ids, packed.block, packed.position, packed.target, packed.task, packer.start):
        digest.update(tensor.numpy().tobytes())
    assert digest.hexdigest() == LLAVA_DIGEST


def test_every_word_of_the_drawn_world_is_one_token(tokenizer: PreTrainedTokenizerFast) -> None:
    rng = random.Random(0)
    for i in range(300):
        text = caption(random_requirement(rng), rng)
        assert len(tokenizer(text, add_special_tokens=False).input_ids) == len(text.split()), text
        said = describe(example(3, i).scene, rng)
        marks = said.count(",") + said.count(":")
        assert len(tokenizer(" " + said, add_special_tokens=False).input_ids) == len(said.split()) + marks, said
    text = "Ünïcode, 画像 & 12 tabs\t\n!"
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids) == text


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.name)
def test_what_is_the_same_in_every_chat_is_one_token(tokenizer: PreTrainedTokenizerFast, question: Question) -> None:
    first = (question.follows or question).about("two kites").strip()
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": first}]}]
    if question.follows:
        messages.append({"role": "assistant", "content": [{"type": "text", "text": "yes"}]})
        messages.append({"role": "user", "content": [{"type": "text", "text": question.about("two kites")}]})
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False)
    # User, image, and the question around two words; behind a clear image the yes and the other question.
    assert len(ids) == (6 if len(messages) == 1 else 6 + 2)


def test_the_packed_layout_is_that_of_the_processor(tokenizer: PreTrainedTokenizerFast) -> None:
    packer = janus_packer(tokenizer, 60, PATCHES)
    processor = janus_processor(tokenizer, 64, 16)
    text = {"type": "text", "text": ORM.about("a red cup").strip()}
    laid = processor.apply_chat_template(
        [{"role": "user", "content": [{"type": "image", "image": draw(example(5, 0).scene)}, text]}],
        add_generation_prompt=True, tokenize=True, return_dict=True,
    )  # fmt: skip
    question = tokenizer(JANUS.ask("a red cup"), add_special_tokens=False).input_ids
    image = [tokenizer.convert_tokens_to_ids(IMAGE)] * PATCHES + [tokenizer.convert_tokens_to_ids("<end_of_image>")]
    assert laid["input_ids"][0].tolist() == packer.start[0].tolist() + image + question
    assert packer.offset == len(packer.start[0]) + len(image)
    assert tokenizer.decode([packer.yes, packer.no]) == " yes no"


def test_a_packed_row_equals_the_forward_pass_of_transformers(
    tokenizer: PreTrainedTokenizerFast, pool: FewScenes
) -> None:
    model = small_janus(tokenizer)
    packer = janus_packer(tokenizer, 60, PATCHES)
    packed = packer([pool.examples[0].scene], [random.Random(0)])
    pixels = torch.rand(1, 3, 64, 64) * 2 - 1
    end = tokenizer.convert_tokens_to_ids("<end_of_image>")
    before = torch.cat([packer.start, torch.full((1, PATCHES), tokenizer.image_token_id), torch.tensor([[end]])], 1)
    with torch.no_grad():
        states, _ = JanusStudent(model).reader(packer)(pixels, packed)
        compared = 0
        for number in range(1, int(packed.block.max()) + 1):
            own = packed.block[0] == number
            ids = torch.cat([before, packed.ids[:, own]], 1)
            expected = model(input_ids=ids, pixel_values=pixels).logits[:, before.shape[1] :]
            torch.testing.assert_close(model.lm_head(states[:, own]), expected, atol=1e-4, rtol=1e-4)
            compared += 1
    assert compared >= 4


def test_understanding_moves_every_weight_but_those_that_draw(
    tokenizer: PreTrainedTokenizerFast, pool: FewScenes
) -> None:
    student = JanusStudent(small_janus(tokenizer, None))
    before = {name: parameter.clone() for name, parameter in student.named_parameters()}
    opt = Optimization(steps=3, batch_size=4, learning_rate=1e-2, weight_decay=0, bf16=False)
    packer, shown = janus_packer(tokenizer, 60, PATCHES), Shown(pool, 4)  # type: ignore[arg-type]
    answering = Answering(student, student.reader(packer), packer, shown, opt, Weights())
    (optimizer,) = optimizers(student, opt)
    for number in range(3):
        losses = answering(Part(number, number))
        assert losses["loss"] == losses["description"] + losses["answer"] + 0.5 * losses["patches"]
        losses["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    drawing = ("vqmodel", "generation_")
    for name, parameter in student.named_parameters():
        assert torch.equal(parameter, before[name]) == any(part in name for part in drawing), name
    seen = Seeing(student, shown, opt)(Part(0, 0))
    assert 0 < seen["loss"] < 20


def test_the_accuracy_of_a_student_that_always_says_yes(tokenizer: PreTrainedTokenizerFast, pool: FewScenes) -> None:
    packer = janus_packer(tokenizer, 900, PATCHES)
    says_yes = torch.nn.functional.one_hot(torch.tensor(packer.yes), len(tokenizer)).float()
    student = SimpleNamespace(head=lambda states: says_yes.expand(len(states), -1))

    def read(pixels: torch.Tensor, packed: object) -> tuple[torch.Tensor, torch.Tensor]:
        assert -1 <= pixels.min() < 0 < pixels.max() <= 1
        return torch.zeros(*packed.ids.shape, 1), torch.zeros(0)  # type: ignore[attr-defined]

    scores = accuracy(student, read, packer, pool, 8, batch=3)  # type: ignore[arg-type]
    asked = [score for score in scores.values() if score == score]  # some tasks have no yes in so few scenes
    assert asked == [0.5] * len(asked)
    assert len(asked) >= 3


def test_the_picture_stands_between_its_marks(tokenizer: PreTrainedTokenizerFast) -> None:
    model = small_janus(tokenizer)
    ids, position = torch.tensor([[5, 6]]), torch.tensor([[19, 20]])
    mask = attention_mask(torch.ones(1, 2), 19)
    pixels = torch.zeros(1, 3, 64, 64)
    around = torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        states, image = hidden_states(model, pixels, ids, position, mask, around)
        same = model(
            input_ids=torch.cat(
                [around[:, :2], torch.full((1, PATCHES), tokenizer.image_token_id), around[:, 2:], ids], 1
            ),
            pixel_values=pixels,
        ).logits[:, -2:]
    assert image.shape == (1, PATCHES, 16)
    torch.testing.assert_close(model.lm_head(states), same, atol=1e-4, rtol=1e-4)
