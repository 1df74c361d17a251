"""What other searches would have chosen of the same paths.

Paths that were stopped are finished and judged first, so that every path has a score. A search is replayed where all
that it asks was asked of these paths; one that draws paths of its own is left out.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from itertools import groupby

from imagecot import guard, registry
from imagecot.contracts.asking import Asking
from imagecot.contracts.paths import finish
from imagecot.contracts.questions import POTENTIAL
from imagecot.contracts.search import Candidate, PathRecord
from imagecot.errors import UsageError
from imagecot.serving.messages import Other
from imagecot.strategies.request import Request
from imagecot.strategies.run import Run
from imagecot.strategies.trace import Trace


def others(request: Request, trace: Trace) -> list[Other]:
    """The choices of all searches that can be replayed on the paths of a trace, in the order of their names.

    UsageError for a trace without a verifier, and for one whose paths were forked or drawn again.
    """
    if request.verifier is None:
        raise UsageError("nobody judged these paths; choose a search with a verifier to compare others with it.")
    if any(one.forks is not None or one.corrects is not None for one in trace.candidates):
        raise UsageError("these paths were forked or drawn again, so other searches would have drawn others.")
    paths = completed(request, trace.candidates)
    asked = {verdict.question for path in trace.candidates for verdict in path.verdicts}
    records = [_record(before, after) for before, after in zip(trace.candidates, paths, strict=True)]
    found = []
    for name in registry.names("search"):
        search = registry.load("search", name)
        if isinstance(search, Asking) and not {question.name for question in search.questions} <= asked:
            continue
        try:
            settings = replace(request, strategy=name, options={}).settings
        except UsageError:
            continue  # it needs what these models cannot do
        choice = search.replay(records, settings)
        if choice is not None:
            found.append(Other(search=name, path=choice.index, score=paths[choice.index].score or 0.0))
    return found


def completed(request: Request, candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates, those that were stopped finished and judged; what is given stays as it is."""
    paths = [copy(candidate) for candidate in candidates]
    for path in paths:
        path.verdicts = [*path.verdicts]
    stopped = sorted((one for one in paths if one.truncated_at is not None), key=lambda one: one.truncated_at or 0)
    run = Run(request)
    for _, group in groupby(stopped, key=lambda one: one.truncated_at):
        together = [*group]
        finished = finish(request.generator, run.resume(*together))
        run.score_images(guard.decode(request.generator, finished.codes), together, finished.step)
    return paths


def _record(before: Candidate, after: Candidate) -> PathRecord:
    potential = [verdict.p_yes for verdict in before.verdicts if verdict.question == POTENTIAL.name]
    return PathRecord(after.score, before.truncated_at, before.first_clear, potential[-1] if potential else None)
