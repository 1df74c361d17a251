"""What all masked generators do alike with paths: a step, what it predicted, and codes that are taken back.

They differ in their logits, and in how many codes a step leaves masked and how noisy its confidences are.

How many codes may be masked is known from the schedule before a step, so shapes do not depend on what was drawn: a GPU
never waits for the host to look. Where some codes fewer are masked, places of decided ones fill up.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from imagecot.contracts.devices import sent
from imagecot.contracts.paths import UNDECIDED, Paths
from imagecot.contracts.randomness import Stream, uniforms
from imagecot.errors import UsageError
from imagecot.generators.beginning import check_codes
from imagecot.generators.masked.schedules import Schedule, masked_count
from imagecot.generators.masked.step import decode_step, draw_by_inverse
from imagecot.memory import in_parts

# Maps codes (B, N), UNDECIDED where masked, K places (B, K) in them and the number of each path's prompt (B,), on the
# CPU, to float32 logits (B, K, C), guided, at these places.
Logits = Callable[[Tensor, Tensor, Tensor], Tensor]


def begun(index: Tensor, seeds: Tensor, codes: Tensor, steps: int, shared: object) -> Paths:
    """Return paths of seeds (B,) at step 0, all their codes (B, N) masked.

    index   the number of each path's prompt (B,), on the CPU: which text is whose is asked there at every step
    shared  what the paths start from
    """
    return Paths(codes, sent(seeds.long(), codes.device), index, 0, steps, shared=shared)


def entered(start: Paths, codes: Tensor, step: int, schedule: Schedule) -> Paths:
    """Return paths that began as `start` and had codes (B, N), UNDECIDED where masked, after `step` steps.

    UsageError for codes that cannot be theirs.
    """
    check_codes(codes, start, step)
    masked = _most_undecided(codes)
    if masked > (most := most_masked(schedule, step, start.steps, codes.shape[1])):
        raise UsageError(f"after step {step} at most {most} codes of a path are masked, but {masked} of those given.")
    codes = sent(codes.long(), start.codes.device)
    return replace(start, codes=codes, own=None if masked else codes, step=step)


def advanced(paths: Paths, logits: Logits, schedule: Schedule, temperature: float, at_once: int) -> Paths:
    """Return paths one step further, with the codes (B, N) that the step predicted in `own`.

    schedule     says how many codes each step leaves masked
    temperature  strength of the noise on confidences
    at_once      paths of one forward pass

    ValueError for paths that are finished.
    """
    if paths.finished:
        raise ValueError(f"the paths have done all {paths.steps} steps")

    positions = paths.codes.shape[1]
    planned = masked_count(schedule, paths.step, paths.steps, positions)
    most = most_masked(schedule, paths.step, paths.steps, positions)

    def predict(part: slice) -> tuple[Tensor, Tensor]:
        codes, seeds = paths.codes[part], paths.seeds[part]
        uniform, mask_uniform = (
            uniforms(seeds, paths.step, stream, positions) for stream in (Stream.CODES, Stream.MASKING)
        )
        places = first_of(codes == UNDECIDED, most)
        found = logits(codes, places, paths.prompt_index[part])
        draw = partial(draw_by_inverse, uniform=uniform.gather(1, places).flatten())
        return decode_step(found, codes, places, draw, mask_uniform, temperature=temperature, num_masked=planned)

    parts = in_parts(predict, len(paths), at_once)
    proposed, masked = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    step = paths.step + 1
    decided = proposed if step == paths.steps else proposed.masked_fill(masked, UNDECIDED)
    return replace(paths, codes=decided, own=proposed, step=step)


def first_of(wanted: Tensor, count: int) -> Tensor:
    """Return `count` places (B, count) of each row of wanted (B, N) bool: those that are true first, in their order."""
    return (~wanted).to(torch.uint8).argsort(dim=1, stable=True)[:, :count]


def of_distinct(logits: Logits, codes: Tensor, places: Tensor, prompt_index: Tensor) -> Tensor:
    """Return `logits`, where rows of the same prompt, codes and places are computed once.

    All are at the first step, and so are forks of one path. On a GPU all rows are computed, since looking at them there
    is to wait for it.
    """
    if codes.device.type != "cpu":
        return logits(codes, places, prompt_index)
    asked = torch.cat([prompt_index[:, None], codes, places], dim=1)
    distinct, row = asked.unique(dim=0, return_inverse=True)
    if len(distinct) == len(codes):
        return logits(codes, places, prompt_index)
    index, codes, places = distinct.split([1, codes.shape[1], places.shape[1]], dim=1)
    return logits(codes, places, index[:, 0])[row]


def remasked(paths: Paths, undecided: Tensor, schedule: Schedule) -> Paths:
    """Return the paths with the codes at `undecided` (B, N) bool masked, at the step that draws about so many.

    That is the last step before which the schedule leaves at least as many codes masked as in any of the paths.
    """
    codes = paths.codes.masked_fill(undecided.to(paths.codes.device), UNDECIDED)
    masked = _most_undecided(codes)
    step = paths.steps if masked == 0 else 0
    for done in range(1, paths.steps):
        if 0 < masked <= masked_count(schedule, done - 1, paths.steps, codes.shape[1]):
            step = done
    return replace(paths, codes=codes, own=None if masked else codes, step=step)


def _most_undecided(codes: Tensor) -> int:
    """How many of the codes (B, N) of a path are UNDECIDED at most."""
    return int((codes == UNDECIDED).sum(dim=1).max()) if len(codes) else 0


def most_masked(schedule: Schedule, step: int, steps: int, positions: int) -> int:
    """How many codes of a path are masked at most after `step` steps: a step masks as many as planned, or fewer."""
    if step in (0, steps):
        return 0 if step else positions
    return min(max(1, masked_count(schedule, step - 1, steps, positions)), positions)


def confidence(paths: Paths, logits: Logits, at_once: int) -> Tensor:
    """Return the probabilities (B, N) of the codes that are drawn, 0 elsewhere; two forward passes.

    Each code is hidden with about half of the others, in the second pass what was seen in the first: a generator that
    draws by masks says nothing about codes that it sees. Which half it is depends on the path's seed and step.
    """
    half = uniforms(paths.seeds, paths.step, Stream.POSITIONS, paths.codes.shape[1]) < 0.5
    drawn = paths.codes != UNDECIDED
    halves = [half & drawn, ~half & drawn]
    counts = [int(count) for count in torch.stack([hidden.sum(1).amax() for hidden in halves]).tolist()]

    def look(part: slice) -> Tensor:
        codes = paths.codes[part]
        found = torch.zeros(codes.shape, device=codes.device)
        for hidden, count in zip(halves, counts, strict=True):
            if count:
                places = first_of(hidden[part], count)
                left = codes.masked_fill(hidden[part], UNDECIDED)
                probabilities = logits(left, places, paths.prompt_index[part]).float().softmax(2)
                chosen = codes.gather(1, places).clamp(min=0)[..., None]
                told = torch.zeros_like(found).scatter(1, places, probabilities.gather(2, chosen)[..., 0])
                found = torch.where(hidden[part], told, found)
        return found

    return torch.cat(in_parts(look, len(paths), at_once))


def predicted(paths: Paths) -> Tensor:
    """Return the complete codes (B, N) that the last step predicted; ValueError where there was none."""
    if paths.own is None:
        raise ValueError("paths have nothing to show before their first step")
    proposed: Tensor = paths.own
    return proposed
