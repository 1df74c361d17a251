"""What a verifier from scratch minimises: the loss of descriptions and answers that are packed behind pictures."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn
from torch.nn import functional as F

from imagecot.training.loop import Part
from imagecot.training.optimization import Optimization
from imagecot.training.scratch import Losses
from imagecot.worlds.drawn.training.eye import Shown, patch_loss, patch_targets
from imagecot.worlds.drawn.training.packing import IGNORE, Packed, Packer

Read = Callable[[Tensor, Packed], tuple[Tensor, Tensor]]
"""Reads texts behind pixels (B, 3, S, S) in [-1, 1]: their states (B, T, D), and the logits of `see` (B, P, ...)."""


class Student(Protocol):
    """A verifier that is trained from scratch: a module that holds all weights."""

    @property
    def head(self) -> nn.Module:
        """The part of it that maps states to logits over the vocabulary."""
        ...


@dataclass(frozen=True)
class Weights:
    """What the answers and the patches count beside the descriptions."""

    answer: float = 1.0
    patch: float = 0.5


def losses(head: nn.Module, states: Tensor, packed: Packed, answer_weight: float) -> Losses:
    """Mean negative log-likelihood of the descriptions' tokens and of the answers, from states (B, T, D).

    head  maps states to logits over the vocabulary
    """
    chosen = packed.target != IGNORE
    logits = head(states[chosen]).float()
    each = F.cross_entropy(logits, packed.target[chosen], reduction="none")
    asked = packed.task[chosen] >= 0
    description, answer = each[~asked].mean(), each[asked].mean()
    return {"loss": description + answer_weight * answer, "description": description, "answer": answer}


class Answering(nn.Module):
    """The loss of descriptions and answers, and of the patches beside them.

    read  how the student reads
    """

    def __init__(
        self, student: Student, read: Read, packer: Packer, shown: Shown, opt: Optimization, weights: Weights
    ) -> None:
        super().__init__()
        self.student, self.read, self.packer = student, read, packer
        self.shown, self.opt, self.weights = shown, opt, weights

    def forward(self, part: Part) -> Losses:
        """The losses of a part."""
        scenes, pixels = self.shown.at(self.opt, part)
        packed = self.packer(scenes, [random.Random(f"{self.opt.seed}:{part.number}:{i}") for i in range(len(scenes))])
        states, seen = self.read(pixels, packed)
        patches = patch_loss(seen, patch_targets(scenes, self.shown.grid))
        named = losses(self.student.head, states, packed, self.weights.answer)
        return {**named, "loss": named["loss"] + self.weights.patch * patches, "patches": patches}
