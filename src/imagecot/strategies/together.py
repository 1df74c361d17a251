"""The paths of one search, or of several, in one batch: each search judges its own, survivors share it."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from imagecot.contracts.generator import Generator
from imagecot.contracts.paths import Paths
from imagecot.contracts.questions import ORM
from imagecot.images import to_pictures
from imagecot.contracts.search import Candidate

if TYPE_CHECKING:
    from imagecot.strategies.run import Run

# After a step: the rows to stop, of the paths of a search and the candidates that they are.
Assess = Callable[["Run", Paths, list[Candidate]], list[int]]


def draw_together(
    generator: Generator, runs: Sequence["Run"], paths: Paths, owners: Sequence[int], assess: Assess | None = None
) -> list[list[Candidate]]:
    """Take paths to their end, stop those that `assess` gives up, and score the others; return each run's candidates.

    generator  whose paths they are
    owners   the index in `runs` of each path; the paths of a run stand side by side
    """
    candidates = [Candidate(seed) for seed in paths.seeds.tolist()]
    alive = list(range(len(candidates)))  # the candidate of each row of `paths`
    while alive and not paths.finished:
        paths = generator.advance(paths)
        stopped: set[int] = set()
        for k, rows in _by_owner(owners, alive).items():
            own, part = [candidates[alive[row]] for row in rows], paths.select(rows)
            runs[k].note(generator, part, own)
            # After the last step nothing is left to save: the ORM question judges what never was stopped.
            if assess and not paths.finished:
                stopped |= {rows[row] for row in assess(runs[k], part, own)}
        if stopped:
            for row in stopped:
                candidates[alive[row]].truncated_at = paths.step
                candidates[alive[row]].state = paths.codes[row].cpu()
            kept = [row for row in range(len(alive)) if row not in stopped]
            paths, alive = paths.select(kept), [alive[row] for row in kept]
    for k, rows in _by_owner(owners, alive).items():
        score(runs[k], paths.select(rows), [candidates[alive[row]] for row in rows])
    return [[c for c, owner in zip(candidates, owners, strict=True) if owner == k] for k in range(len(runs))]


def score(run: "Run", paths: Paths, candidates: list[Candidate]) -> None:
    """Decode finished paths into the images of `candidates`, and ask the ORM question where there is a verifier."""
    images = run.preview(paths)
    for candidate, picture in zip(candidates, to_pictures(images), strict=True):
        candidate.image = picture
    if run.verifier is not None:
        for candidate, p in zip(candidates, run.ask(images, candidates, paths.step, ORM), strict=True):
            candidate.score = p


def _by_owner(owners: Sequence[int], alive: list[int]) -> dict[int, list[int]]:
    rows: dict[int, list[int]] = {}
    for row, path in enumerate(alive):
        rows.setdefault(owners[path], []).append(row)
    return rows
