"""Losses of preference alignment against values worked out by hand."""

import math

import pytest
import torch

from imagecot.alignment.preference import divergence, dpo_loss, group_advantages


def pair():
    """Log-ratios 2 and -1, so h = 3."""
    return [torch.tensor([v], requires_grad=True) for v in (-10.0, -21.0, -12.0, -20.0)]


def test_sigmoid():
    loss, chosen, rejected = dpo_loss(*pair(), beta=0.1)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-0.3)))
    assert (chosen.item(), rejected.item()) == (pytest.approx(0.2), pytest.approx(-0.1))
    assert not chosen.requires_grad


def test_equal_models_give_log_two():
    same = torch.tensor([-5.0])
    assert dpo_loss(same, same - 3, same, same - 3, beta=0.1)[0].item() == pytest.approx(math.log(2))


def test_gradient_by_hand():
    terms = pair()
    dpo_loss(*terms, beta=0.1)[0].sum().backward()
    slope = -0.1 / (1 + math.exp(0.3))  # -beta * sigmoid(-beta h)
    assert terms[0].grad.item() == pytest.approx(slope)
    assert terms[1].grad.item() == pytest.approx(-slope)


def test_label_smoothing():
    loss = dpo_loss(*pair(), beta=0.1, label_smoothing=0.1)[0].item()
    assert loss == pytest.approx(0.9 * math.log(1 + math.exp(-0.3)) + 0.1 * math.log(1 + math.exp(0.3)))


def test_ipo():
    assert dpo_loss(*pair(), beta=0.1, kind="ipo")[0].item() == pytest.approx((3 - 5) ** 2)


def test_advantages():
    rewards = torch.tensor([[0.0, 1.0], [0.5, 0.5], [0.2, 0.8]])
    torch.testing.assert_close(group_advantages(rewards), torch.tensor([[-1.0, 1.0], [0.0, 0.0], [-1.0, 1.0]]))


def test_divergence():
    value = divergence(torch.tensor([-1.0, -2.0]), torch.tensor([-1.0, -1.0]))
    torch.testing.assert_close(value, torch.tensor([0.0, math.e - 2]))
    # Its mean over draws of the policy is KL(policy | reference).
    policy, reference = torch.tensor([0.7, 0.3]), torch.tensor([0.4, 0.6])
    expected = float((policy * (policy / reference).log()).sum())
    assert float((policy * divergence(policy.log(), reference.log())).sum()) == pytest.approx(expected)
