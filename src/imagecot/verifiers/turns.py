"""Turns of a conversation as a language model reads and writes them, in parts that fit in memory.

What verifiers share that keep keys and values, whatever their model reads: embeds (B, n, D) or ids (B, n).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from imagecot.contracts.devices import sent
from imagecot.memory import in_parts
from imagecot.verifiers.chat import ANSWER_TOKENS

Layers = tuple[tuple[Tensor, Tensor], ...]
"""Keys and values (B, heads, L, D) of each layer."""


@dataclass(frozen=True, eq=False)
class Read:
    """What a verifier has read of B conversations, so that it reads it once: keys and values, and the mask (B, L).

    The mask is on the CPU.
    """

    layers: Layers
    mask: Tensor


@dataclass(frozen=True, eq=False)
class Written:
    """Answers that were written.

    rows     the tokens of each, without what ends it
    first    states (B, D) behind which the first tokens stand
    endless  (B,) bool, whether the bound on the length ended it
    """

    rows: list[list[int]]
    first: Tensor
    endless: Tensor

    @property
    def tokens(self) -> int:
        """How many there are in all."""
        return sum(map(len, self.rows))


def left_padded(
    rows: Sequence[Sequence[int]], fill: int, device: torch.device, least: int = 0
) -> tuple[Tensor, Tensor]:
    """Ids (B, L) of rows of several lengths, padded on the left, and their mask (B, L).

    The mask stays on the CPU, which asks it how many tokens there are and whether some are padding.

    least  L where there is no row
    """
    longest = max(map(len, rows), default=least)
    ids = torch.tensor([[fill] * (longest - len(row)) + [*row] for row in rows], dtype=torch.int64)
    lengths = torch.tensor([len(row) for row in rows], dtype=torch.int64)
    mask = torch.arange(longest) >= longest - lengths[:, None]
    return sent(ids.view(len(rows), longest), device), mask


def first_turn(read: Callable[[slice], tuple[Tensor, Layers]], mask: Tensor, at_once: int) -> tuple[Tensor, Read]:
    """P(yes) (B,), and what was read.

    read     of some rows P(yes), and the keys and values that are kept, if any
    mask     (B, L), of what is read
    at_once  how many rows fit in memory
    """
    parts = in_parts(read, len(mask), at_once)
    answers = torch.cat([torch.empty(0), *(answers for answers, _ in parts)])
    return answers, Read(joined([layers for _, layers in parts]), mask)


def next_turn(read: Callable[[slice, Layers], Tensor], after: Read, at_once: int) -> Tensor:
    """P(yes) (B,) to a question behind what was read.

    read  of some rows P(yes), behind the keys and values of these rows
    """

    def answer(part: slice) -> Tensor:
        return read(part, tuple((keys[part], values[part]) for keys, values in after.layers))

    return torch.cat([torch.empty(0), *in_parts(answer, len(after.mask), at_once)])


def write(
    state: Callable[[Tensor, Tensor], Tensor],
    start: Tensor,
    mask: Tensor,
    surest: Callable[[Tensor], Tensor],
    seen: Callable[[Tensor], Tensor],
    ends: Sequence[int],
) -> Written:
    """Write an answer behind each row of `start` (B, n, ...), the surest token each time.

    state   the last position's state (B, D) of what is read behind all before, with the mask of both
    surest  the tokens (B,) that follow states (B, D)
    seen    what is read of tokens (B,), (B, 1, ...)
    ends    the tokens that end an answer
    """
    stops = sent(torch.tensor(ends), start.device)
    going = torch.ones(len(start), dtype=torch.bool, device=start.device)
    rows: list[list[int]] = [[] for _ in start]
    first = now = state(start, mask)
    for _ in range(ANSWER_TOKENS):
        token = surest(now)
        going &= ~torch.isin(token, stops)
        writing, tokens = torch.stack([going.to(token.dtype), token]).tolist()  # all that a token waits for
        if not any(writing):
            break
        for row, alive, one in zip(rows, writing, tokens, strict=True):
            row += [one] if alive else []
        mask = F.pad(mask, (0, 1), value=True)
        now = state(seen(token), mask)
    else:
        going &= ~torch.isin(surest(now), stops)
    return Written(rows, first, going)


def joined(caches: Sequence[Layers]) -> Layers:
    """One cache of all rows from the caches of parts."""
    layers = zip(*caches, strict=True)
    return tuple((torch.cat([k for k, _ in parts]), torch.cat([v for _, v in parts])) for parts in layers)
