"""stepwise: at each step n continuations of the one kept path; the highest P(yes) to the PRM question is kept.

The paper's process reward model at test time (section 3.2): a beam search that keeps one path.
"""

from collections.abc import Sequence

from imagecot.contracts.search import Candidate, Choice, PathRecord, Run
from imagecot.strategies.beam import Beam, continued
from imagecot.strategies.options import NoSettings


class Stepwise:
    """At each step the best of n continuations of one path is kept."""

    Settings = NoSettings
    needs = frozenset({"verifier"})
    questions = Beam.questions

    def paths(self, n: int) -> int:
        """As many continuations of every step as paths are asked for."""
        return n

    def choose(self, run: Run) -> Choice[Candidate]:
        """Return the n continuations of the last step, and the one that was kept."""
        return continued(run, 1)

    def replay(self, recorded: Sequence[PathRecord], settings: NoSettings) -> None:
        """It draws paths of its own."""
