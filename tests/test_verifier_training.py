"""Training of the small verifier: packing, the block mask, resume, and that every weight learns."""

import csv
import random
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from transformers import PreTrainedTokenizerFast

from imagecot.contracts.questions import CLARITY, ORM, POTENTIAL, PRM, QUESTIONS
from imagecot.training.state import seed_all
from imagecot.verifiers import load_verifier
from imagecot.verifiers.chat import CHAT_START, turn
from imagecot.verifiers.llava_onevision import LlavaOnevisionVerifier
from imagecot.verifiers.tokens import load_tokenizer
from imagecot.worlds.drawn.dataset import Pool, example
from imagecot.worlds.drawn.scenes import Item, Scene
from imagecot.worlds.drawn.training.eye import augment, patch_loss, patch_targets
from imagecot.worlds.drawn.training.packing import Packer, attention_mask, new_tokenizer
from imagecot.worlds.drawn.training.student import Student, hidden_states, new_student
from imagecot.worlds.drawn.training.tokenizer import to_tensor
from imagecot.worlds.drawn.training.verifier import train_verifier
from imagecot.worlds.drawn.training.verifier_recipe import VerifierRecipe
from imagecot.worlds.drawn.training.verifier_scores import balanced_accuracy, by_task, measure
from stopping import stopped_behind_state


def recipe(folder: Path, **optimization: object) -> VerifierRecipe:
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    return VerifierRecipe.model_validate(
        {
            "output": folder / "out",
            "data": folder / "data",
            "examples": 40,
            "held_out": 4,
            "vision": {**sizes, "image_size": 64, "patch_size": 16},
            "text": {**sizes, "num_key_value_heads": 1},
            "text_tokens": 96,
            "eye": {"steps": 2, "batch_size": 2, "learning_rate": 1e-2, "warmup": 1, "bf16": False},
            "optimization": {
                "steps": 6, "batch_size": 2, "learning_rate": 1e-2, "warmup": 1, "bf16": False,
                "save_every": 3, "evaluate_every": 100, **optimization,
            },
        }
    )  # fmt: skip


def student_of(setting: VerifierRecipe, tokenizer: PreTrainedTokenizerFast) -> Student:
    seed_all(setting.optimization.seed)
    return new_student(setting, tokenizer)


@pytest.fixture(autouse=True)
def small_pools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imagecot.worlds.drawn.dataset._CHUNK", 40)
    torch.set_num_threads(1)


def test_text_survives_the_tokenizer_and_questions_are_short(tmp_path: Path) -> None:
    tokenizer = new_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    for text in [
        "a photo of an umbrella",
        "Ünïcode, 画像 & 12 tabs\t\n!",
        CHAT_START + turn(CLARITY, "a cup"),
    ]:
        assert tokenizer.decode(tokenizer(text).input_ids) == text
    for question in QUESTIONS:
        extra = len(tokenizer(turn(question, "a photo of four red kites")).input_ids)
        assert extra == (2 if question is POTENTIAL else 6 + 3)
    assert len(tokenizer(CHAT_START).input_ids) == 1


def test_a_packed_row_equals_separate_sequences(tmp_path: Path) -> None:
    setting = recipe(tmp_path)
    tokenizer = new_tokenizer()
    model = student_of(setting, tokenizer).model.eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    offset = 1 + 16 + 1
    packer = Packer(tokenizer, setting.text_tokens, 16 + 1)
    scenes = [example(5, i).scene for i in range(2)]
    packed = packer(scenes, [random.Random(i) for i in range(2)])
    pixels = torch.rand(2, 3, 64, 64) * 2 - 1
    start = torch.tensor([tokenizer(CHAT_START).input_ids])
    with torch.no_grad():
        mask = attention_mask(packed.block, offset)
        together, _ = hidden_states(model, pixels, packed.ids, packed.position, mask, start)
        compared = 0
        for row in range(2):
            for number in range(1, int(packed.block[row].max()) + 1):
                own = packed.block[row] == number
                n = int(own.sum())
                mask = attention_mask(torch.ones(1, n), offset)
                position = torch.arange(offset, offset + n)[None]
                alone, _ = hidden_states(
                    model, pixels[row : row + 1], packed.ids[row, own][None], position, mask, start
                )
                torch.testing.assert_close(together[row, own], alone[0], atol=1e-4, rtol=1e-4)
                compared += 1
    assert compared >= 8


def test_the_verifier_answers_what_training_reads_off(tmp_path: Path) -> None:
    setting = recipe(tmp_path)
    tokenizer = new_tokenizer()
    model = student_of(setting, tokenizer).model.eval()
    model.set_attn_implementation("sdpa")
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    image = torch.rand(1, 3, 64, 64)
    text = tokenizer(turn(ORM, "a photo of a cup")).input_ids
    position = torch.arange(18, 18 + len(text))[None]
    mask = attention_mask(torch.ones(1, len(text)), 18)
    start = torch.tensor([tokenizer(CHAT_START).input_ids])
    with torch.no_grad():
        states, _ = hidden_states(model, image * 2 - 1, torch.tensor([text]), position, mask, start)
        logits = model.lm_head(states[0, -1])
    yes, Yes, no, No = (logits[tokenizer.convert_tokens_to_ids(w)] for w in ("yes", "Yes", "no", "No"))
    expected = torch.sigmoid(torch.logaddexp(yes, Yes) - torch.logaddexp(no, No))
    asked = LlavaOnevisionVerifier(model, tokenizer).ask(image, ["a photo of a cup"], ORM)
    torch.testing.assert_close(asked[0].float(), expected, atol=1e-4, rtol=0)


