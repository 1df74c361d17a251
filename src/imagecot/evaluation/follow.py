"""`run`: a whole evaluation, from its recipe to its summary, in this process, in several, or under a launcher."""

import platform
from collections.abc import Sequence

import torch

from imagecot import __version__
from imagecot.errors import ImagecotError
from imagecot.evaluation.against import Other
from imagecot.evaluation.evaluate import Drawing, check_drawing, plan, work
from imagecot.evaluation.folder import ImageSet
from imagecot.evaluation.job import Job
from imagecot.evaluation.recipe import EvaluationRecipe
from imagecot.evaluation.report import failures_page, summarise_run, table
from imagecot.evaluation.state import FAILURES, IDENTITY, TABLE, Evaluation, Piece, read_rows
from imagecot.evaluation.summary import Found, Record, read_summary
from imagecot.files import check_writable, write_text
from imagecot.identity import Identity, read_identity
from imagecot.launch import launched, leftovers
from imagecot.processes import share
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
    rank, world = _processes(watch)
    state, against = Evaluation(job.out, job.identity), job.recipe.against
    other = Other.read(against, job.out) if against is not None else None
    if other and isinstance(job.source, Drawing):
        other.check({(m.tag, m.text): job.recipe.samples for m in job.source.prompts})
    if not state.finished:
        if state.changed:
            watch.tell(f"the images have changed since {job.out} was written; they are scored again.")
        check_writable(job.out)
        todo = plan(job.source)
        _share(job, state, todo, watch, (rank, world))
        if rank == 0:
            _conclude(job, state, todo)
    if rank:
        return None
    summary = _finished(job, state)
    if other:
        compared = other.compare(read_rows(state.out), summary.record)
        summary = summary.model_copy(update={"against": compared})
        summary.write(state.out)
    return summary


def _processes(watch: Watch) -> tuple[int, int]:
    """Which process of how many this is, by its launcher; people are told where that is not obvious."""
    rank, world = launched()
    if world > 1:
        watch.tell(f"this is process {rank + 1} of {world} by RANK and WORLD_SIZE of its launcher.")
    elif leftovers():
        watch.tell(
            f"{' and '.join(leftovers())} in the environment are ignored, since no launcher such as accelerate "
            "started this process: it does all of the work."
        )
    return rank, world


def _share(job: Job, state: Evaluation, todo: Sequence[Piece], watch: Watch, place: tuple[int, int]) -> None:
    """Do what is missing: in this process, in several of this machine, or this one's part under a launcher.

    place  which process of how many this is
    """
    rank, world = place
    if world > 1:
        _work_on(job, state, todo[rank::world], watch)
        from accelerate import PartialState

        PartialState(cpu=not torch.cuda.is_available()).wait_for_everyone()
        return
    missing = state.missing(todo)
    workers = min(job.recipe.workers, len(missing))
    if workers <= 1:
        _work_on(job, state, todo, watch)
        return
    with watch.progress("evaluating") as progress:
        share(
            _worker, (job, state.identity, missing), workers,
            lambda: progress(len(todo) - len(state.missing(todo)), len(todo)),
        )  # fmt: skip
    if state.missing(todo):
        raise ImagecotError("a worker process died; run the same command again to go on, or use fewer --workers.")


def _worker(job: Job, identity: Identity, missing: Sequence[Piece], rank: int, workers: int) -> None:
    """One process's share of the units."""
    _work_on(job, Evaluation(job.out, identity), missing[rank::workers], SILENT)


def _work_on(job: Job, state: Evaluation, todo: Sequence[Piece], watch: Watch) -> None:
    """Do those units that are missing, in this process."""
    missing = state.missing(todo)
    if not missing:
        return
    with watch.waiting("loading the models"):
        loaded = job.load()
    if isinstance(job.source, Drawing):
        check_drawing(job.source, loaded)
    state.settle(loaded.settings)
    left = len(missing)
    with watch.progress("evaluating") as progress:

        def done() -> None:
            nonlocal left
            left -= 1
            progress(len(todo) - left, len(todo))

        work(job.source, missing, loaded, state, done)


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
        detector=judges.detector, second=judges.second, run=read_identity(state.out / IDENTITY), versions=_versions()
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


def _versions() -> dict[str, str]:
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
