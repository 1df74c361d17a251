"""What every recipe from scratch says about its optimisation, and what moves the weights by it: AdamW, and Muon."""

import torch
from pydantic import BaseModel
from torch import nn

from imagecot.recipe_fields import (
    RECIPE,
    Batch,
    Count,
    Flag,
    Positive,
    PositiveRate,
    Rate,
    Seed,
    Share,
    ShareBelowOne,
    Weight,
    Whole,
)


class Optimization(BaseModel):
    """What every recipe from scratch says about its optimisation."""

    model_config = RECIPE

    steps: Count
    batch_size: Batch
    learning_rate: PositiveRate
    min_learning_rate: Rate = 0.0
    warmup: Whole = 200
    weight_decay: Weight = 0.01
    betas: tuple[ShareBelowOne, ShareBelowOne] = (0.9, 0.99)
    clip: Positive = 1.0
    muon: Flag = False
    ema: Share = 0.999
    seed: Seed = 0
    bf16: Flag = True
    save_every: Count = 500
    evaluate_every: Count = 2000


def optimizers(model: nn.Module, opt: Optimization) -> list[torch.optim.Optimizer]:
    """AdamW; with `opt.muon` Muon (Jordan et al., 2024) for the matrices between embeddings and head.

    Matrices and convolutions decay; norms, biases and embeddings do not.
    """
    moved = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    layers = [p for name, p in model.named_parameters() if p.ndim == 2 and ".layers." in name] if opt.muon else []
    inner = {id(p) for p in layers}
    decayed = [p for name, p in moved if p.ndim > 1 and "embed" not in name and id(p) not in inner]
    plain = [p for name, p in moved if (p.ndim <= 1 or "embed" in name) and id(p) not in inner]
    groups = [{"params": decayed, "weight_decay": opt.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    adamw = torch.optim.AdamW(groups, lr=opt.learning_rate, betas=opt.betas, fused=True)
    if not opt.muon:
        return [adamw]
    # Scaled to AdamW's step size, so both follow one schedule.
    muon = torch.optim.Muon(layers, lr=opt.learning_rate, weight_decay=opt.weight_decay, adjust_lr_fn="match_rms_adamw")
    return [adamw, muon]


def step_generator(seed: int, step: int, stream: int = 0) -> torch.Generator:
    """A generator whose draws depend on (seed, step, stream) alone."""
    return torch.Generator().manual_seed(((seed * 1_000_003 + step) * 16 + stream) % 2**64)


def batch_indices(count: int, opt: Optimization, number: int) -> list[int]:
    """Which examples the part `number` of a training sees: a random draw that depends on (seed, number) alone."""
    return torch.randint(count, (opt.batch_size,), generator=step_generator(opt.seed, number)).tolist()
