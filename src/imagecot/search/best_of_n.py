"""best-of-n: n paths run to their end; the highest P(yes) to the ORM question wins (paper, section 3.1)."""

from imagecot.generators.paths import Paths
from imagecot.images import to_pictures
from imagecot.search.run import Run
from imagecot.search.trace import Candidate, ranked
from imagecot.verifiers.questions import ORM

NEEDS_VERIFIER = True


def choose(run: Run) -> tuple[list[Candidate], int]:
    """Return all candidates and the index of the best; of equal scores the first wins."""
    candidates = run.in_groups(draw_and_judge)
    return candidates, ranked(candidates)[0]


def draw_and_judge(run: Run, paths: Paths) -> list[Candidate]:
    """Finish the paths and, with a verifier, score their images."""
    candidates = [Candidate(seed) for seed in paths.seeds.tolist()]
    while not paths.finished:
        paths = run.advance(paths, candidates)
    score(run, paths, candidates)
    return candidates


def score(run: Run, paths: Paths, candidates: list[Candidate]) -> None:
    """Decode finished paths into the images of `candidates`, and ask the ORM question where there is a verifier."""
    images = run.preview(paths)
    for candidate, picture in zip(candidates, to_pictures(images), strict=True):
        candidate.image = picture
    if run.verifier is not None:
        for candidate, p in zip(candidates, run.ask(images, candidates, paths.step, ORM), strict=True):
            candidate.score = p
