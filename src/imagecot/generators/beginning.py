"""How paths of any generator begin or are entered again: whose prompt is whose, and which codes can be theirs."""

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

from imagecot.contracts.paths import Paths
from imagecot.errors import UsageError

Asked = TypeVar("Asked")


def numbered(asked: Sequence[Asked], seeds: Tensor) -> tuple[list[Asked], Tensor]:
    """Return what was asked for, each once, and the number of each path's own among it, (B,) int64 on the CPU.

    asked  one prompt for all of seeds (B,), or one for each; UsageError for any other number
    """
    if len(asked) not in (1, len(seeds)):
        raise UsageError(f"{len(asked)} prompts do not go with {len(seeds)} seeds; give one prompt or as many.")
    number: dict[Asked, int] = {}
    for one in asked:
        number.setdefault(one, len(number))
    index = torch.tensor([number[one] for one in asked])
    return list(number), index.expand(len(seeds)).clone()


def check_codes(codes: Tensor, start: Paths, step: int) -> None:
    """Raise UsageError for codes that paths which began as `start` cannot have after `step` steps."""
    if codes.shape != start.codes.shape or not 0 <= step <= start.steps:
        raise UsageError(f"codes {tuple(codes.shape)} after step {step} are none of this generator's paths.")
