"""What all masked generators do alike with paths: a step, what it predicted, and codes that are taken back.

They differ in their logits, and in how many codes a step leaves masked and how noisy its confidences are.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from imagecot.contracts.paths import UNDECIDED, Paths
from imagecot.contracts.randomness import Stream, uniforms
from imagecot.generators.beginning import check_codes
from imagecot.generators.masked.schedules import Schedule, masked_count
from imagecot.generators.masked.step import decode_step, draw_by_inverse
from imagecot.memory import in_parts

# Maps codes (B, N), UNDECIDED where masked, and the number of each path's prompt (B,) to float32 logits (M, C), guided,
# at the M masked positions, row by row.
Logits = Callable[[Tensor, Tensor], Tensor]


def begun(index: Tensor, seeds: Tensor, positions: int, steps: int, shared: object) -> Paths:
    """Return paths at step 0, all their codes (B, positions) masked, of seeds (B,).

    index   the number of each path's prompt (B,); on its device they are
    shared  what the paths start from
    """
    codes = torch.full((len(seeds), positions), UNDECIDED, device=index.device)
    return Paths(codes, seeds.to(index.device, torch.int64), index, 0, steps, shared=shared, own=codes)


def entered(start: Paths, codes: Tensor, step: int) -> Paths:
    """Return paths that began as `start` and had codes (B, N), UNDECIDED where masked, after `step` steps.

    UsageError for codes that cannot be theirs.
    """
    codes = codes.to(start.codes)
    check_codes(codes, start, step)
    return replace(start, codes=codes, own=codes, step=step)


def advanced(paths: Paths, logits: Logits, planned: int, temperature: float, at_once: int) -> Paths:
    """Return paths one step further, with the codes (B, N) that the step predicted in `own`.

    planned      how many codes the schedule leaves masked
    temperature  strength of the noise on confidences
    at_once      paths of one forward pass

    ValueError for paths that are finished.
    """
    if paths.finished:
        raise ValueError(f"the paths have done all {paths.steps} steps")

    def predict(part: slice) -> tuple[Tensor, Tensor]:
        codes, seeds = paths.codes[part], paths.seeds[part]
        uniform, mask_uniform = (
            uniforms(seeds, paths.step, stream, codes.shape[1]) for stream in (Stream.CODES, Stream.MASKING)
        )
        chosen = uniform[codes == UNDECIDED]
        found = logits(codes, paths.prompt_index[part])
        draw = partial(draw_by_inverse, uniform=chosen)
        return decode_step(found, codes, draw, mask_uniform, temperature, planned)

    parts = in_parts(predict, len(paths), at_once)
    proposed, masked = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    step = paths.step + 1
    decided = proposed if step == paths.steps else proposed.masked_fill(masked, UNDECIDED)
    return replace(paths, codes=decided, own=proposed, step=step)


def of_distinct(logits: Logits, codes: Tensor, prompt_index: Tensor) -> Tensor:
    """Return `logits` of codes (B, N) and prompts (B,), where rows of the same prompt and codes are computed once.

    All are at the first step, and so are forks of one path.
    """
    asked = torch.cat([prompt_index[:, None], codes], dim=1)
    distinct, row = asked.unique(dim=0, return_inverse=True)
    if len(distinct) == len(codes):
        return logits(codes, prompt_index)
    codes = distinct[:, 1:]
    counts = (codes == UNDECIDED).sum(dim=1)
    found = logits(codes, distinct[:, 0]).split(counts.tolist())
    return torch.cat([found[k] for k in row.tolist()])


def remasked(paths: Paths, undecided: Tensor, schedule: Schedule) -> Paths:
    """Return the paths with the codes at `undecided` (B, N) bool masked, at the step that draws about so many.

    That is the last step before which the schedule leaves at least as many codes masked as in any of the paths.
    """
    codes = paths.codes.masked_fill(undecided.to(paths.codes.device), UNDECIDED)
    masked = int((codes == UNDECIDED).sum(dim=1).max())
    step = paths.steps if masked == 0 else 0
    for done in range(1, paths.steps):
        if 0 < masked <= masked_count(schedule, done - 1, paths.steps, codes.shape[1]):
            step = done
    return replace(paths, codes=codes, own=codes, step=step)


def confidence(paths: Paths, logits: Logits, at_once: int) -> Tensor:
    """Return the probabilities (B, N) of the codes that are drawn, 0 elsewhere; two forward passes.

    Each code is hidden with about half of the others, in the second pass what was seen in the first: a generator that
    draws by masks says nothing about codes that it sees. Which half it is depends on the path's seed and step.
    """
    half = uniforms(paths.seeds, paths.step, Stream.POSITIONS, paths.codes.shape[1]) < 0.5
    drawn = paths.codes != UNDECIDED

    def look(part: slice) -> Tensor:
        codes = paths.codes[part]
        found = torch.zeros(codes.shape, device=codes.device)
        for hidden in (half[part] & drawn[part], ~half[part] & drawn[part]):
            if bool(hidden.any()):
                left = codes.masked_fill(hidden, UNDECIDED)
                asked = hidden[left == UNDECIDED]
                probabilities = logits(left, paths.prompt_index[part])[asked].float().softmax(1)
                found[hidden] = probabilities.gather(1, codes[hidden][:, None])[:, 0]
        return found

    return torch.cat(in_parts(look, len(paths), at_once))


def predicted(paths: Paths) -> Tensor:
    """Return the complete codes (B, N) that the last step predicted; ValueError where there was none."""
    if bool((paths.own == UNDECIDED).any()):
        raise ValueError("paths have nothing to show before their first step")
    proposed: Tensor = paths.own
    return proposed
