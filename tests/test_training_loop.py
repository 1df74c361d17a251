"""The shared training loop: exact resume, averaging, the learning-rate schedule, every weight moves."""

import pytest
import torch
from torch import nn

from imagecot.errors import ImagecotError
from imagecot.training.loop import Optimization, batch_indices, fit, learning_rate, step_generator
from imagecot.training.state import write_state

OPT = dict(steps=12, batch_size=4, learning_rate=1e-2, warmup=2, bf16=False, save_every=3, evaluate_every=6)


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.GELU(), nn.Linear(8, 1))


def make_loss(record: dict[int, float], stop_at: int | None = None):
    def loss(model, step):
        if step == stop_at:
            raise KeyboardInterrupt
        x = torch.randn(4, 3, generator=step_generator(0, step))
        value = (model(x)[:, 0] - x.sum(1)).square().mean()
        record[step] = value.item()
        return {"loss": value}

    return loss


def test_learning_rate_by_hand():
    opt = Optimization(steps=110, batch_size=1, learning_rate=1.0, min_learning_rate=0.2, warmup=10)
    assert learning_rate(0, opt) == pytest.approx(0.1)
    assert learning_rate(9, opt) == pytest.approx(1.0)
    assert learning_rate(60, opt) == pytest.approx(0.6)  # half-way down the cosine
    assert learning_rate(110, opt) == pytest.approx(0.2)


def test_a_killed_run_resumes_with_the_same_losses(tmp_path):
    whole: dict[int, float] = {}
    model = fit(net(), make_loss(whole), Optimization(**OPT), tmp_path / "whole")
    broken: dict[int, float] = {}
    with pytest.raises(KeyboardInterrupt):
        fit(net(), make_loss(broken, stop_at=8), Optimization(**OPT), tmp_path / "broken")
    resumed: dict[int, float] = {}
    again = fit(net(), make_loss(resumed), Optimization(**OPT), tmp_path / "broken")
    assert min(resumed) == 6  # the last multiple of save_every before the kill
    for step in range(6, 12):
        assert resumed[step] == whole[step]
    for a, b in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    assert (tmp_path / "whole" / "curves.csv").read_text() == (tmp_path / "broken" / "curves.csv").read_text()


def test_every_weight_moves_and_the_loss_falls(tmp_path):
    before, losses = net(), {}
    after = fit(net(), make_loss(losses), Optimization(**{**OPT, "steps": 60}), tmp_path)
    for a, b in zip(before.parameters(), after.parameters(), strict=True):
        assert not torch.equal(a, b)
    assert sum(losses[k] for k in range(50, 60)) < 0.5 * sum(losses[k] for k in range(10))


def test_scores_are_those_of_the_average(tmp_path):
    seen = []

    def evaluate(model):
        seen.append(model[0].weight.detach().clone())
        return {"x": 1.0}

    model = fit(net(), make_loss({}), Optimization(**OPT), tmp_path, evaluate=evaluate)
    assert torch.equal(seen[-1], model[0].weight)
    assert "score/x" in (tmp_path / "curves.csv").read_text()


def test_a_loss_that_is_not_finite_is_one_sentence(tmp_path):
    with pytest.raises(ImagecotError, match="learning_rate"):
        fit(
            net(),
            lambda model, step: {"loss": model(torch.ones(1, 3)).sum() * float("nan")},
            Optimization(**OPT),
            tmp_path,
        )


def test_batches_depend_on_seed_and_step_alone():
    opt = Optimization(**OPT)
    assert batch_indices(100, opt, 3) == batch_indices(100, opt, 3)
    assert batch_indices(100, opt, 3) != batch_indices(100, opt, 4)


def test_a_state_has_the_same_bytes_each_time(tmp_path):
    for name in ("one", "two"):
        write_state(tmp_path / name, {"a": torch.arange(3)})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
