"""`run`: a whole evaluation, from its recipe to its summary, in this process, in several, or under a launcher."""

import platform
from collections.abc import Sequence

import torch

from imagecot import __version__
from imagecot.errors import ImagecotError
from imagecot.evaluation.against import Other
from imagecot.evaluation.drawing import Drawing
from imagecot.evaluation.evaluate import plan
from imagecot.evaluation.folder import ImageSet
from imagecot.evaluation.job import Job
from imagecot.evaluation.recipe import EvaluationRecipe
from imagecot.evaluation.report import failures_page, summarise_run, table
from imagecot.evaluation.sharing import share
from imagecot.evaluation.state import FAILURES, IDENTITY, TABLE, Evaluation, Piece, read_rows
from imagecot.evaluation.summary import Found, Record, read_summary
from imagecot.files import write_text
from imagecot.identity import read_identity
from imagecot.launch import launched
from imagecot.recipes import usable
from imagecot.watch import SILENT, Watch


def run(recipe: EvaluationRecipe, *, watch: Watch = SILENT) -> Found | None:
    """Do what is missing of an evaluation and return its summary; None in all but the first process of a launcher.

    What was interrupted goes on where it was, and what is finished is read back. UsageError for a name that there is
    not, a folder that holds something else, a prompt that cannot be drawn or judged, and another evaluation that does
    not match; ImagecotError where not one image could be scored, or a file of the evaluation is damaged.
    """
    return follow(Job.of(usable(recipe, watch)), watch)


def follow(job: Job, watch: Watch = SILENT) -> Found | None:
    """Do what is missing of a job; as of `run`."""
    state, against = Evaluation(job.out, job.identity), job.recipe.against
    other = Other.read(against, job.out) if against is not None else None
    if other and isinstance(job.source, Drawing):
        other.check({(m.tag, m.text): job.recipe.samples for m in job.source.prompts})
    if state.finished:
        summary = _finished(job, state)
    else:
        todo = plan(job.source)
        summary = share(job, state, todo, watch, lambda: _conclude(job, state, todo), lambda: _finished(job, state))
    if launched()[0]:
        return None
    if other:
        compared = other.compare(read_rows(state.out), summary.record)
        summary = summary.model_copy(update={"against": compared})
        summary.write(state.out)
    return summary


def _conclude(job: Job, state: Evaluation, todo: Sequence[Piece]) -> None:
    """Join the units and write everything that a finished evaluation leaves."""
    whole = state.whole(todo)
    remarked: Sequence[str] = ()
    if isinstance(job.source, ImageSet):
        whole = whole.model_copy(update={"problems": [*job.source.problems, *whole.problems]})
        remarked = job.source.remarks
    if not whole.rows:
        state.forget()
        raise ImagecotError(f"not one image could be scored: {' '.join(whole.problems[:3])}")
    judges = state.judges() or job.load_judges().judges
    record = Record(
        detector=judges.detector, second=judges.second, run=read_identity(state.out / IDENTITY), versions=versions()
    )
    summary = summarise_run(whole, remarked, record)
    state.write_results(whole)
    failures_page(whole.rows, job.root, state.out / FAILURES)
    write_text(state.out / TABLE, table(summary) + "\n")
    summary.write(state.out)
    state.clean()


def _finished(job: Job, state: Evaluation) -> Found:
    """The summary of what was finished before; what a person deleted beside it is written again."""
    summary = read_summary(state.out)
    if not (state.out / TABLE).is_file():
        write_text(state.out / TABLE, table(summary) + "\n")
    if not (state.out / FAILURES).is_file():
        failures_page(read_rows(state.out), job.root, state.out / FAILURES)
    state.clean()
    return summary


def versions() -> dict[str, str]:
    """Those of all that a score depends on."""
    import numpy
    import PIL
    import transformers

    return {
        "imagecot": __version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "numpy": numpy.__version__,
        "pillow": PIL.__version__,
        "python": platform.python_version(),
    }
