"""A budget of paths that several searches in rounds share: what easy prompts leave goes to hard ones.

After a first round of every search the paths that are left go round by round to the searches whose best image so far
has the lowest P(yes), as far as these want any: so a search keeps its own rule to end early. The idea is that of
adaptive budgets for language models (Damani et al., 2024, arXiv 2410.04707; Snell et al., 2024, arXiv 2408.03314),
where a model predicts what further samples gain. Here the verifier's scores say it: a gain that is estimated from all
scores of a prompt was no better on recorded pools (docs/experiments/searches.md).
"""

import math
from collections.abc import Sequence

from imagecot.errors import UsageError


def check_budget(budget: int, first: int, n: int) -> None:
    """Raise UsageError for a budget, paths a search on average, that is no first round or more than each may take."""
    if not first <= budget <= n:
        raise UsageError(
            f"a budget of {budget} paths a prompt is not from {first}, one round, to {n}, all paths that a prompt may "
            "take; change it, the share of a round, or n."
        )


def granted(rounds: Sequence[range], best: Sequence[float], left: int, n: int) -> list[bool]:
    """Say which searches draw their next round in this pass.

    rounds  the paths that each would draw next; empty for one that ends
    best    the highest score of each so far
    left    paths that may still be drawn by all of them
    n       the most paths of one search

    The passes that a search can still need share what is left evenly. So a hard prompt can get all rounds, and the
    scores decide anew after each. Of equal scores the first search goes first.
    """
    wanting = [k for k, among in enumerate(rounds) if among]
    if not wanting or any(rounds[k].start == 0 for k in wanting):
        return [bool(among) for among in rounds]  # nothing is known before the first round, which all draw
    passes = max(math.ceil((n - rounds[k].start) / len(rounds[k])) for k in wanting)
    share = max(math.ceil(left / passes), min(len(rounds[k]) for k in wanting))
    found = [False] * len(rounds)
    for k in sorted(wanting, key=lambda k: (best[k], k)):
        if len(rounds[k]) <= min(share, left):
            found[k] = True
            share, left = share - len(rounds[k]), left - len(rounds[k])
    return found
