"""single: one path and no choice; a verifier, where there is one, scores the image."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from imagecot.contracts.search import Candidate, Choice, PathRecord, Run
from imagecot.strategies.options import NoSettings

if TYPE_CHECKING:
    from imagecot.contracts.paths import Paths


class Single:
    """One path, without any choice."""

    Settings = NoSettings
    needs: frozenset[str] = frozenset()

    def paths(self, n: int) -> int:
        """One."""
        return 1

    def choose(self, run: Run) -> Choice[Candidate]:
        """Return the one candidate."""
        return Choice(run.in_groups(self.assess), 0)

    def assess(self, run: Run, paths: "Paths", candidates: list[Candidate]) -> list[int]:
        """Stop nothing."""
        return []

    def replay(self, recorded: Sequence[PathRecord], settings: NoSettings) -> Choice[PathRecord]:
        """Take the first path."""
        return Choice(recorded, 0)
