"""The one loop: exact resume, averages, schedule, terms one after the other, accumulation, trackers, processes."""

import csv
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import imagecot.training
from imagecot import launch
from imagecot.errors import ImagecotError, UsageError
from imagecot.training import tracking
from imagecot.training.loop import Course, Part, Term, Trained, fit
from imagecot.training.optimization import Optimization, batch_indices, step_generator
from imagecot.training.output import open_output
from imagecot.training.schedule import learning_rate, warmup_steps
from imagecot.training.scratch import train_from_scratch
from imagecot.training.state import seed_all, write_state
from imagecot.watch import Watch
from stopping import Toy, stopped_behind_state

OPT = dict(steps=12, batch_size=4, learning_rate=1e-2, warmup=2, bf16=False, save_every=3, evaluate_every=6)
SIZES = {"batch_size": 4}
EVERY = Course("toy", 6, SIZES, warmup=1, clip=1.0, record_every=1, evaluate_every=100, save_every=2)


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.GELU(), nn.Linear(8, 1))


def examples(number: int) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(4, 3, generator=step_generator(0, number))
    return x, x.sum(1)


class Regression(nn.Module):
    """The squared error of a network; remembers the losses of the parts."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.seen: dict[int, float] = {}

    def forward(self, part: Part) -> dict[str, torch.Tensor]:
        x, y = examples(part.number)
        loss = (self.model(x)[:, 0] - y).square().mean()
        self.seen[part.step] = loss.item()
        return {"loss": loss, "twice": 2 * loss}


def scratch(output: Path, score=None, watch=None, **changes) -> Regression:
    losses = Regression(net())
    recipe = Toy(output=output, report_to=changes.pop("report_to", []))
    opt = Optimization(**{**OPT, **changes})
    more = {"watch": watch} if watch else {}
    train_from_scratch(losses, losses.model, opt, open_output(recipe), title="toy", score=score, **more)
    return losses


class Terms:
    """An objective of two terms of one network; remembers in which order it was asked."""

    def __init__(self, module: nn.Module) -> None:
        self.module, self.asked, self.evaluated = module, [], []
        self.weights = (1.0, 0.5)

    def terms(self, part: Part):
        x, y = examples(part.number)
        for name, weight in zip(("a", "b"), self.weights, strict=True):
            gradients = [p.grad is not None for p in self.module.parameters()]
            self.asked.append((part.number, name, any(gradients)))
            loss = (self.module(x)[:, 0] - y).square().mean()
            yield Term(loss, {f"{name}/loss": loss}, weight, f"the rows {part.number}")

    def evaluate(self, done: int):
        self.evaluated.append((done, self.module.training))
        return {"seen": float(done)}


def follow(output: Path, course: Course, change=None) -> Terms:
    accelerator = launch.accelerator("no")
    seed_all(0)
    model = net()
    groups = [{"params": [p], "lr": rate} for p, rate in zip(model.parameters(), (1e-2, 1e-2, 1e-3, 0.0), strict=True)]
    model, optimizer = accelerator.prepare(model, torch.optim.AdamW(groups))
    objective = Terms(model)
    if change:
        change(objective)
    fit(Trained(accelerator, model, [optimizer]), objective, course, open_output(Toy(output=output)))
    return objective


def curve(folder: Path, name: str) -> list[tuple[int, float]]:
    with (folder / "training/curves.csv").open() as file:
        return [(int(step), float(value)) for step, n, value in list(csv.reader(file))[1:] if n == name]


# --- the schedule


def test_learning_rates_by_hand():
    rates = [learning_rate(step, 110, 1.0, warmup=10, least=0.2) for step in (0, 9, 60, 110, 200)]
    assert rates == pytest.approx([0.1, 1.0, 0.6, 0.2, 0.2])  # 0.6 is half-way down the cosine
    assert warmup_steps(10, 0.2) == 2 and warmup_steps(10, 0.0) == 1
    assert [learning_rate(step, 10, 1.0, warmup=2) for step in (0, 1, 2)] == [0.5, 1.0, 1.0]
    assert learning_rate(6, 10, 4.0, warmup=2) == pytest.approx(2.0)
    assert learning_rate(10, 10, 4.0, warmup=2) == pytest.approx(0.0)


def test_every_group_has_a_peak_of_its_own_also_behind_a_stop(tmp_path):
    def rates(objective: Terms) -> list[float]:
        return [float((a - b).detach().abs().max()) for a, b in zip(objective.module.parameters(), start, strict=True)]

    start = [p.detach().clone() for p in net().parameters()]
    whole = follow(tmp_path / "whole", EVERY)
    moved = rates(whole)
    assert moved[0] > 3 * moved[2] > 0 == moved[3]
    with stopped_behind_state():
        follow(tmp_path / "parts", EVERY)
    again = follow(tmp_path / "parts", EVERY)
    for a, b in zip(whole.module.parameters(), again.module.parameters(), strict=True):
        assert torch.equal(a, b)


# --- terms


def test_a_term_is_asked_for_when_the_one_before_is_back_propagated(tmp_path):
    course = Course("toy", 1, SIZES, warmup=1, clip=1.0, record_every=1, evaluate_every=9, save_every=9)
    asked = follow(tmp_path, course).asked
    assert asked == [(0, "a", False), (0, "b", True)]


def test_weights_of_terms_scale_their_gradients(tmp_path):
    def only(first: float, second: float):
        def change(objective: Terms) -> None:
            objective.weights = (first, second)

        return change

    ends = []
    for name, weights in (("a", (1.0, 0.5)), ("b", (0.5, 1.0)), ("c", (1.5, 0.0)), ("d", (1.0, 0.0))):
        course = Course("toy", 3, SIZES, warmup=1, clip=1e6, record_every=1, evaluate_every=9, save_every=9)
        objective = follow(tmp_path / name, course, only(*weights))
        ends.append(torch.cat([p.detach().flatten() for p in objective.module.parameters()]))
    torch.testing.assert_close(ends[0], ends[1])
    torch.testing.assert_close(ends[0], ends[2])
    assert curve(tmp_path / "a", "b/loss")[0] == curve(tmp_path / "a", "a/loss")[0]


def test_parts_are_numbered_and_their_values_averaged(tmp_path):
    course = Course("toy", 2, SIZES, accumulate=3, warmup=1, clip=1.0, record_every=1, evaluate_every=9, save_every=9)
    objective = follow(tmp_path, course)
    assert [number for number, name, _ in objective.asked if name == "a"] == [0, 1, 2, 3, 4, 5]
    x = [examples(k) for k in range(3)]
    torch.manual_seed(0)
    first = net()
    expected = sum(float((first(a)[:, 0] - b).detach().square().mean()) for a, b in x) / 3
    assert curve(tmp_path, "a/loss")[0] == (1, pytest.approx(expected))


def test_a_loss_that_is_not_finite_is_one_sentence_with_its_batch(tmp_path):
    def broken(objective: Terms) -> None:
        objective.weights = (1.0, 1.0)
        ask = objective.terms

        def terms(part: Part):
            for term in ask(part):
                yield Term(term.loss * (math.nan if part.step == 1 else 1), term.values, term.weight, term.batch)

        objective.terms = terms

    with pytest.raises(ImagecotError, match=r"^the loss became nan at step 1 \(the rows 1\); lower learning_rate in"):
        follow(tmp_path, EVERY, broken)


def test_it_may_be_scored_before_the_first_step_but_not_again(tmp_path):
    course = Course(
        "toy", 4, SIZES, warmup=1, clip=1.0, record_every=1, evaluate_every=3, save_every=2, scores_untrained=True
    )
    with stopped_behind_state():
        follow(tmp_path, course)
    objective = follow(tmp_path, course)
    assert objective.evaluated == [(3, False), (4, False)]
    assert [step for step, _ in curve(tmp_path, "score/seen")] == [0, 3, 4]
    assert not objective.module.training


# --- from scratch


def test_a_killed_run_resumes_with_the_same_losses(tmp_path):
    whole = scratch(tmp_path / "whole")
    with stopped_behind_state(2):
        scratch(tmp_path / "broken")
    again = scratch(tmp_path / "broken")
    assert min(again.seen) == 6  # the last state before the kill; its sums of losses go on
    assert all(again.seen[step] == whole.seen[step] for step in range(6, 12))
    for a, b in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    both = [(tmp_path / name / "training/curves.csv").read_text() for name in ("whole", "broken")]
    assert both[0] == both[1]
    assert curve(tmp_path / "whole", "loss") == [(12, pytest.approx(sum(whole.seen.values()) / 12))]


def test_every_weight_moves_and_the_loss_falls(tmp_path):
    trained = scratch(tmp_path, steps=60)
    for a, b in zip(net().parameters(), trained.model.parameters(), strict=True):
        assert not torch.equal(a, b)
    assert sum(trained.seen[k] for k in range(50, 60)) < 0.5 * sum(trained.seen[k] for k in range(10))
    assert [step for step, _ in curve(tmp_path, "twice")] == [50, 60]


def test_scores_are_those_of_the_average(tmp_path):
    seen = []

    def score():
        seen.append(model[0].weight.detach().clone())
        return {"x": 1.0}

    losses = Regression(net())
    model = losses.model
    train_from_scratch(losses, model, Optimization(**OPT), open_output(Toy(output=tmp_path)), title="toy", score=score)
    assert torch.equal(seen[-1], model[0].weight)
    assert not torch.equal(seen[0], seen[1])
    assert [step for step, _ in curve(tmp_path, "score/x")] == [6, 12]
    saved = torch.load(tmp_path / "training/state-0000012/custom_checkpoint_1.pkl", weights_only=True)
    assert torch.equal(saved["0.weight"], model[0].weight)


def test_the_average_by_hand(tmp_path):
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.zeros(1))

        def forward(self, part: Part):
            return {"loss": self.w.sum()}

    model = Plain()
    still = {"steps": 2, "warmup": 0, "weight_decay": 0.0, "ema": 0.15, "min_learning_rate": 1e-2}
    opt = Optimization(**{**OPT, **still})
    train_from_scratch(model, model, opt, open_output(Toy(output=tmp_path)), title="toy")
    # AdamW moves by the rate: -.01, then -.02; kept are 1/10 of the first average, then .15 of the second.
    assert model.w.item() == pytest.approx(0.15 * (0.1 * 0 + 0.9 * -0.01) + 0.85 * -0.02, rel=1e-4)


def test_progress_is_told_with_loss_and_speed(tmp_path):
    told = []

    class Shown:
        def __init__(self, text: str) -> None:
            told.append(text)

        def __enter__(self):
            return lambda done, of, note="": told.append((done, of, note))

        def __exit__(self, *_: object) -> None:
            told.append("end")

    scratch(tmp_path, watch=Watch(progress=Shown), steps=51)
    assert told[:2] == ["toy", (0, 51, "")] and told[-1] == "end"
    assert [done for done, _, _ in told[1:-1]] == list(range(52))
    import re

    assert re.fullmatch(r"loss \d+\.\d{4}  \d+ examples/s", told[-2][2]) and told[50][2] == ""


def test_batches_depend_on_seed_and_number_alone():
    opt = Optimization(**OPT)
    assert batch_indices(100, opt, 3) == batch_indices(100, opt, 3)
    assert batch_indices(100, opt, 3) != batch_indices(100, opt, 4)


def test_a_state_has_the_same_bytes_each_time(tmp_path):
    for name in ("one", "two"):
        write_state(tmp_path / name, {"a": torch.arange(3)})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    for name in ("first", "second"):
        seed_all(0)
        scratch(tmp_path / name)
    states = [tmp_path / name / "training/state-0000012" for name in ("first", "second")]
    for file in states[0].iterdir():
        assert file.read_bytes() == (states[1] / file.name).read_bytes(), file.name


# --- where else the curves go


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    return {name: [(e.step, e.value) for e in found.Scalars(name)] for name in found.Tags()["scalars"]}


def test_tensorboard_has_the_curves_and_goes_on_behind_a_stop(tmp_path):
    to = {"report_to": ["tensorboard"], "steps": 52, "evaluate_every": 20, "save_every": 30}
    with stopped_behind_state():
        scratch(tmp_path, lambda: {"x": 1.0}, **to)
    scratch(tmp_path, lambda: {"x": 1.0}, **to)
    found = events(tmp_path / "training/logs/toy")
    assert set(found) == {"loss", "twice", "score/x"}
    for name, points in found.items():
        assert [step for step, _ in points] == [step for step, _ in curve(tmp_path, name)]
        assert [value for _, value in points] == pytest.approx([value for _, value in curve(tmp_path, name)])
    assert (tmp_path / "training.json").read_text() == json.dumps({"kind": "toy"}) + "\n"  # it is no other training


def test_trackers_that_are_not_there_are_told_before_anything_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r'asks for trackio, which is not .*; pip install "imagecot\[trackio\]"'):
        open_output(Toy(output=tmp_path / "out", report_to=["trackio"]))
    assert not (tmp_path / "out").exists()


# --- kinds and processes


def test_run_follows_a_recipe_of_its_kind(monkeypatch, tmp_path):
    from imagecot.worlds.drawn.training import tokenizer

    followed = []
    monkeypatch.setattr(tokenizer, "train_tokenizer", lambda recipe, *, watch: followed.append((recipe.kind, watch)))
    recipe = tokenizer.TokenizerRecipe(output=tmp_path, model={"image_size": 64}, optimization={**OPT})
    watch = Watch()
    imagecot.training.run(recipe.model_copy(), watch=watch)
    assert followed == [("tokenizer", watch)]
    with pytest.raises(UsageError, match="trainings are tokenizer, "):
        imagecot.training.run(Toy(output=tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("averaged", [True, False])
def test_two_processes_compute_what_one_does_with_twice_the_parts(tmp_path, averaged):
    """Each takes every other part; gradients are averaged, and one of them writes."""
    script = tmp_path / "script.py"
    script.write_text("import sys; from test_training_loop import one_of_several; one_of_several(*sys.argv[1:])")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(script)]
    arguments = [str(tmp_path / "two"), str(averaged)]
    done = subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    two = torch.load(tmp_path / "two.pt", weights_only=True)
    if averaged:
        assert (two["processes"], len(curve(tmp_path / "two", "loss"))) == (2, 1)
        assert [path.name for path in (tmp_path / "two/training").glob("state-*")] == ["state-0000012"]
        return
    one = follow(tmp_path / "one", Course("toy", 6, 4, accumulate=2, warmup=1, clip=1.0, record_every=1,
                                          evaluate_every=100, save_every=2))  # fmt: skip
    for name, value in one.module.state_dict().items():
        torch.testing.assert_close(two[name], value, atol=1e-6, rtol=1e-5)
    both = [curve(tmp_path / name, "b/loss") for name in ("one", "two")]
    assert [step for step, _ in both[0]] == [step for step, _ in both[1]] == [1, 2, 3, 4, 5, 6]
    assert [v for _, v in both[0]] == pytest.approx([v for _, v in both[1]], rel=1e-5)


def one_of_several(output: str, averaged: str) -> None:
    """What each process of the test above does."""
    processes = launch.processes(on_cpu=True)
    if averaged == "True":
        losses = scratch(Path(output))
        found = {"processes": processes.num_processes}
        seen = [None, None]
        torch.distributed.all_gather_object(seen, [losses.model[0].weight.tolist(), losses.seen])
        assert seen[0][0] == seen[1][0] and seen[0][1] != seen[1][1]  # equal weights, other examples
    else:
        found = follow(Path(output), EVERY).module.module.state_dict()
    if processes.is_main_process:
        torch.save(found, output + ".pt")
