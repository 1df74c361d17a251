"""Trainings by several processes: the same losses and weights as one, in whole weights and in shares, and resumed."""

import re
import subprocess
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from imagecot import recipes, training
from imagecot.errors import UsageError
from imagecot.training import loop
from imagecot.training.loop import Part, Shares
from imagecot.training.output import is_finished
from several import (
    LORA,
    PAIRS,
    ROWS,
    curve,
    environment,
    forked,
    free_port,
    member,
    pairs_in,
    prompts_in,
    rows_in,
    started,
    torchrun,
    write_recipe,
)
from small_models import write_generator, write_janus, write_verifier

torch.set_num_threads(1)
SHARD = {"dpo": "training.shard=true", "reward-model": "shard=true"}
LOSS = {"dpo": "pairs/loss", "reward-model": "loss"}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Recipes of every kind of training, by their names."""
    here = tmp_path_factory.mktemp("many")
    drawer, judge = write_generator(here / "generator"), write_verifier(here / "verifier")
    pairs, rows, prompts = pairs_in(here / "pairs"), rows_in(here / "rows"), prompts_in(here)
    guided = {"verifier": "small_models:Brightness", "prompts": prompts, "group": 4, "prompts_a_step": 4, "draws": 2}

    def dpo(name: str, base: Path = drawer, data: Path | None = pairs, **changes: object) -> None:
        values = {"kind": "dpo", "output": here / "x", "base": base, "training": PAIRS | changes}
        write_recipe(here / f"{name}.yaml", values | ({"data": data} if data else {}))

    def reward(name: str, **changes: object) -> None:
        values = {"kind": "reward-model", "output": here / "x", "base": judge, "data": [{"folder": rows}]}
        write_recipe(here / f"{name}.yaml", values | {"epochs": 2.5} | ROWS | changes)

    low = {"lora": LORA, "learning_rate": 1e-2}
    dpo("dpo")
    dpo("lora", **low)
    dpo("checkpointed", gradient_checkpointing=True, accumulate=2, batch_size=4)
    dpo("guided", online=guided | {"kl": 0.1})
    dpo("guided-lora", online=guided, pictures=2, evaluate_every=10, **low)
    dpo("grpo", data=None, dpo_weight=0, online=guided | {"estimator": "masks"})
    # Without guidance: what it draws flips a code sooner or later where weights differ in the last digit.
    dpo("janus", base=write_janus(here / "janus"))
    reward("reward-model")
    reward("reward-model-lora", **low)
    return here


def followed(made: Path, name: str, world: int, output: Path, *changes: str) -> Path:
    forked(world, lambda: training.run(recipes.read(made / f"{name}.yaml", [f"output={output}", *changes])))
    return output


def same(one: Path, other: Path, name: str) -> None:
    """Losses of every step within 1e-5, and weights as near, but those that no loss depends on."""
    for term in (name, "online/loss", "score/kl", "score/reward", "score/auroc"):
        a, b = curve(one, term), curve(other, term)
        assert len(a) == len(b) and (a or term != name)
        assert a == pytest.approx(b, abs=1e-5), term
    states = [next((folder / "training").glob("state-*")) / "model.safetensors" for folder in (one, other)]
    a, b = map(load_file, states)
    assert a.keys() == b.keys()
    for weight, value in a.items():
        # What all keys have in common has no gradient but rounding, which AdamW makes as large as any.
        if not weight.endswith(("k_layernorm.bias", "k_proj.bias")):
            torch.testing.assert_close(value, b[weight], atol=1e-4, rtol=1e-4, msg=weight)


def kind_of(name: str) -> str:
    return "reward-model" if name.startswith("reward") else "dpo"


def loss_of(name: str) -> str:
    return "online/loss" if name == "grpo" else LOSS[kind_of(name)]


def test_torchrun_starts_them(made, tmp_path):
    few = ["training.steps=4"]
    one = followed(made, "lora", 1, tmp_path / "one", *few)
    command = torchrun(2, "train", str(made / "lora.yaml"), f"output={tmp_path / 'two'}", *few, "--processes=2")
    found = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stderr
    assert not found.stderr.replace("*", "").strip()
    same(one, tmp_path / "two", "pairs/loss")


@pytest.mark.parametrize(
    ("name", "few"),
    [pytest.param("guided", "training.steps=4", marks=pytest.mark.slow), ("reward-model", "epochs=0.8")],
)
def test_two_processes_with_shares_are_as_one(made, tmp_path, name, few):
    one = followed(made, name, 1, tmp_path / "one", few)
    same(one, followed(made, name, 2, tmp_path / "two", few, SHARD[kind_of(name)]), loss_of(name))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["dpo", "lora", "checkpointed", "guided", "guided-lora", "grpo", "janus", "reward-model",
     "reward-model-lora"],
)  # fmt: skip
def test_any_number_of_processes_is_as_one(made, tmp_path, name):
    one = followed(made, name, 1, tmp_path / "one")
    for world in (2, 4):
        for how, changes in (("whole", []), ("shares", [SHARD[kind_of(name)]])):
            same(one, followed(made, name, world, tmp_path / f"{how}-{world}", *changes), loss_of(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dpo", "reward-model-lora"])
def test_half_precision_is_near_in_shares(made, tmp_path, name):
    """Shares are put together in bfloat16, which rounds weights that autocast does not."""
    precision = "precision=bf16" if kind_of(name) == "reward-model" else "training.precision=bf16"
    one = followed(made, name, 1, tmp_path / "one", precision)
    two = followed(made, name, 2, tmp_path / "two", precision, SHARD[kind_of(name)])
    assert curve(one, loss_of(name)) == pytest.approx(curve(two, loss_of(name)), abs=0.05)


# --- killed, and resumed by others


def killed_behind_state(made: Path, name: str, world: int, output: Path, after: int, *changes: str) -> int:
    """Kill all processes of a training as soon as it has kept a state behind `after`; returns its step."""
    save = loop.save_state

    def slowly(*arguments: object) -> None:
        save(*arguments)
        time.sleep(1.0)  # a training of twenty steps is over before anybody could kill it

    def work() -> None:
        loop.save_state = slowly
        training.run(recipes.read(made / f"{name}.yaml", [f"output={output}", *changes]))

    def kept() -> int:
        return max((int(path.name[6:]) for path in output.glob("training/state-*")), default=0)

    members = started(world, work)
    try:
        while (step := kept()) <= after:
            assert all(one.is_alive() for one in members)
            time.sleep(0.01)
    finally:
        for one in members:
            one.kill()
            one.join()
    assert not is_finished(output)
    return step


@pytest.mark.parametrize(
    ("name", "turn"),
    [("lora", 1), *(pytest.param(n, t, marks=pytest.mark.slow) for n in ("dpo", "reward-model") for t in (0, 1))],
)
def test_a_killed_training_goes_on_with_other_processes(made, tmp_path, name, turn):
    """One process, then two, four, and one; whole weights and shares in turn."""
    often = "save_every=2" if name == "reward-model" else "training.save_every=2"
    one = followed(made, name, 1, tmp_path / "one", often)
    step, changed = 0, tmp_path / "changed"
    for k, world in enumerate((1, 2, 4)):
        shard = [SHARD[kind_of(name)]] if (k + turn) % 2 else []
        step = killed_behind_state(made, name, world, changed, step, often, *shard)
    followed(made, name, 1, changed, often)
    same(one, changed, loss_of(name))


@pytest.mark.parametrize("dead", [1, pytest.param(0, marks=pytest.mark.slow)])
def test_who_loses_another_one_says_so_and_leaves_nothing_half_written(made, tmp_path, dead):
    """Without torchrun, which ends all of them."""
    slow, port = ["training.save_every=1", "training.steps=60"], free_port()
    changes = [f"output={tmp_path / 'out'}", *slow]
    both = [member(rank, 2, port, made / "lora.yaml", *changes) for rank in range(2)]
    end = time.monotonic() + 200
    try:
        while not list(tmp_path.glob("out/training/state-*")):
            assert all(one.poll() is None for one in both) and time.monotonic() < end
            time.sleep(0.05)
    except AssertionError:
        for one in both:
            one.kill()
        raise
    both[dead].kill()
    told = both[1 - dead].communicate(timeout=60)[1]
    both[dead].communicate()
    assert both[1 - dead].returncode == 1
    assert re.fullmatch(
        rf"error: process {1 - dead} of 2 has lost another one, which ended or was silent for 600 seconds; the same "
        r"command goes on from the last state, with as many processes as there are\.\n", told,
    ), told  # fmt: skip
    assert len(list(tmp_path.glob("out/training/state-*"))) == 1
    if dead:
        assert not list(tmp_path.rglob("*.partial"))
    assert not is_finished(tmp_path / "out")


def test_peers_that_never_come_are_waited_for_in_bounded_time(made, tmp_path):
    began = time.monotonic()
    alone = member(0, 3, free_port(), made / "lora.yaml", f"output={tmp_path}", first="peers.COMING = 3.0")
    other = member(1, 2, free_port(), made / "lora.yaml", f"output={tmp_path}", first="peers.COMING = 3.0")
    for one, which in ((alone, "0 of 3"), (other, "1 of 2")):
        told = one.communicate(timeout=100)[1]
        assert one.returncode == 1 and len(told.splitlines()) == 1, told
        assert re.match(
            f"error: process {which} waited 3 seconds at localhost:.* for the others, who did not come", told
        )
    assert time.monotonic() - began < 90 and not list(tmp_path.iterdir())


def test_a_first_process_that_fails_ends_those_who_wait(made, tmp_path):
    """What it says is its own."""
    port, full = free_port(), "import imagecot.alignment.pair_term as t; from imagecot.errors import ImagecotError"
    fail = "t.load_pairs = lambda *_, **__: (_ for _ in ()).throw(ImagecotError('no pairs.'))"
    changes = [f"output={tmp_path / 'out'}"]
    both = [
        member(rank, 2, port, made / "lora.yaml", *changes, first=f"{full}; {fail}" if rank == 0 else "")
        for rank in range(2)
    ]
    told = [one.communicate(timeout=120)[1] for one in both]
    assert [one.returncode for one in both] == [1, 1]
    assert told == ["error: no pairs.\n", "error: process 1 ends because process 0, which works first, failed.\n"]


# --- shares of a step


@pytest.mark.parametrize(("parts", "size", "world"), [(1, 8, 1), (1, 8, 2), (1, 8, 8), (4, 2, 2), (6, 4, 4), (2, 6, 6)])
def test_processes_share_a_step_without_gap_or_overlap(parts, size, world):
    for step in (0, 3):
        seen = [
            place
            for rank in range(world)
            for part in Shares.of(parts, {"batch_size": size}, rank, world).at(step)
            for place in part.places(size)
        ]
        assert sorted(seen) == list(range(step * parts * size, (step + 1) * parts * size))
    each = {len(list(Shares.of(parts, {"batch_size": size}, rank, world).at(0))) for rank in range(world)}
    assert each == {Shares.of(parts, {"batch_size": size}, 0, world).each}


def test_a_step_that_cannot_be_shared_evenly_is_one_sentence():
    with pytest.raises(
        UsageError, match=r"^4 processes cannot share training\.batch_size=6 times 1 evenly; .* of 4\.$"
    ):
        Shares.of(1, {"training.batch_size": 6}, 0, 4)
    with pytest.raises(UsageError, match="prompts_a_step=2 times 3"):
        Shares.of(3, {"batch_size": 4, "prompts_a_step": 2}, 0, 4)
    assert Part(2, 5).places(3) == range(15, 18)
