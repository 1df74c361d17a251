"""parm: paths that are clear enough to judge and without potential stop at once; the best of the rest wins.

The paper's potential assessment reward model (section 3.3). After each step every path that was not clear yet is asked
whether its preview is clear enough to be judged. The first time it is, the second turn of the same conversation asks
for its potential: a no stops the path, and its compute; a yes lets it run to the end unasked. The ORM question chooses
among those that finish. Where none is left, the path that was refused least is taken up where it stopped.

Where a share of the paths is to be kept (`keep`, the paper's is 0), a no stops a path only while more than that share
runs, the surest no first. Of a hard prompt a verifier says no to nearly all paths, so that by the paper's rule it is
the answer to the first that is left who chooses.
"""

import time
from dataclasses import replace

import torch

from imagecot.generators.paths import Paths
from imagecot.search.run import Run
from imagecot.search.together import score
from imagecot.search.trace import Candidate, Cost, ranked
from imagecot.verifiers.questions import CLARITY, POTENTIAL

NEEDS_VERIFIER = True
YES = 0.5


def choose(run: Run) -> tuple[list[Candidate], int]:
    """Return all candidates and the index of the best that finished; of equal scores the first wins."""
    candidates = run.in_groups(assess)
    if all(candidate.truncated_at is not None for candidate in candidates):
        resume_best(run, candidates)
    return candidates, ranked(candidates)[0]


def assess(run: Run, paths: Paths, candidates: list[Candidate]) -> list[int]:
    """Ask those of `candidates` (one a path) that were not clear yet; return the rows to stop, the surest no first."""
    if paths.step < run.first_step:
        return []
    unclear = [row for row, candidate in enumerate(candidates) if candidate.first_clear is None]
    if not unclear:
        return []
    asked = [candidates[row] for row in unclear]
    images = run.preview(paths.select(unclear))
    answers, conversation = run.begin(images, asked, paths.step, CLARITY)
    clear = [k for k, p in enumerate(answers) if p >= YES]
    if not clear:
        return []
    newly = [asked[k] for k in clear]
    potential = run.ask(images[clear], newly, paths.step, POTENTIAL, conversation.select(torch.tensor(clear)))
    for candidate in newly:
        candidate.first_clear = paths.step
    refused = sorted((p, unclear[k]) for k, p in zip(clear, potential, strict=True) if p < YES)
    return [row for _, row in refused]


def resume_best(run: Run, candidates: list[Candidate]) -> None:
    """Finish the stopped path whose potential was refused least, from where it stopped (the first of equals)."""
    began = time.perf_counter()
    best = max(candidates, key=lambda candidate: candidate.verdicts[-1].p_yes)
    assert best.state is not None and best.truncated_at is not None
    start = run.start(torch.tensor([best.seed]))
    codes = best.state.to(start.codes)[None]
    paths = replace(start, codes=codes, proposed=codes, step=best.truncated_at)
    best.resumed_at, best.truncated_at = best.truncated_at, None
    while not paths.finished:
        paths = run.advance(paths, [best])
    score(run, paths, [best])
    run.cost += Cost(seconds=time.perf_counter() - began)
