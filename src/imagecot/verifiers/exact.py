"""Logits of a few tokens as products in float32, whatever the number format of a model's head is.

A logit of 16 to 32 in bfloat16 is a multiple of 1/8. So images whose states differ would get the same P(yes).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imagecot.contracts.devices import sent

_SHORT = (torch.bfloat16, torch.float16)


def logits_of(state: Tensor, weight: Tensor, bias: Tensor | None, ids: Sequence[int]) -> Tensor:
    """Logits (B, V) float32 of states (B, D) by the rows of a head (V, D); those of `ids` are products in float32."""
    return _exact(F.linear(state, weight, bias), state, weight, bias, ids)


def few_logits(state: Tensor, weight: Tensor, bias: Tensor | None, ids: Sequence[int] | Tensor) -> Tensor:
    """Logits (..., len(ids)) of a few tokens by the rows of a head (V, D), products in float32."""
    own = ids if isinstance(ids, Tensor) else sent(torch.tensor(ids), weight.device)
    return F.linear(state.float(), weight[own].float(), None if bias is None else bias[own].float())


@contextmanager
def exact_logits(head: nn.Module | None, ids: Sequence[int]) -> Iterator[None]:
    """While it lasts, a head returns float32 logits (..., V), of which those of `ids` are products in float32.

    head  the last layer of a language model; one that is no plain linear layer, or none, stays as it is
    ids   the tokens that matter; the logits of others are what they were
    """
    if not isinstance(head, nn.Linear) or head.weight.dtype not in _SHORT:
        yield
        return

    def computed_again(_: nn.Module, inputs: tuple[Tensor, ...], logits: Tensor) -> Tensor:
        return _exact(logits, inputs[0], head.weight, head.bias, ids)

    handle = head.register_forward_hook(computed_again)
    try:
        yield
    finally:
        handle.remove()


def _exact(logits: Tensor, state: Tensor, weight: Tensor, bias: Tensor | None, ids: Sequence[int]) -> Tensor:
    """The logits (..., V) in float32, with those of `ids` computed again from states (..., D)."""
    found = logits.float()
    if weight.dtype in _SHORT:
        own = sent(torch.tensor(sorted({*ids})), weight.device)
        found[..., own] = few_logits(state, weight, bias, own)
    return found
