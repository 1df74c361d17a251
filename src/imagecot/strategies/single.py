"""single: one path and no choice; a verifier, where there is one, says what it thinks of the image."""

from imagecot.strategies.run import Run
from imagecot.contracts.search import Candidate

NEEDS_VERIFIER = False
assess = None  # the path runs to its end


def choose(run: Run) -> tuple[list[Candidate], int]:
    """Return the one candidate, and 0, its index."""
    return run.in_groups(), 0
