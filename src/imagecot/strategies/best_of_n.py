"""best-of-n: n paths run to their end; the highest P(yes) to the ORM question wins (paper, section 3.1)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from imagecot.contracts.search import Candidate, Choice, PathRecord, Run
from imagecot.strategies.options import NoSettings
from imagecot.strategies.trace import ranked

if TYPE_CHECKING:
    from imagecot.contracts.paths import Paths


class BestOfN:
    """All paths run to their end, and the verifier picks one of the images."""

    Settings = NoSettings
    needs = frozenset({"verifier"})

    def paths(self, n: int) -> int:
        """As many as are asked for."""
        return n

    def choose(self, run: Run) -> Choice[Candidate]:
        """Return all candidates, and the best of them; of equal scores the first."""
        candidates = run.in_groups(self.assess)
        return Choice(candidates, ranked(candidates)[0])

    def assess(self, run: Run, paths: "Paths", candidates: list[Candidate]) -> list[int]:
        """Stop nothing."""
        return []

    def replay(self, recorded: Sequence[PathRecord], settings: NoSettings) -> Choice[PathRecord]:
        """Take the path of the highest score, of equal ones the first."""
        return Choice(recorded, max(range(len(recorded)), key=lambda k: recorded[k].score or 0.0))
