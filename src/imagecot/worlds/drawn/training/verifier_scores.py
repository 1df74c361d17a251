"""How well a verifier answers fresh questions about scenes: while it is trained, and as it is used."""

import random

import torch
from torch import Tensor

from imagecot.contracts.questions import ORM
from imagecot.contracts.verifier import Verifier
from imagecot.geneval.prompts import TASKS
from imagecot.precision import has_bfloat16
from imagecot.statistics import answers
from imagecot.worlds.drawn.captions import caption
from imagecot.worlds.drawn.dataset import Pool
from imagecot.worlds.drawn.questions import draw_questions
from imagecot.worlds.drawn.training.answering import Read, Student
from imagecot.worlds.drawn.training.packing import Packer
from imagecot.worlds.drawn.training.tokenizer import to_tensor


def balanced_accuracy(right: Tensor, answer: Tensor) -> float:
    """The mean of the share of right answers among yes and among no; both (N,) bool."""
    return answers.balanced_accuracy((right == answer).float(), answer)


@torch.no_grad()
def accuracy(student: Student, read: Read, packer: Packer, pool: Pool, count: int, batch: int = 50) -> dict[str, float]:
    """Balanced accuracy by task, and their mean, of fresh questions about a pool's first `count` examples."""
    right: list[Tensor] = []
    answer: list[Tensor] = []
    task: list[Tensor] = []
    for first in range(0, count, batch):
        indices = range(first, min(first + batch, count))
        rngs = [random.Random(f"held out:{i}") for i in indices]
        packed = packer([pool[i].scene for i in indices], rngs)
        pixels = to_tensor(pool.images(indices)) * 2 - 1
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16()):
            logits = student.head(read(pixels, packed)[0][packed.task >= 0]).float()
        yes = packed.target[packed.task >= 0] == packer.yes
        right.append((logits[:, packer.yes] > logits[:, packer.no]) == yes)
        answer.append(yes)
        task.append(packed.task[packed.task >= 0])
    return by_task(torch.cat(right), torch.cat(answer), torch.cat(task))


def measure(verifier: Verifier, pool: Pool, questions: int = 6, batch: int = 120) -> dict[str, float]:
    """Balanced accuracy by task, and their mean, of `ask` with fresh questions about every example of a pool."""
    rows: list[tuple[int, str, int, bool]] = []
    for i in range(len(pool)):
        rng = random.Random(f"measured:{i}")
        for metadata, answer in draw_questions(pool[i].scene, questions, rng):
            rows.append((i, caption(metadata, rng), TASKS.index(metadata.tag), answer))
    said = []
    for first in range(0, len(rows), batch):
        part = rows[first : first + batch]
        images = to_tensor(pool.images([i for i, *_ in part]))
        said.append(verifier.ask(images, [text for _, text, *_ in part], ORM) > 0.5)
    labels = torch.tensor([answer for *_, answer in rows])
    return by_task(torch.cat(said) == labels, labels, torch.tensor([task for *_, task, _ in rows]))


def by_task(right: Tensor, answer: Tensor, task: Tensor) -> dict[str, float]:
    """Balanced accuracy by task, and their mean, of (N,) questions."""
    scores = {name: balanced_accuracy(right[task == k], answer[task == k]) for k, name in enumerate(TASKS)}
    return {**scores, "mean": sum(scores.values()) / len(scores)}
