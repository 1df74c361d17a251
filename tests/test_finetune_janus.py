"""Fine-tuning a Janus as a reward model: what moves, that it resumes, that its adapter and its whole weights load."""

import csv
from pathlib import Path

import pytest
import torch

from imagecot.contracts.questions import ORM
from imagecot.curation.dataset import RankingData, ranking_row
from imagecot.generators import load_generator
from imagecot.geneval.prompts import OBJECT_NAMES, single_object_metadata
from imagecot.reward_models.finetune import train_answers
from imagecot.reward_models.recipe import FineTuneRecipe
from imagecot.reward_models.rows import answer_ids, images_of
from imagecot.verifiers import load_verifier
from imagecot.verifiers.janus import JanusVerifier
from imagecot.worlds.drawn.training.janus_text import janus_processor, janus_tokenizer
from stopping import stopped_behind_state
from test_janus_answers import small_janus

torch.set_num_threads(1)
DRAWING = ("vqmodel", "generation_")
IMAGES = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(5))


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imagecot.training.curves.Curves._draw", lambda curves: None)  # of curves, which take longest


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Janus whose questions are a few tokens."""
    folder, tokenizer = tmp_path_factory.mktemp("base") / "janus", janus_tokenizer()
    small_janus(tokenizer).save_pretrained(folder)
    janus_processor(tokenizer, 64, 16).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bright pictures are right, dark ones wrong; some are wide."""
    folder = tmp_path_factory.mktemp("data") / "orm"
    draw, rows = torch.Generator().manual_seed(0), []
    for k, name in enumerate(OBJECT_NAMES[:20]):
        for right in (True, False):
            image = torch.full((3, 64, 64 + 8 * (k % 2)), 0.9 if right else 0.1)
            image = image + 0.02 * torch.rand(image.shape, generator=draw)
            place = {"step": 3, "steps": 3, "seed": 2 * k + right}
            rows.append(ranking_row(single_object_metadata(name), "orm", image, **place, label=right))
    RankingData(folder, {}).keep(0, rows)
    return folder


def recipe(base: Path | str, data: Path, output: Path, **more: object) -> FineTuneRecipe:
    values = {
        "output": output, "base": str(base), "data": [{"folder": data}], "epochs": 2, "batch_size": 8,
        "learning_rate": 3e-3, "held_out": 0.2, "evaluate_every": 8, "save_every": 2,
    }  # fmt: skip
    return FineTuneRecipe.model_validate({**values, **more})


def curves(folder: Path) -> list[list[str]]:
    with (folder / "training/curves.csv").open() as file:
        return list(csv.reader(file))[1:]


def test_whole_weights_learn_and_what_draws_stays(base: Path, data: Path, tmp_path: Path) -> None:
    before = {name: one.clone() for name, one in load_verifier(base).model.named_parameters()}
    setting = recipe(base, data, tmp_path / "out", vision_learning_rate=1e-3, epochs=4)
    trained = train_answers(setting)
    assert isinstance(trained, JanusVerifier)
    for name, parameter in trained.model.named_parameters():
        assert torch.equal(parameter, before[name]) == any(part in name for part in DRAWING), name
    losses = [float(value) for _, name, value in curves(tmp_path / "out") if name == "loss"]
    assert losses[-1] < losses[0]
    again = load_verifier(tmp_path / "out")
    p = trained.ask(IMAGES, ["a cup"], ORM)
    torch.testing.assert_close(again.ask(IMAGES, ["a cup"], ORM), p, atol=0.02, rtol=0)  # saved in half precision
    assert load_generator(tmp_path / "out").settings == load_generator(base).settings


def test_the_eye_stays_where_its_rate_is_zero(base: Path, data: Path, tmp_path: Path) -> None:
    before = {name: one.clone() for name, one in load_verifier(base).model.named_parameters()}
    trained = train_answers(recipe(base, data, tmp_path / "out", epochs=0.3))
    for name, parameter in trained.model.named_parameters():
        still = ("vision_model", *DRAWING)
        assert torch.equal(parameter, before[name]) == any(part in name for part in still), name


@pytest.mark.parametrize("vision_rate", [0.0, 1e-2])
def test_an_adapter_resumes_and_loads_onto_its_base(vision_rate: float, base: Path, data: Path, tmp_path: Path) -> None:
    values = {"lora": {"r": 4, "alpha": 8}, "learning_rate": 1e-2, "vision_learning_rate": vision_rate}
    whole = train_answers(recipe(base, data, tmp_path / "whole", **values))
    with stopped_behind_state():
        train_answers(recipe(base, data, tmp_path / "parts", **values))
    trained = train_answers(recipe(base, data, tmp_path / "parts", **values))
    assert curves(tmp_path / "whole") == curves(tmp_path / "parts")
    initial = {name: one for name, one in load_verifier(base).model.named_parameters()}
    moving = {name: one for name, one in trained.model.named_parameters() if one.requires_grad}
    for name, one in dict(whole.model.named_parameters()).items():
        assert torch.equal(one, dict(trained.model.named_parameters())[name]), name
        if name in initial:
            assert torch.equal(one, initial[name]), name
    assert all(bool(one.any()) for name, one in moving.items() if "lora_B" in name)
    parts = {name.split("lora_")[1][:1] for name in moving}
    assert parts == {"A", "B"}
    assert any("vision_model" in name for name in moving) == (vision_rate > 0)
    assert not any(part in name for part in DRAWING for name in moving)
    trained.model.eval()
    p = trained.ask(IMAGES, ["a cup"], ORM)
    torch.testing.assert_close(load_verifier(tmp_path / "parts").ask(IMAGES, ["a cup"], ORM), p, atol=1e-5, rtol=0)
    assert (load_verifier(base).ask(IMAGES, ["a cup"], ORM) - p).abs().max() > 1e-3


def test_an_adapter_on_an_adapter(base: Path, data: Path, tmp_path: Path) -> None:
    values = {"lora": {"r": 2, "alpha": 4}, "learning_rate": 1e-2, "epochs": 0.5}
    train_answers(recipe(base, data, tmp_path / "first", **values))
    second = train_answers(recipe(tmp_path / "first", data, tmp_path / "second", **values))
    second.model.eval()
    p = second.ask(IMAGES, ["a cup"], ORM)
    torch.testing.assert_close(load_verifier(tmp_path / "second").ask(IMAGES, ["a cup"], ORM), p, atol=1e-5, rtol=0)
    first = load_verifier(tmp_path / "first").ask(IMAGES, ["a cup"], ORM)
    assert (first - p).abs().max() > 1e-4


def test_answers_are_said_as_the_template_writes_them(base: Path) -> None:
    verifier = load_verifier(base)
    assert isinstance(verifier, JanusVerifier)
    image = torch.zeros(3, 64, 64)
    place = {"step": 3, "steps": 3, "seed": 0}
    row = ranking_row(single_object_metadata("cup"), "orm", image, **place, label=True)
    assert verifier.tokenizer.decode(answer_ids(verifier, row, "static")) == " yes"
    wide = ranking_row(single_object_metadata("cup"), "orm", image[:, :30], **place, label=True)
    assert images_of([row, wide], verifier).shape == (2, 3, 64, 64)
