"""adaptive: paths come in rounds until the verifier is sure enough of one, so that easy prompts take few.

n is the most. After each round the best path so far by the ORM question is compared with a threshold; where it passes,
the search ends. So it is best-of-n that stops early, as in adaptive self-consistency for language models (Aggarwal et
al., 2023, arXiv 2305.11860) and in best-of-n under a budget: with all paths judged by the same question, what comes
after a P(yes) near 1 can hardly be chosen any more.

The threshold is a matter of the verifier: one that is rarely sure needs a low one. It can fall from round to round
(`fall`): of a hard prompt on which a verifier is never sure, what is left of the paths costs as much as before and
gains less, so the search ends with less.

The paths of a round can be thinned out on their way (`keep`): after one step the verifier looks at the previews, and
only the best of the round run to their end, as in successive halving (Jamieson and Talwalkar, 2016, arXiv 1502.07943).
Verifiers advise what `imagecot calibrate` chose on prompts of training.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, Field

from imagecot.contracts.questions import ORM
from imagecot.contracts.search import Candidate, Choice, PathRecord, Run
from imagecot.contracts.values import JSON
from imagecot.strategies.first_step import FirstStep, first_step
from imagecot.strategies.options import OPTIONS
from imagecot.strategies.thinning import worst
from imagecot.strategies.trace import ranked

if TYPE_CHECKING:
    from imagecot.contracts.paths import Paths


class AdaptiveSettings(BaseModel):
    """How many paths a round has, and what ends the search."""

    model_config = OPTIONS

    threshold: Annotated[float, Field(ge=0, le=1)] = Field(
        0.9, description="The P(yes) of a final image from which on no further round is drawn."
    )
    fall: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0, description="By how much the threshold falls, evenly, until all n paths are drawn."
    )
    share: Annotated[float, Field(gt=0, le=1)] = Field(0.25, description="The share of the n paths that a round draws.")
    keep: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0,
        description="Of the paths of a round the share that runs on after the first step, those of the highest P(yes); "
        "with 1 nobody is asked there.",
    )
    first_step: FirstStep = None


class Adaptive:
    """Rounds of paths, until one is good enough."""

    Settings = AdaptiveSettings
    needs = frozenset({"verifier"})

    def paths(self, n: int) -> int:
        """At most as many as are asked for."""
        return n

    def choose(self, run: Run) -> Choice[Candidate]:
        """Return the candidates of all rounds that were needed, and the best of them; of equal scores the first."""
        candidates: list[Candidate] = []
        while (among := self.next_round(run, candidates)) is not None:
            thinned = run.settings.keep < 1
            drawn = run.in_groups(self.assess if thinned else None, together=thinned, among=among)
            if not drawn:  # a budget that it shares with other searches is spent
                break
            candidates += drawn
        return Choice(candidates, ranked(candidates)[0])

    def assess(self, run: Run, paths: "Paths", candidates: list[Candidate]) -> list[int]:
        """Stop the worst paths of a round after the first step."""
        settings: AdaptiveSettings = run.settings
        spared = math.ceil(settings.keep * len(candidates)) == len(candidates)
        if spared or paths.step != first_step(run, settings.first_step):
            return []
        return worst(run.ask(run.preview(paths), candidates, paths.step, ORM), settings.keep)

    def next_round(self, run: Run, candidates: Sequence[Candidate]) -> range | None:
        """The paths behind these candidates, unless one of them is good enough, or all are drawn."""
        settings: AdaptiveSettings = run.settings
        for among in rounds(run.n, settings.share):
            if among.start == len(candidates):
                return among
            last = among.stop == len(candidates)
            if last and max(one.score or 0.0 for one in candidates) >= enough(run.n, among, settings):
                return None
        return None

    def replay(self, recorded: Sequence[PathRecord], settings: AdaptiveSettings) -> Choice[PathRecord] | None:
        """Take the path that ends the search: the best of the rounds that are drawn.

        Records do not say what is asked of previews, so that rounds which are thinned out cannot be replayed.
        """
        if settings.keep < 1:
            return None
        scores = [path.score or 0.0 for path in recorded]
        for among in rounds(len(recorded), settings.share):
            best = max(range(among.stop), key=lambda k: scores[k])
            if scores[best] >= enough(len(recorded), among, settings):
                break
        return Choice(recorded, best)

    def trials(self, steps: int, scores: Sequence[float]) -> list[Mapping[str, JSON]]:
        """Thresholds that some of the paths pass; rounds of a tenth to half; all paths of a round, or the best of it.

        A threshold falls not at all, or to a quarter of itself in the end.
        """
        highest = sorted(scores, reverse=True)
        thresholds = {_shortened(highest[int(share * len(highest))]) for share in _PASSING}
        thinned: list[Mapping[str, JSON]] = [{}]
        for share, keep in ((1 / 3, 0.5), (0.55, 0.25), (0.55, 0.5), (2 / 3, 0.25)):
            thinned.append({"first_step": max(1, round(share * steps)), "keep": keep})
        return [
            {"threshold": threshold, "fall": round(fall * threshold, 4), "share": share, **thin}
            for threshold in sorted(thresholds)
            for fall in (0.0, 0.75)
            for share in (0.1, 0.2, 0.3, 0.5)
            for thin in thinned
        ]


_PASSING = (0.5, 0.35, 0.25, 0.15, 0.08, 0.03)  # shares of all paths that pass the thresholds which are tried


def _shortened(p: float) -> float:
    """A probability with two digits of it, or of what is missing to 1."""
    missing = 1 - p
    digits = 2 if missing >= 0.1 else 1 - math.floor(math.log10(max(missing, 1e-6)))
    return math.floor(p * 10**digits) / 10**digits


def enough(n: int, among: range, settings: AdaptiveSettings) -> float:
    """The P(yes) that ends a search for n paths behind the round of these."""
    return settings.threshold - settings.fall * among.start / n


def rounds(n: int, share: float) -> Iterator[range]:
    """The numbers of the paths of each round."""
    size = max(1, math.ceil(share * n - 1e-9))  # a share of 0.07 of 100 is 7, whatever the product is rounded to
    for first in range(0, n, size):
        yield range(first, min(first + size, n))
