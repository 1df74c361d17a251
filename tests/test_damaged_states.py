"""Trainings from damaged states and on full disks: one sentence, no half files."""

import errno
import os
import shutil
import signal
from dataclasses import replace

import pytest
import torch
from PIL import Image

from imagecot import files, interruption
from imagecot.alignment.dpo import train_dpo
from imagecot.alignment.pair_data import load_pairs
from imagecot.curation.pairs import write_pairs
from imagecot.curation.schema import PairRow
from imagecot.errors import ImagecotError, UsageError
from imagecot.generators import load_generator
from imagecot.images import png
from imagecot.training.curves import Curves
from imagecot.training.optimization import Optimization, batch_indices
from imagecot.training.output import is_finished, open_output
from imagecot.training.pictures import save_grid
from imagecot.training.scratch import train_from_scratch
from imagecot.training.state import read_state, seed_all, write_state
from imagecot.worlds.drawn import dataset
from small_models import write_generator
from small_trainings import pairs_in, recipe, same, undisturbed
from stopping import Toy, stopped_behind_state

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_generator(tmp_path_factory.mktemp("base") / "generator")


@pytest.fixture(scope="module")
def drawer(base):
    return load_generator(base)


@pytest.fixture(scope="module")
def straight(base, tmp_path_factory):
    """What an undisturbed training of two steps leaves."""
    return undisturbed(base, tmp_path_factory.mktemp("straight"))


@pytest.fixture
def data(tmp_path):
    return pairs_in(tmp_path)


@pytest.fixture
def stopped(base, data, tmp_path):
    """A training of two steps that was stopped behind the first."""
    asked = recipe(base, data, tmp_path / "stopped", save_every=1)
    with stopped_behind_state():
        train_dpo(asked)
    return asked


DAMAGE = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "text": lambda data: b"not a state",
    "zeros": lambda data: bytes(len(data)),
    "flipped": lambda data: data[:40] + bytes(255 - byte for byte in data[40:400]) + data[400:],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_torch_files_of_any_damage_are_one_sentence(damage, tmp_path):
    write_state(tmp_path / "x.pt", {"a": torch.arange(300.0)})
    assert torch.equal(read_state(tmp_path / "x.pt")["a"], torch.arange(300.0))
    (tmp_path / "x.pt").write_bytes(DAMAGE[damage]((tmp_path / "x.pt").read_bytes()))
    with pytest.raises(ImagecotError, match=r"x\.pt is damaged \(.*\); delete it"):
        read_state(tmp_path / "x.pt")


@pytest.mark.parametrize("damage", ["cut", "zeros"])
def test_damaged_files_of_a_state_are_named(stopped, damage):
    folder = stopped.output / "training/state-0000001"
    names = sorted(file.name for file in folder.iterdir())
    assert names == ["custom_checkpoint_0.pkl", "model.safetensors", "optimizer.bin"]
    for name in names:
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(DAMAGE[damage](whole))
        with pytest.raises(ImagecotError, match=r"state-0000001.* is damaged .*delete .*state-0000001 to train from"):
            train_dpo(stopped)
        if damage == "cut":
            (folder / name).unlink()
            with pytest.raises(ImagecotError, match="state-0000001"):
                train_dpo(stopped)
        (folder / name).write_bytes(whole)


def test_states_that_fit_another_model_or_hold_code(stopped, tmp_path):
    folder = stopped.output / "training/state-0000001"
    file = folder / "optimizer.bin"
    whole = file.read_bytes()
    for wrong in ({}, [1], {"state": {}, "param_groups": []}, {"state": {"x": {}}}, torch.zeros(3)):
        torch.save(wrong, file)
        with pytest.raises(ImagecotError, match=r"state-0000001.* is damaged"):
            train_dpo(stopped)

    class Code:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save(Code(), file)
    with pytest.raises(ImagecotError, match="something other than tensors"):
        train_dpo(stopped)
    assert not (tmp_path / "ran").exists()
    file.write_bytes(whole)
    held = torch.load(folder / "optimizer.bin", weights_only=True)
    held["state"][0]["exp_avg"] = torch.zeros(1, 2)
    torch.save(held, folder / "optimizer.bin")
    with pytest.raises(ImagecotError, match=r"state-0000001 is damaged \(exp_avg of the optimizer has the shape"):
        train_dpo(stopped)
    held["state"][0]["exp_avg"] = torch.full((1, 2), float("nan"))
    torch.save(held, folder / "optimizer.bin")
    with pytest.raises(ImagecotError, match=r"optimizer\.bin is damaged .*not finite"):
        train_dpo(stopped)


