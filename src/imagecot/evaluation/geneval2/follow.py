"""`run`: a whole evaluation by GenEval 2, from its recipe to its summary."""

import json
from collections.abc import Iterable, Sequence

from imagecot.errors import ImagecotError
from imagecot.evaluation.folder import ImageSet
from imagecot.evaluation.follow import versions
from imagecot.evaluation.geneval2.job import Job
from imagecot.evaluation.geneval2.judging import Unit, plan
from imagecot.evaluation.geneval2.recipe import Geneval2Recipe
from imagecot.evaluation.geneval2.report import score_lists, table
from imagecot.evaluation.geneval2.summary import Found, Judged, Record, read_summary
from imagecot.evaluation.sharing import share
from imagecot.evaluation.state import IDENTITY, RESULTS, SCORES, TABLE, Evaluation, Piece
from imagecot.files import write_text
from imagecot.geneval2.summary import summarize
from imagecot.identity import read_identity
from imagecot.launch import launched
from imagecot.recipes import usable
from imagecot.watch import SILENT, Watch


def run(recipe: Geneval2Recipe, *, watch: Watch = SILENT) -> Found | None:
    """Do what is missing of an evaluation and return its summary; None in all but the first process of a launcher.

    What was interrupted goes on where it was, and what is finished is read back. UsageError for data that cannot be
    scored, a name that there is not, a judge that answers yes or no alone, a folder that holds something else, and a
    prompt that cannot be drawn; ImagecotError where not one image could be scored, or a file of it is damaged.
    """
    job = Job.of(usable(recipe, watch))
    state = Evaluation(job.out, job.identity)
    if state.finished:
        found = _finished(state)
    else:
        todo = plan(job.source)
        found = share(job, state, todo, watch, lambda: _conclude(job, state, todo), lambda: _finished(state))
    return None if launched()[0] else found


def _conclude(job: Job, state: Evaluation, todo: Sequence[Piece]) -> None:
    """Join the units and write everything that a finished evaluation leaves."""
    whole = _joined(state.units(todo, Unit))
    problems, remarks = whole.problems, list[str]()
    if isinstance(job.source, ImageSet):
        problems, remarks = [*job.source.problems, *problems], job.source.remarks
    if not whole.rows:
        state.forget()
        raise ImagecotError(f"not one image could be scored: {' '.join(problems[:3])}")
    judged = state.kept_judges(Judged) or job.worker().judged
    record = Record(
        judge=judged.judge, drawing=judged.drawing, run=read_identity(state.out / IDENTITY), versions=versions()
    )
    found = Found(score=summarize(whole.rows), problems=problems, remarks=remarks, cost=whole.cost, record=record)
    lines = (json.dumps(row.model_dump(), ensure_ascii=False) + "\n" for row in whole.rows)
    write_text(state.out / RESULTS, "".join(lines))
    lists = score_lists(whole.rows, job.benchmark)
    if lists is not None:
        write_text(state.out / SCORES, json.dumps(lists) + "\n")
    write_text(state.out / TABLE, table(found) + "\n")
    found.write(state.out)
    state.clean()


def _joined(units: Iterable[Unit]) -> Unit:
    rows, problems, cost = [], [], dict[str, int | float]()
    for unit in units:
        rows += unit.rows
        problems += unit.problems
        for key, value in unit.cost.items():
            cost[key] = cost.get(key, 0) + value
    return Unit(rows=rows, problems=problems, cost=cost)


def _finished(state: Evaluation) -> Found:
    """The summary of what was finished before; a table that a person deleted beside it is written again."""
    found = read_summary(state.out)
    if not (state.out / TABLE).is_file():
        write_text(state.out / TABLE, table(found) + "\n")
    state.clean()
    return found
