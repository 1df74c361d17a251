"""best-of-n: n paths run to their end; the highest P(yes) to the ORM question wins (paper, section 3.1)."""

from imagecot.generators.paths import Paths
from imagecot.search.run import Run, to_pictures
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
    images = run.preview(paths)
    for candidate, picture in zip(candidates, to_pictures(images), strict=True):
        candidate.image = picture
    if run.verifier is not None:
        answers = run.ask(images, candidates, paths.step, ORM)
        for candidate, p in zip(candidates, answers, strict=True):
            candidate.score = p
    return candidates
