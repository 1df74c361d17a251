"""Asking a judge about many pictures of any sizes, and counting what it was asked."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from imagecot import guard
from imagecot.contracts.questions import Question
from imagecot.contracts.verifier import Verifier
from imagecot.interruption import check
from imagecot.watch import Progress

AT_ONCE = 64  # pictures of one call


@dataclass
class Asked:
    """A judge, the question that it is asked, and how many answers it gave; `progress` is told of each call.

    expected  how many answers there will be, about
    """

    verifier: Verifier
    question: Question
    progress: Progress
    expected: int = 1
    answers: int = field(default=0, init=False)

    def ask(self, pictures: Sequence[Tensor], prompts: Sequence[str]) -> Tensor:
        """P(yes) (N,) float64 about N pictures (3, H, W), a prompt for each; those of one size are asked together."""
        found = torch.empty(len(pictures), dtype=torch.float64)
        by_size: dict[tuple[int, ...], list[int]] = {}
        for number, picture in enumerate(pictures):
            by_size.setdefault(tuple(picture.shape), []).append(number)
        for own in by_size.values():
            for first in range(0, len(own), AT_ONCE):
                part = own[first : first + AT_ONCE]
                check()
                images = torch.stack([pictures[k] for k in part])
                answers = guard.ask(self.verifier, images, [prompts[k] for k in part], self.question)
                found[part] = answers.double().cpu()
                self.answers += len(part)
                self.progress(min(self.answers, self.expected), self.expected)
        return found
