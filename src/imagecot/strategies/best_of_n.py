"""best-of-n: n paths run to their end; the highest P(yes) to the ORM question wins (paper, section 3.1)."""

from imagecot.strategies.run import Run
from imagecot.contracts.search import Candidate
from imagecot.strategies.trace import ranked

NEEDS_VERIFIER = True
assess = None  # every path runs to its end


def choose(run: Run) -> tuple[list[Candidate], int]:
    """Return all candidates and the index of the best; of equal scores the first wins."""
    candidates = run.in_groups()
    return candidates, ranked(candidates)[0]
