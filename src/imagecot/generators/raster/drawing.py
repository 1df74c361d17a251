"""Images drawn row by row of codes: a step draws one row, its codes one after the other.

All is done once: a prompt is read once for all its paths, a code once for each path, and what a path keeps are the keys
and values of the codes that were read. The last code of a row is read when the next row begins, so that a path that
ends there costs nothing more, and the last code of an image is never read.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from imagecot.contracts.devices import sent
from imagecot.contracts.paths import UNDECIDED, Paths
from imagecot.contracts.randomness import Stream, uniforms
from imagecot.errors import UsageError
from imagecot.generators.beginning import check_codes, numbered
from imagecot.generators.raster.cache import Buffer, Rows
from imagecot.generators.raster.sampling import Sampling, draw, guided
from imagecot.generators.raster.transformer import CodeTransformer, Prefix
from imagecot.memory import in_parts


@dataclass(frozen=True)
class Started:
    """What a batch of paths starts from.

    prompts   all different
    prefixes  for each prompt its prefix and, with guidance, that of what guidance goes against
    sampling  under which the paths were started: its guidance stays theirs
    """

    prompts: list[str]
    prefixes: list[tuple[Prefix, ...]]
    sampling: Sampling


@torch.no_grad()
def start(
    transformer: CodeTransformer, sampling: Sampling, grid: tuple[int, int], prompts: Sequence[str], seeds: Tensor
) -> Paths:
    """Return paths at step 0: one for each of seeds (B,), of the one prompt or of B prompts."""
    rows, columns = grid
    distinct, index = numbered(prompts, seeds)
    prefixes = transformer.prefixes(distinct, guided=sampling.guides(0))
    return Paths(
        codes=torch.full((len(seeds), rows * columns), UNDECIDED, device=transformer.device),
        seeds=seeds.to(transformer.device, torch.int64),
        prompt_index=index,
        step=0,
        steps=rows,
        shared=Started(distinct, prefixes, sampling),
        own=(),
    )


@torch.no_grad()
def resume(paths: Paths, codes: Tensor, step: int) -> Paths:
    """Enter paths of step 0 again that had codes (B, N) after `step` steps.

    The codes are read when the paths are advanced: most that are entered again are only looked at.
    """
    check_codes(codes, paths, step)
    columns = codes.shape[1] // paths.steps
    if bool((codes[:, : step * columns] < 0).any()):
        raise UsageError(f"after step {step} all codes of {step} rows are drawn, but some of those given are not.")
    codes = codes.to(paths.codes)
    drawn = codes[:, : step * columns]
    codes = torch.cat([drawn, torch.full_like(codes[:, step * columns :], UNDECIDED)], 1)
    return replace(paths, codes=codes, step=step)


def _entered(transformer: CodeTransformer, paths: Paths, at_once: int) -> Paths:
    """The paths with what they keep of the codes that they had when they were resumed, read in one pass."""
    started: Started = paths.shared
    columns = paths.codes.shape[1] // paths.steps
    known = paths.step * columns - 1  # the last code is read by the next step
    drawn = paths.codes[:, :known]
    ends = [(row + 1) * columns - 1 for row in range(paths.step)]
    branches = 2 if started.sampling.guides(paths.step * columns) else 1

    def read(part: slice) -> Rows:
        buffer = Buffer(transformer, started.prefixes, paths.prompt_index[part], (), branches, known)
        if known:
            transformer.read(drawn[part].repeat(branches, 1), 0, buffer.attend)
            buffer.grow(known)
        return tuple(buffer.read_since(branches, first, end) for first, end in pairwise([0, *ends]))

    parts = in_parts(read, len(paths), at_once)
    return replace(paths, own=_joined(parts))


@torch.no_grad()
def advance(transformer: CodeTransformer, sampling: Sampling, paths: Paths, at_once: int) -> Paths:
    """Return paths one row further.

    sampling  how codes are drawn; guidance is that which the paths were started with
    at_once   paths that one forward pass takes
    """
    if paths.finished:
        raise ValueError(f"the paths have done all {paths.steps} steps")
    if paths.step and not paths.own:
        paths = _entered(transformer, paths, at_once)
    started: Started = paths.shared
    sampling = replace(
        sampling,
        guidance_scale=started.sampling.guidance_scale,
        guided_codes=started.sampling.guided_codes,
    )

    def one(part: slice) -> tuple[Tensor, Tensor]:
        own = tuple(row[part] for row in paths.own)
        return _row(
            transformer,
            sampling,
            replace(
                paths, codes=paths.codes[part], seeds=paths.seeds[part], prompt_index=paths.prompt_index[part], own=own
            ),
        )

    parts = in_parts(one, len(paths), at_once)
    if not parts:
        return replace(paths, step=paths.step + 1, own=())
    codes = torch.cat([codes for codes, _ in parts])
    last = paths.step + 1 == paths.steps  # nothing is read after it
    own = () if last else (*paths.own, torch.cat([read for _, read in parts]))
    return replace(paths, codes=codes, own=own, step=paths.step + 1)


def _row(transformer: CodeTransformer, sampling: Sampling, paths: Paths) -> tuple[Tensor, Tensor]:
    """The codes (B, N) of paths after their next row, and the keys and values of the codes that it read."""
    columns = paths.codes.shape[1] // paths.steps
    first = paths.step * columns
    uniform = uniforms(paths.seeds, paths.step, Stream.CODES, columns)
    branches = 2 if sampling.guides(max(first, 1)) else 1
    started: Started = paths.shared
    buffer = Buffer(transformer, started.prefixes, paths.prompt_index, paths.own, branches, columns)
    codes = paths.codes.clone()
    for column in range(columns):
        position = first + column
        if position == 0:
            logits = _first_logits(transformer, sampling, started, paths.prompt_index)
        else:
            if buffer.branches == 2 and not sampling.guides(position):
                buffer.leave_guidance()
            before = codes[:, position - 1, None].repeat(buffer.branches, 1)
            states = transformer.read(before, position - 1, buffer.attend)[:, -1]
            buffer.grow(1)
            logits = _logits(transformer, sampling, states, buffer.branches)
        codes[:, position] = draw(logits, uniform[:, column], sampling)
    kept = 2 if sampling.guides(first + columns) else 1
    return codes, buffer.read_since(min(kept, buffer.branches))


def _first_logits(transformer: CodeTransformer, sampling: Sampling, started: Started, index: Tensor) -> Tensor:
    """Logits (B, codes) of the first code: those of equal prompts are computed once."""
    distinct, place = index.unique(return_inverse=True)  # on the CPU, so that nobody waits for a GPU
    branches = 2 if sampling.guides(0) else 1
    numbers = distinct.tolist()
    states = torch.stack([started.prefixes[k][branch].state for branch in range(branches) for k in numbers])
    return _logits(transformer, sampling, states, branches)[sent(place, states.device)]


def _logits(transformer: CodeTransformer, sampling: Sampling, states: Tensor, branches: int) -> Tensor:
    """Guided logits (B, codes) in float32 of states (branches * B, width)."""
    logits = transformer.head(states).float()
    if branches == 1:
        return logits
    conditional, unconditional = logits.chunk(2)
    return guided(conditional, unconditional, sampling.guidance_scale)


def _joined(parts: Sequence[Rows]) -> Rows:
    """What all paths keep, from what the parts of a batch keep."""
    return tuple(torch.cat(of_row) for of_row in zip(*parts, strict=True))
