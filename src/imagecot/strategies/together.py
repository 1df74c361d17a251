"""The paths of one search, or of several, in one batch: each search judges its own, survivors share it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from imagecot import guard
from imagecot.contracts.generator import Generator
from imagecot.contracts.paths import Paths
from imagecot.contracts.search import Assess, Candidate

if TYPE_CHECKING:
    from imagecot.strategies.run import Run


def draw_together(
    generator: Generator, runs: Sequence["Run"], paths: Paths, owners: Sequence[int], assess: Assess | None = None
) -> list[list[Candidate]]:
    """Take paths to their end, stop those that `assess` gives up, and score the others; return each run's candidates.

    generator  the one that draws these paths
    owners     the index in `runs` of each path; the paths of a run stand side by side
    """
    candidates = [Candidate(seed) for seed in paths.seeds.tolist()]
    alive = list(range(len(candidates)))  # the candidate of each row of `paths`
    while alive and not paths.finished:
        paths = guard.advance(generator, paths)
        stopped: set[int] = set()
        for k, rows in _by_owner(owners, alive).items():
            own, part = [candidates[alive[row]] for row in rows], _part(paths, rows)
            runs[k].note(generator, part, own)
            # After the last step nothing is left to save: the ORM question judges what never was stopped.
            if assess and not paths.finished:
                stopped |= {rows[row] for row in guard.assess(assess, runs[k].request.search, runs[k], part, own)}
        if stopped:
            for row in stopped:
                candidates[alive[row]].truncated_at = paths.step
                candidates[alive[row]].state = paths.codes[row].cpu()
            kept = [row for row in range(len(alive)) if row not in stopped]
            paths, alive = paths.select(kept), [alive[row] for row in kept]
    if alive:
        images = guard.decode(runs[0].generator, paths.codes)
        for k, rows in _by_owner(owners, alive).items():
            runs[k].score_images(images[rows], [candidates[alive[row]] for row in rows], paths.step)
    return [[c for c, owner in zip(candidates, owners, strict=True) if owner == k] for k in range(len(runs))]


def _part(paths: Paths, rows: list[int]) -> Paths:
    """The paths at some rows in their order; nothing is copied where that is all of them."""
    return paths if len(rows) == len(paths) else paths.select(rows)


def _by_owner(owners: Sequence[int], alive: Sequence[int]) -> dict[int, list[int]]:
    """The rows in progress of each run."""
    rows: dict[int, list[int]] = {}
    for row, candidate in enumerate(alive):
        rows.setdefault(owners[candidate], []).append(row)
    return rows