def test_damaged_caches_and_curves_are_named(stopped, straight):
    training = stopped.output / "training"
    for pattern in ("codes-*/*.pt", "reference-*/*.pt"):
        [file] = training.glob(pattern)
        whole = file.read_bytes()
        for content in (b"", whole[:-200]):
            file.write_bytes(content)
            with pytest.raises(ImagecotError, match=r"0000000\.pt is damaged .*; delete it to compute it again"):
                train_dpo(stopped)
        torch.save(torch.full((4, 16), 99, dtype=torch.int16), file)
        with pytest.raises(ImagecotError, match=r"damaged|finite"):
            train_dpo(stopped)
        file.write_bytes(whole)
    curves = training / "curves.csv"
    for text in ("step,name,value\n1,loss\n", "step,name,value\nx,loss,1\n", "", "\0", '1,"a\n', "a,b,c\n1,a,b\n"):
        curves.write_text(text)
        with pytest.raises(ImagecotError, match=r"curves\.csv is damaged"):
            Curves(training, 1)
    with pytest.raises(ImagecotError, match=r"curves\.csv is damaged"):
        train_dpo(stopped)
    curves.unlink()
    train_dpo(stopped)
    assert same(stopped.output, straight)


def scratch(output, steps: int, model=None) -> None:
    """A training from scratch."""
    opt = Optimization(steps=steps, batch_size=1, learning_rate=1e-2, bf16=False, save_every=1)
    model = model or torch.nn.Linear(3, 2)
    train_from_scratch(Summed(model), model, opt, open_output(Toy(output=output)), title="toy")


class Summed(torch.nn.Module):
    def __init__(self, model) -> None:
        super().__init__()
        self.model = model

    def forward(self, part):
        return {"loss": self.model(torch.ones(1, self.model.in_features)).sum()}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_states_of_a_training_from_scratch_are_named(damage, tmp_path):
    scratch(tmp_path, 1)
    state = tmp_path / "training/state-0000001"
    names = sorted(file.name for file in state.iterdir())
    assert names == [
        "custom_checkpoint_0.pkl", "custom_checkpoint_1.pkl", "model.safetensors", "optimizer.bin",
    ]  # fmt: skip
    for name in names:
        whole = (state / name).read_bytes()
        (state / name).write_bytes(DAMAGE[damage](whole))
        with pytest.raises(ImagecotError, match=r"state-0000001.* is damaged .*; delete .*state-0000001 to train from"):
            scratch(tmp_path, 2)
        (state / name).write_bytes(whole)
    with pytest.raises(ImagecotError, match=r"state-0000001 is damaged"):
        scratch(tmp_path, 2, torch.nn.Linear(4, 2))
    scratch(tmp_path, 2)
    assert [path.name for path in (tmp_path / "training").glob("state-*")] == ["state-0000002"]


def test_sums_and_averages_of_something_else_are_refused(tmp_path):
    scratch(tmp_path, 1)
    state = tmp_path / "training/state-0000001"
    average = torch.load(state / "custom_checkpoint_1.pkl", weights_only=True)
    wrong = {
        "custom_checkpoint_0.pkl": [{}, [], {"sums": 3, "steps": 1}, {"sums": {"a": "x"}, "steps": 1},
                                    {"sums": {}, "steps": -1}],
        "custom_checkpoint_1.pkl": [{}, {"weight": torch.zeros(2, 3)}, {**average, "bias": torch.zeros(5)},
                                    {**average, "bias": torch.full((2,), float("nan"))}],
    }  # fmt: skip
    for name, values in wrong.items():
        whole = (state / name).read_bytes()
        for value in values:
            torch.save(value, state / name)
            with pytest.raises(ImagecotError, match=r"state-0000001.* is damaged"):
                scratch(tmp_path, 2)
        (state / name).write_bytes(whole)

    class Code:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save(Code(), state / "custom_checkpoint_1.pkl")
    with pytest.raises(ImagecotError, match="something other than tensors"):
        scratch(tmp_path, 2)
    assert not (tmp_path / "ran").exists()


def test_states_of_earlier_versions_are_refused(stopped, tmp_path):
    """Those from scratch were one file; others kept no sums."""
    scratch(tmp_path / "out", 1)
    shutil.rmtree(tmp_path / "out/training/state-0000001")
    (tmp_path / "out/training/state.pt").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"state\.pt is the state of a training that an earlier .*; delete .*out to"):
        scratch(tmp_path / "out", 2)
    (stopped.output / "training/state-0000001/custom_checkpoint_0.pkl").unlink()
    with pytest.raises(ImagecotError, match=r"state-0000001 is of an earlier version; delete it to train from"):
        train_dpo(stopped)


