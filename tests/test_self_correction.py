"""Training of self-correction: inputs by hand, every weight moves, resume, and the reasons are learnt."""

import csv

import pytest
import torch

from imagecot.alignment.self_correction import SelfCorrectionRecipe, train_self_correction
from imagecot.contracts.correction import Correction
from imagecot.contracts.randomness import path_seeds
from imagecot.curation.corrections import write_corrections
from imagecot.curation.schema import CorrectionRow
from imagecot.errors import UsageError
from imagecot.generators import load_generator
from plain_decoder import tiny_prompting
from small_models import write_generator
from stopping import stopped_behind_state

torch.set_num_threads(1)
N = 16
OPTIMIZATION = {"batch_size": 8, "warmup": 1, "bf16": False, "save_every": 2, "evaluate_every": 1000, "ema": 0.5}


@pytest.fixture
def base(tmp_path):
    return write_generator(tmp_path / "base")


@pytest.fixture
def groups(tmp_path):
    """The accepted image is all 1 where the reasons say cat, and all 2 where they say dog."""
    rows = [
        CorrectionRow(f"{k}", "a photo of a bird", "x", "{}", word, k, k, [k // 2 + 3] * N, [code] * N, 0.1)
        for k, (word, code) in enumerate([("no cat", 1), ("two dogs", 2)] * 4)
    ]
    write_corrections(tmp_path / "groups", rows, {})
    return tmp_path / "groups"


def recipe(base, groups, output, steps: int, rate: float = 1e-3, **more) -> SelfCorrectionRecipe:
    return SelfCorrectionRecipe(
        output=output, base=str(base), groups=groups, prompts_per_task=0,
        optimization={"steps": steps, "learning_rate": rate, **OPTIMIZATION}, **more,
    )  # fmt: skip


def test_inputs_by_hand():
    prompting = tiny_prompting()
    codes, rejected = torch.arange(2 * N).view(2, N), torch.arange(2 * N).view(2, N) + 20
    mask = torch.zeros(2, N, dtype=torch.bool)
    mask[0, 1] = True
    told = [("a cat", Correction(rejected[0])), ("two dogs", Correction(rejected[1], "and a cat"))]
    ids = prompting.with_images(told, codes.masked_fill(mask, -1))
    short, long = prompting.text_prefix("a cat"), prompting.text_prefix("two dogs and a cat")
    first = prompting.config.code_offset
    before = [prompting.soi_id, *range(first + 20, first + 20 + N), prompting.eoi_id]
    drawn = [prompting.soi_id, first, prompting.mask_id, *range(first + 2, first + N), prompting.eoi_id]
    assert ids[0].tolist() == [prompting.pad_id] * (len(long) - len(short)) + short + before + drawn
    assert ids[1, : len(long)].tolist() == long
    alone = prompting.with_images(["a cat"], codes[:1].masked_fill(mask[:1], -1))
    assert alone[0].tolist() == short + drawn


@pytest.mark.parametrize("plain_share", [0.0, 0.5])
def test_every_weight_moves(base, groups, tmp_path, plain_share):
    before = load_generator(base, dtype=torch.float32).model.state_dict()
    trained = train_self_correction(recipe(base, groups, tmp_path / "out", 4, plain_share=plain_share))
    still = [name for name, value in trained.model.state_dict().items() if torch.equal(value, before[name])]
    # Keys attend alike where all of them are shifted: the softmax does not see their biases.
    assert [name for name in still if not name.endswith("k_layernorm.bias")] == []
    saved = load_generator(tmp_path / "out")
    assert (saved.steps, saved.guidance_scale) == (4, 1.75)
    for name, value in saved.model.state_dict().items():
        torch.testing.assert_close(value, trained.model.state_dict()[name], atol=2e-3, rtol=2e-3)


def test_an_adapter_moves_and_is_read_back(base, groups, tmp_path):
    before = load_generator(base, dtype=torch.float32).model.state_dict()
    trained = train_self_correction(recipe(base, groups, tmp_path / "out", 4, lora={"r": 2, "alpha": 4}))
    values = trained.model.state_dict()
    frozen = {name: value for name, value in values.items() if ".lora_" not in name}
    assert all(torch.equal(value, before[name.replace(".base_layer", "")]) for name, value in frozen.items())
    updates = [value for name, value in values.items() if ".lora_B." in name]
    assert len(updates) == 18 and all(bool(value.any()) for value in updates)
    assert (tmp_path / "out/adapter_model.safetensors").is_file()
    card = (tmp_path / "out/README.md").read_text()
    assert f"base_model: {base}" in card and "library_name: peft" in card and "r: 2" in card
    saved = load_generator(tmp_path / "out", dtype=torch.float32)
    seeds = path_seeds(0, 2)
    ends = []
    for generator in (saved, trained):
        paths = generator.correct(["a photo of a bird"], seeds, [Correction(torch.full((N,), 5), "no cat")])
        while not paths.finished:
            paths = generator.advance(paths)
        ends.append(paths.codes)
    assert torch.equal(*ends)


def curves(folder) -> list[list[str]]:
    with (folder / "training/curves.csv").open() as file:
        return list(csv.reader(file))


def test_a_killed_training_ends_with_the_same_losses_and_weights(base, groups, tmp_path):
    whole = train_self_correction(recipe(base, groups, tmp_path / "whole", 6))
    with stopped_behind_state():
        train_self_correction(recipe(base, groups, tmp_path / "cut", 6))
    kept = {file.name for file in (tmp_path / "cut/training").iterdir()}
    assert kept == {"state-0000002", "curves.csv"}
    assert not (tmp_path / "cut/config.json").exists()
    again = train_self_correction(recipe(base, groups, tmp_path / "cut", 6))
    for one, other in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert curves(tmp_path / "cut") == curves(tmp_path / "whole")
    assert any(name == "correction" for _, name, _ in curves(tmp_path / "cut"))


def test_it_learns_what_the_reasons_ask_for(base, groups, tmp_path):
    trained = train_self_correction(
        recipe(base, groups, tmp_path / "out", 60, rate=1e-2, reasons_dropout=0.0, plain_share=0.25)
    )
    for reasons, code in (("no cat", 1), ("two dogs", 2)):
        told = [Correction(torch.full((N,), 5), reasons)]
        paths = trained.correct(["a photo of a bird"], path_seeds(0, 4), told)
        while not paths.finished:
            paths = trained.advance(paths)
        assert float((paths.codes == code).float().mean()) > 0.9


def test_groups_of_another_size_are_refused(base, groups, tmp_path):
    short = CorrectionRow("1", "a", "", "{}", "b", 1, 1, [1, 2], [1, 2], 0.1)
    write_corrections(tmp_path / "other", [short], {})
    with pytest.raises(UsageError, match="has 2 rejected_codes, the generator's images 16"):
        train_self_correction(recipe(base, tmp_path / "other", tmp_path / "out", 2))
    assert not (tmp_path / "out").exists()
