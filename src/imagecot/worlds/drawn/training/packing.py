"""Texts about a picture, packed into one row behind it: a description, then questions that do not see each other.

So one pass over the picture teaches as much as many conversations would.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from imagecot.contracts.questions import ORM
from imagecot.geneval.prompts import TASKS
from imagecot.verifiers.chat import CHAT_ASK, CHAT_START, turn
from imagecot.verifiers.tokens import DESCRIBE, END, build_tokenizer
from imagecot.worlds.drawn.captions import caption, random_requirement
from imagecot.worlds.drawn.questions import describe, draw_questions
from imagecot.worlds.drawn.scenes import Scene

IGNORE = -100
# Words for what is wrong with a picture: verifiers that are fine-tuned from this one write them.
REASONS = (
    "no, there is no red apple. the cup is not below it.",
    "No: the image should show three cups but there are only two, the chair is missing",
    "the apple is green instead of red; it should be right of the cup",
    "more than one, fewer than four, too many, five six seven eight nine ten zero",
    "what is shown is unclear, blurry or incomplete, and its color and shape are wrong",
)


def new_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer of the drawn world: its captions, descriptions and answers."""
    rng = random.Random(0)
    corpus = [caption(random_requirement(rng), rng) for _ in range(20_000)]
    corpus += ["yes", "no", "Yes", "No", " yes", " no", "one apple: red apple, two", *REASONS] * 5
    return build_tokenizer(corpus)


def token_id(tokenizer: PreTrainedTokenizerFast, token: str) -> int:
    """The id of a token of the vocabulary."""
    return tokenizer.get_vocab()[token]


@dataclass(frozen=True)
class Wording:
    """The constant texts of a chat about a picture.

    start     what stands before the picture
    describe  what asks for a description, up to where the answer begins
    ask       the question about a prompt, up to where the answer begins
    before    what stands between the chat's mark and an answer
    end       what ends a description
    """

    start: str
    describe: str
    ask: Callable[[str], str]
    before: str
    end: str


LLAVA = Wording(CHAT_START, DESCRIBE + CHAT_ASK, lambda prompt: turn(ORM, prompt), "", END)


@dataclass(frozen=True)
class Packed:
    """Texts behind pictures, (B, T) each: block 0 pads, target IGNORE and task -1 where nothing is asked."""

    ids: Tensor
    block: Tensor
    position: Tensor
    target: Tensor
    task: Tensor


class Packer:
    """Turns scenes into `Packed` texts of `length` tokens that follow the start of a chat and a picture.

    rows    tokens that a picture takes, with the marks around it that follow the start
    start   ids (1, S) of the start
    offset  tokens before a text
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, length: int, rows: int, wording: Wording = LLAVA) -> None:
        self.tokenizer, self.length, self.wording = tokenizer, length, wording
        self.start = torch.tensor(self._ids([wording.start]))
        self.offset = self.start.numel() + rows
        answers = self._ids([wording.before + "yes", wording.before + "no"])
        (self.yes,), (self.no,) = answers
        self.lead = len(self._ids([wording.describe])[0])

    def _ids(self, texts: list[str]) -> list[list[int]]:
        return self.tokenizer(texts, add_special_tokens=False).input_ids

    def __call__(self, scenes: Sequence[Scene], rngs: Sequence[random.Random]) -> Packed:
        """Describe each scene and fill the rest of its row with questions."""
        rows, texts, answers = [], [], []
        words = self.wording
        for row, (scene, rng) in enumerate(zip(scenes, rngs, strict=True)):
            rows.append((row, -1))
            texts.append(words.describe + words.before + describe(scene, rng) + words.end)
            answers.append(False)
            for metadata, answer in draw_questions(scene, self.length // 11, rng):
                rows.append((row, TASKS.index(metadata.tag)))
                texts.append(words.ask(caption(metadata, rng)))
                answers.append(answer)
        shape = (len(scenes), self.length)
        ids, target = [self.tokenizer.pad_token_id] * (shape[0] * shape[1]), [IGNORE] * (shape[0] * shape[1])
        block, position, task = [0] * len(ids), [self.offset] * len(ids), [-1] * len(ids)
        used, number = [0] * len(scenes), [0] * len(scenes)
        for (row, kind), piece, answer in zip(rows, self._ids(texts), answers, strict=True):
            n, at = len(piece), row * self.length + used[row]
            if used[row] + n > self.length:
                continue
            used[row] += n
            number[row] += 1
            ids[at : at + n] = piece
            block[at : at + n] = [number[row]] * n
            position[at : at + n] = range(self.offset, self.offset + n)
            if kind < 0:
                target[at + self.lead - 1 : at + n - 1] = piece[self.lead :]
            else:
                target[at + n - 1] = self.yes if answer else self.no
                task[at + n - 1] = kind
        return Packed(*(torch.tensor(v).view(shape) for v in (ids, block, position, target, task)))


def attention_mask(block: Tensor, offset: int) -> Tensor:
    """Who sees whom, added to scores, (B, 1, L, L) with L = offset + T: 0 or the least float.

    Attention is causal, and a text sees the picture and its own block.
    """
    number = F.pad(block, (offset, 0), value=-1)
    causal = torch.ones(number.shape[1], number.shape[1], dtype=torch.bool, device=block.device).tril()
    same = (number[:, None, :] == number[:, :, None]) | (number == -1)[:, None, :]
    return torch.zeros(same.shape).masked_fill(~(same & causal), torch.finfo(torch.float32).min)[:, None]