@pytest.mark.parametrize("allowed", [1, 3, 5])
def test_a_full_disk_is_one_sentence_and_the_training_goes_on(allowed, base, data, straight, tmp_path, monkeypatch):
    """The disk is full from the n-th torch file, checkpoint or small file on."""
    count = 0

    def full(write, text):
        def failing(*arguments, **named):
            nonlocal count
            count += 1
            if count >= allowed:
                raise text
            return write(*arguments, **named)

        return failing

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full(torch.save, RuntimeError("basic_ios::clear: iostream error")))
        space = OSError(errno.ENOSPC, "No space left on device")
        patch.setattr(files.os, "replace", full(os.replace, space))
        with pytest.raises(ImagecotError, match=r"^cannot write .*: .*\.$"):
            train_dpo(recipe(base, data, tmp_path / "out"))
    assert not [path for path in (tmp_path / "out").rglob("*") if path.name.endswith(".partial")]
    train_dpo(recipe(base, data, tmp_path / "out"))
    assert same(tmp_path / "out", straight)


def test_a_request_to_stop_that_got_lost_ends_the_training(base, data, tmp_path, monkeypatch):
    monkeypatch.setattr(interruption, "_asked", interruption.Stopped(signal.SIGTERM))
    with pytest.raises(interruption.Stopped):
        train_dpo(recipe(base, data, tmp_path / "out"))
    monkeypatch.setattr(interruption, "_asked", None)
    train_dpo(recipe(base, data, tmp_path / "out"))
    assert is_finished(tmp_path / "out")


def test_partial_states_follow_no_links_and_are_cleaned(stopped, tmp_path):
    victim = tmp_path / "victim"
    victim.mkdir()
    (stopped.output / "training/.state-0000002.partial").symlink_to(victim)
    (stopped.output / "training/.state-0000002.abc.partial").mkdir()
    train_dpo(stopped)
    assert not list(victim.iterdir())
    states = [path.name for path in (stopped.output / "training").glob("*state-*") if not path.is_symlink()]
    assert states == ["state-0000002"]


def test_what_a_launcher_left_behind_is_one_process(base, data, tmp_path, monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    train_dpo(recipe(base, data, tmp_path / "out"))
    assert is_finished(tmp_path / "out")


def test_curves_of_any_names_are_drawn(tmp_path, painted):
    curves = Curves(tmp_path, 0)
    curves.add(1, {"score/$x_{": 0.5, 'a,b\n"': 1.0})
    curves.save()
    assert Curves(tmp_path, 1).rows == curves.rows
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.width > 500
    save_grid(tmp_path / "grid.png", torch.rand(4, 3, 8, 8), ["an $x_{ apple", "a cup"])
    with Image.open(tmp_path / "grid.png") as picture:
        assert picture.height > 200


def test_large_seeds_train(base, data, tmp_path):
    train_dpo(recipe(base, data, tmp_path / "out", seed=2**63 - 1, steps=1))
    seed_all(2**63 - 1)
    assert batch_indices(9, Optimization(steps=1, batch_size=3, learning_rate=1, seed=2**63 - 1), 10**6)


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_scenes_of_the_drawn_world_are_named(damage, tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "_CHUNK", 4)
    folder = dataset.Pool(tmp_path, 4, seed=1, workers=1).folder
    for name in ("00000.npy", "00000.jsonl"):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(DAMAGE[damage](whole))
        with pytest.raises(ImagecotError, match="draw it again"):
            _ = [dataset.Pool(tmp_path, 4, seed=1, workers=1)[k] for k in range(4)]
        (folder / name).write_bytes(whole)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chosen_codes": [64] * 16}, "the code 64 in chosen_codes, but the generator's are 0 to 63"),
        ({"before_codes": [99] * 16, "told": "no cup"}, "the code 99 in before_codes"),
        ({"chosen_codes": [1] * 9, "rejected_codes": [2] * 9}, "has 9 chosen_codes, the generator's images 16"),
        ({"rejected_codes": [1] * 16}, "are the same image"),
        ({"prompt": "a " * 500}, "tokens but this generator"),
    ],
)
def test_curated_pairs_of_another_world_are_refused(change, message, drawer, tmp_path):
    images = [png(torch.rand(3, 16, 16)) for _ in range(2)]
    row = PairRow("one", "a red bench", "colors", "{}", 1, 2, *images, [1] * 16, [2] * 16)
    write_pairs(tmp_path / "pairs", [replace(row, **change)], {})
    with pytest.raises(ImagecotError, match=message):
        load_pairs(tmp_path / "pairs", drawer, tmp_path / "cache")
