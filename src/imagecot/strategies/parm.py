"""parm: paths that are clear enough to judge and without potential stop at once; the best of the rest wins.

The paper's potential assessment reward model (section 3.3). After each step every path that was not clear yet is asked
whether its preview is clear enough to be judged. The first time it is, the second turn of the same conversation asks
for its potential: a no stops the path, and its compute; a yes lets it run to the end unasked. The ORM question chooses
among those that finish. Where none is left, the path that was refused least is taken up where it stopped.

Of a hard prompt a verifier says no to nearly all paths, so that by the paper's rule little is left to choose from; of
an easy one yes, so that little is saved. With a share to keep (`keep`, the paper's is 0), potentials are compared
instead: of the paths that become clear after the same step, that share with the most potential runs on. Measured on 300
pools of paths, this chooses better at fewer rows than noes that stop a path only while more than a share runs
(docs/experiments/parm.md).
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, Field, ValidationInfo, field_validator

from imagecot.bounds import MAX_SEED
from imagecot.contracts.questions import CLARITY, POTENTIAL
from imagecot.contracts.search import Candidate, Choice, PathRecord, Run
from imagecot.contracts.values import JSON
from imagecot.strategies.options import OPTIONS
from imagecot.strategies.thinning import worst
from imagecot.strategies.trace import ranked

if TYPE_CHECKING:
    from imagecot.contracts.paths import Paths

YES = 0.5


class ParmSettings(BaseModel):
    """When paths are asked, and which of them stop."""

    model_config = OPTIONS

    first_step: Annotated[int, Field(ge=1, le=MAX_SEED)] = Field(
        1, description="The first step after which paths are looked at: earlier previews are not even decoded."
    )
    keep: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0,
        description="Of the paths that become clear after the same step the share that runs on, those with most "
        "potential; 0, the paper's rule, stops every no.",
    )

    @field_validator("first_step")
    @classmethod
    def _is_a_step(cls, value: int, info: ValidationInfo) -> int:
        steps = (info.context or {}).get("steps")
        if steps is not None and value != 1 and value >= steps:
            raise ValueError(f"it must be from 1 to {steps - 1}")
        return value


class Parm:
    """Paths without potential stop as soon as that can be seen, and the verifier picks one of the rest."""

    Settings = ParmSettings
    needs = frozenset({"verifier"})
    questions = frozenset({CLARITY, POTENTIAL})

    def paths(self, n: int) -> int:
        """As many as are asked for."""
        return n

    def choose(self, run: Run) -> Choice[Candidate]:
        """Return all candidates, and the best that finished; of equal scores the first."""
        candidates = run.in_groups(self.assess, together=run.settings.keep > 0)
        if all(candidate.truncated_at is not None for candidate in candidates):
            _resume_best(run, candidates)
        return Choice(candidates, ranked(candidates)[0])

    def assess(self, run: Run, paths: "Paths", candidates: list[Candidate]) -> list[int]:
        """Ask those of the candidates that were not clear yet; return the rows to stop."""
        import torch

        if paths.step < run.settings.first_step:
            return []
        unclear = [row for row, candidate in enumerate(candidates) if candidate.first_clear is None]
        if not unclear:
            return []
        asked = [candidates[row] for row in unclear]
        images = run.preview(paths if len(unclear) == len(paths) else paths.select(unclear))
        answers, conversation = run.begin(images, asked, paths.step, CLARITY)
        clear = [k for k, p in enumerate(answers) if p >= YES]
        if not clear:
            return []
        newly = [asked[k] for k in clear]
        potential = run.ask(images[clear], newly, paths.step, POTENTIAL, conversation.select(torch.tensor(clear)))
        for candidate in newly:
            candidate.first_clear = paths.step
        return [unclear[clear[k]] for k in without_potential(potential, run.settings.keep)]

    def replay(self, recorded: Sequence[PathRecord], settings: ParmSettings) -> Choice[PathRecord]:
        """Take the best path that is not stopped, else the one that was refused least.

        What stops by a share to keep depends on the paths that become clear together, so on the group.
        """
        stopped = {k for k, path in enumerate(recorded) if path.stopped is not None}
        if settings.keep:
            together: dict[int, list[int]] = {}
            for k, path in enumerate(recorded):
                if path.first_clear is not None:
                    together.setdefault(path.first_clear, []).append(k)
            stopped = {
                clear[k]
                for clear in together.values()
                for k in without_potential([recorded[k].potential or 0.0 for k in clear], settings.keep)
            }
        running = [k for k in range(len(recorded)) if k not in stopped]
        if running:
            return Choice(recorded, max(running, key=lambda k: recorded[k].score or 0.0))
        return Choice(recorded, max(range(len(recorded)), key=lambda k: recorded[k].potential or 0.0))

    def trials(self, steps: int, scores: Sequence[float]) -> list[Mapping[str, JSON]]:
        """First looks in the middle half of the steps; the paper's rule, and shares to keep."""
        firsts = range(max(1, steps // 4), max(2, 3 * steps // 4))
        return [{"first_step": first, "keep": keep} for first in firsts for keep in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7)]


def without_potential(potential: Sequence[float], keep: float) -> list[int]:
    """Which of the paths that became clear together stop: by the paper's rule, or all but the best share to keep."""
    if not keep:
        return [k for k, p in enumerate(potential) if p < YES]
    return worst(potential, keep)


def _resume_best(run: Run, candidates: list[Candidate]) -> None:
    """Finish the stopped path whose potential was refused least, from where it stopped (the first of equals)."""
    best = max(candidates, key=lambda candidate: candidate.verdicts[-1].p_yes)
    paths = run.resume(best)
    best.resumed_at, best.truncated_at = best.truncated_at, None
    while not paths.finished:
        paths = run.advance(paths, [best])
    run.score(paths, [best])