def test_patch_targets_of_one_object() -> None:
    scene = Scene((Item("apple", "orange", 40.0, 20.0, 16.0, 1),), "sky")
    x0, y0, x1, y1 = (round(v / 8) for v in scene.boxes[0])
    target = patch_targets([scene], 8).view(8, 8, 3)
    assert target[..., 0].sum() == (x1 - x0) * (y1 - y0)  # apple is kind 1
    assert target[2, 5].tolist() == [1, 2, 1]  # orange is colour 2
    assert target[..., 2].sum() == 1
    assert target[7, 0].tolist() == [0, 0, 0]


def test_a_perfect_patch_head_has_no_loss() -> None:
    target = patch_targets([example(5, i).scene for i in range(3)], 8)
    kinds = torch.nn.functional.one_hot(target[..., 0], 13)
    colors = torch.nn.functional.one_hot(target[..., 1], 11)
    logits = torch.cat([kinds, colors, target[..., 2:]], -1) * 80.0 - 40.0
    assert patch_loss(logits, target) < 1e-6
    assert patch_loss(-logits, target) > 10


def test_augmentation_depends_on_its_generator_alone_and_stays_mild() -> None:
    images = to_tensor(torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8))
    images = torch.nn.functional.avg_pool2d(images, 5, 1, 2, count_include_pad=False)
    first, again = (augment(images, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, again)
    assert first.shape == images.shape
    assert 0 <= first.min() <= first.max() <= 1
    assert 0.001 < (first - images).abs().mean() < 0.12


def losses_of(folder: Path) -> list[list[str]]:
    with (folder / "out" / "training" / "curves.csv").open() as file:
        return [row for row in csv.reader(file) if not row[1].startswith("score")]


def test_a_resumed_run_equals_an_uninterrupted_one_and_loads(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    model = train_verifier(recipe(whole))

    with stopped_behind_state(2):  # the eye keeps one
        train_verifier(recipe(parts))
    assert [path.name for path in (parts / "out/training").glob("state-*")] == ["state-0000003"]
    resumed = train_verifier(recipe(parts))
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    assert losses_of(whole) == losses_of(parts)
    assert [row[1] for row in losses_of(whole)[1:]] == ["loss", "description", "answer", "patches"]

    verifier = load_verifier(parts / "out")
    images = to_tensor(Pool(parts / "data", 40, 2).images([0, 1]))
    p = verifier.ask(images, ["a photo of a cup", "two kites"], PRM)
    assert p.shape == (2,)
    assert ((p > 0) & (p < 1)).all()
    assert "patch_head.weight" not in verifier.model.state_dict()


def test_every_trainable_weight_moves(tmp_path: Path) -> None:
    setting = recipe(tmp_path, steps=12)
    before = student_of(setting, new_tokenizer())
    train_verifier(setting)
    trained = torch.load(tmp_path / "out/training/state-0000012/custom_checkpoint_1.pkl", weights_only=True)
    for name, parameter in before.named_parameters():
        moved = not torch.equal(parameter, trained[name])
        assert moved == parameter.requires_grad, name


def test_balanced_accuracy_by_hand() -> None:
    right = torch.tensor([True, True, False, True])
    answer = torch.tensor([True, True, True, False])
    assert balanced_accuracy(right, answer) == pytest.approx((2 / 3 + 1) / 2)


def test_scores_are_counted_task_by_task() -> None:
    task = torch.arange(6).repeat_interleave(2)
    answer = torch.tensor([True, False] * 6)
    right = torch.ones(12, dtype=torch.bool)
    right[4] = False  # the yes of counting
    scores = by_task(right, answer, task)
    assert scores == {
        "single_object": 1.0, "two_object": 1.0, "counting": 0.5, "colors": 1.0, "position": 1.0,
        "color_attr": 1.0, "mean": pytest.approx(5.5 / 6),
    }  # fmt: skip


def test_a_judge_that_always_agrees_measures_one_half(tmp_path: Path) -> None:
    asked: list[str] = []

    class Agrees:
        def ask(self, images: torch.Tensor, prompts: list[str], question: object) -> torch.Tensor:
            assert images.shape == (len(prompts), 3, 64, 64)
            assert question is ORM
            asked.extend(prompts)
            return torch.ones(len(prompts))

    scores = measure(Agrees(), Pool(tmp_path, 40, 11), questions=4, batch=7)  # type: ignore[arg-type]
    assert set(scores.values()) == {0.5}
    assert len(asked) == 160


def test_unknown_keys_are_refused(tmp_path: Path) -> None:
    values = recipe(tmp_path).model_dump()
    with pytest.raises(ValidationError, match="answer_wieght"):
        VerifierRecipe.model_validate({**values, "answer_wieght": 2})
