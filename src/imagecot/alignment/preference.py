"""Losses of preference alignment, as pure functions of log-probabilities and rewards."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

PreferenceLoss = Literal["sigmoid", "ipo"]


def dpo_loss(
    chosen: Tensor,
    rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    *,
    beta: float,
    kind: PreferenceLoss = "sigmoid",
    label_smoothing: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the losses (B,) of pairs and the implicit rewards of chosen and rejected (B,), without gradient.

    All arguments are log-probabilities (B,). With h the difference of the two log-ratios to the reference:

    sigmoid  -(1 - s) log sigmoid(beta h) - s log sigmoid(-beta h) (Rafailov et al., 2023, eq. 7; s > 0 is the
             conservative variant for labels that are wrong with probability s, Mitchell 2023)
    ipo      (h - 1 / (2 beta))^2 (Azar et al., 2023, eq. 17); has no smoothing
    """
    ratio_chosen, ratio_rejected = chosen - reference_chosen, rejected - reference_rejected
    h = ratio_chosen - ratio_rejected
    if kind == "ipo":
        losses = (h - 1 / (2 * beta)).square()
    else:
        losses = -(1 - label_smoothing) * F.logsigmoid(beta * h) - label_smoothing * F.logsigmoid(-beta * h)
    return losses, beta * ratio_chosen.detach(), beta * ratio_rejected.detach()


def group_advantages(rewards: Tensor) -> Tensor:
    """Return (P, G) advantages of rewards (P, G): what a path got beyond its group, in standard deviations.

    A group whose rewards are all alike teaches nothing and gets 0 (GRPO: Shao et al., 2024, section 4.1).
    """
    centred = rewards - rewards.mean(1, keepdim=True)
    deviation = rewards.std(1, correction=0, keepdim=True)
    return torch.where(deviation > 1e-6, centred / deviation.clamp(min=1e-6), torch.zeros_like(centred))


def divergence(log_probs: Tensor, reference: Tensor) -> Tensor:
    """Return the non-negative estimate r - log r - 1 of KL(policy | reference), r = reference / policy, elementwise.

    Unbiased for draws of the policy (Schulman, 2020).
    """
    difference = reference - log_probs
    return difference.exp() - difference - 1
