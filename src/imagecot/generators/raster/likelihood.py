"""The log-probability of an image under a generator that draws codes in raster order: exact, from one forward pass.

All functions take log-probabilities (B, N) of the codes, each given what is asked for and the codes before it
(teacher forcing), under the guidance that is meant.
"""

import torch
from torch import Tensor

from imagecot.contracts.scorer import Terms
from imagecot.generators.steps import stratified_steps


def log_likelihood(log_probs: Tensor) -> Tensor:
    """Return log p(image | asked) (B,) in nats: the sum over all codes."""
    return log_probs.sum(1)


def step_terms(log_probs: Tensor, seeds: Tensor, grid: tuple[int, int], draws: int) -> Terms:
    """Return the terms of paths with seeds (B,) whose steps are the rows of `grid` (rows, columns).

    draws  rows of each path that are scored, at most; stratified and weighted so that their sum is unbiased
    """
    rows, columns = grid
    chosen = stratified_steps(seeds.to(log_probs.device), rows, draws)
    count = chosen.shape[1]
    path = torch.arange(len(chosen), device=log_probs.device)[:, None]
    weights = torch.full((len(chosen),), rows / count / (rows * columns), device=log_probs.device)
    return Terms(log_probs.view(-1, rows, columns)[path, chosen].flatten(1), weights)
