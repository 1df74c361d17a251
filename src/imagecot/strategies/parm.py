"""parm: paths that are clear enough to judge and without potential stop at once; the best of the rest wins.

The paper's potential assessment reward model (section 3.3). After each step every path that was not clear yet is asked
whether its preview is clear enough to be judged. The first time it is, the second turn of the same conversation asks
for its potential: a no stops the path, and its compute; a yes lets it run to the end unasked. The ORM question chooses
among those that finish. Where none is left, the path that was refused least is taken up where it stopped.

Of a hard prompt a verifier says no to nearly all paths, so that by the paper's rule little is left to choose from; of
an easy one yes, so that little is saved. With a share to keep (`keep`, the paper's is 0), potentials are compared
instead: of the paths that become clear after the same step, that share with the most potential runs on. Measured on 300
pools (lab log), this chooses better at fewer rows than noes that stop a path only while more than a share runs.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from imagecot.contracts.paths import Paths
from imagecot.contracts.questions import CLARITY, POTENTIAL
from imagecot.strategies.run import Run
from imagecot.strategies.together import score
from imagecot.contracts.search import Candidate, Cost
from imagecot.strategies.trace import ranked

NEEDS_VERIFIER = True
YES = 0.5


def choose(run: Run) -> tuple[list[Candidate], int]:
    """Return all candidates and the index of the best that finished; of equal scores the first wins."""
    candidates = run.in_groups(assess)
    if all(candidate.truncated_at is not None for candidate in candidates):
        resume_best(run, candidates)
    return candidates, ranked(candidates)[0]


def assess(run: Run, paths: Paths, candidates: list[Candidate]) -> list[int]:
    """Ask those of `candidates` (one a path) that were not clear yet; return the rows to stop."""
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
    return [unclear[clear[k]] for k in without_potential(potential, run.keep)]


def without_potential(potential: Sequence[float], keep: float) -> list[int]:
    """Which of the paths that became clear together stop: by the paper's rule, or all but the best share to keep."""
    if not keep:
        return [k for k, p in enumerate(potential) if p < YES]
    worst_first = sorted(range(len(potential)), key=lambda k: (potential[k], -k))
    return worst_first[: len(potential) - math.ceil(keep * len(potential))]


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
