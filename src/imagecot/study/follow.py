"""A study from its recipe to its summary: observe what is missing, time the searches, correct, and sum up.

    from imagecot.study import StudyRecipe, run

    summary = run(recipe, workers=2)

`candidates/GENERATOR.jsonl` hold a row a prompt, `timing.jsonl` a row a measurement, `self_correction/` the same of
Table 5, `gallery/` pictures, `summary.json` all numbers. The same call goes on wherever it was interrupted,
and judges anew what was judged by other weights.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar, overload

from imagecot.bounds import MOST_WORKERS, check_whole
from imagecot.errors import UsageError
from imagecot.execution.camp import Camp
from imagecot.execution.executors import LOCAL
from imagecot.execution.team import Team, carry_out, only_one
from imagecot.files import write_text, write_whole
from imagecot.prompts import check_prompts
from imagecot.recipes import usable
from imagecot.study import audit, audit_table, corrections, corrections_table, self_correction, timing
from imagecot.study.audit import AuditRecipe
from imagecot.study.conclude import circumstances, conclude, concluded
from imagecot.study.corrections import CorrectionsRecipe
from imagecot.study.counted import counted
from imagecot.study.draw import Left, Pools
from imagecot.study.folder import STUDY, check_folder, correction_store, is_claimed, stores
from imagecot.study.frontier import follow as frontier
from imagecot.study.frontier.recipe import FrontierRecipe
from imagecot.study.frontier.summary import FrontierSummary
from imagecot.study.known import Known, Weights
from imagecot.study.models import Judges, Shelf, check_row
from imagecot.study.recipe import RowRecipe, SelfCorrection, StudyRecipe, prompts, timed_prompts, units
from imagecot.study.rejudge import judge_again
from imagecot.study.rows import AuditRow, CorrectionsRow
from imagecot.study.summary import AuditSummary, CorrectionsSummary, Summary, write_summary
from imagecot.study.timing import TIMING, Timed
from imagecot.watch import SILENT, Watch

Told = TypeVar("Told", CorrectionsSummary, AuditSummary)
AnyStudy = StudyRecipe | CorrectionsRecipe | AuditRecipe | FrontierRecipe


@overload
def run(
    recipe: StudyRecipe, *, workers: int = 1, on: str = LOCAL, command: str = "", watch: Watch = SILENT
) -> Summary: ...
@overload
def run(
    recipe: CorrectionsRecipe, *, workers: int = 1, on: str = LOCAL, command: str = "", watch: Watch = SILENT
) -> CorrectionsSummary: ...
@overload
def run(
    recipe: AuditRecipe, *, workers: int = 1, on: str = LOCAL, command: str = "", watch: Watch = SILENT
) -> AuditSummary: ...
@overload
def run(
    recipe: FrontierRecipe, *, workers: int = 1, on: str = LOCAL, command: str = "", watch: Watch = SILENT
) -> FrontierSummary: ...
def run(
    recipe: AnyStudy, *, workers: int = 1, on: str = LOCAL, command: str = "", watch: Watch = SILENT
) -> Summary | CorrectionsSummary | AuditSummary | FrontierSummary:
    """Do what is missing of a study and return its summary, which is also written where the study is interrupted.

    workers  how many draw and judge; seconds are measured by one process after they have ended
    on       how they are started (`imagecot.execution.executors`)
    command  what the user typed, for the summary (`typed`)

    UsageError where `recipe.output` holds another study, a model cannot read a prompt, or a row asks for what its
    models cannot do, all of it before anything is drawn; ImagecotError where a model or file cannot be used. A study of
    corrections runs in one process, as each prompt is told the reasons of the one before in a control; so do an audit
    and a frontier.
    """
    check_whole(workers, "--workers", 1, MOST_WORKERS)
    recipe = usable(recipe, watch)
    if isinstance(recipe, CorrectionsRecipe):
        _alone("a study of corrections", workers, on)
        return _follow_corrections(recipe, command, watch)
    if isinstance(recipe, AuditRecipe):
        _alone("an audit", workers, on)
        return _follow_audit(recipe, command, watch)
    if isinstance(recipe, FrontierRecipe):
        _alone("a frontier", workers, on)
        return frontier.follow(recipe, command, watch)
    known = Known(recipe.precision)
    asked, recipe = recipe, recipe.resolved(known.advice)
    weights = weights_used(recipe, known)
    check_folder(recipe, weights)
    shelf = Shelf(recipe.precision)
    pools = Pools(recipe, weights, shelf)
    try:
        check_models(recipe, weights, shelf)
        return _drawn(pools, Team(workers, on, asked), command, watch)
    except BaseException:
        if is_claimed(recipe):
            with only_one(pools) as mine, watch.waiting("summing up"):
                if mine:
                    conclude(recipe, weights, command)
                    Camp(recipe.output).renew(pools)
        raise


def _drawn(pools: Pools, team: Team, command: str, watch: Watch) -> Summary:
    """Draw what is missing together with whoever does so too; one of all does the rest and sums up."""
    recipe, weights, shelf = pools.recipe, pools.weights, pools.shelf
    missing = pools.missing()
    workers = min(team.workers, len(missing))
    if workers > 1:
        shelf.clear()

    def rest() -> Summary:
        judge_again(recipe, pools.places, watch)
        timing.time_rows(recipe, lambda name, row: _timed(name, row, recipe.n), shelf, watch)
        if recipe.self_correction:
            correct(recipe, recipe.self_correction, weights, shelf, watch)
        with watch.waiting("summing up"):
            return conclude(recipe, weights, command)

    look = Left(pools, missing, workers, watch.tell).look
    return carry_out(pools, team, watch, rest, lambda: concluded(recipe), look=look)


def _alone(what: str, workers: int, on: str) -> None:
    if (workers, on) != (1, LOCAL):
        raise UsageError(f"{what} runs in one process; leave out --workers and --on.")


def typed(file: Path, overrides: Sequence[str] = (), *, rows: str = "", workers: int = 1) -> str:
    """The command of a study, as a summary records it.

    file       of the recipe
    overrides  key=value
    rows       with commas between
    """
    command = shlex.join(["imagecot", "study", str(file), *overrides])
    return command + (f" --rows {rows}" if rows else "") + (f" --workers {workers}" if workers > 1 else "")


def chosen(recipe: AnyStudy, rows: str) -> AnyStudy:
    """The study of the rows that are named, with commas between; UsageError where it has none of that name."""
    return recipe.only([name.strip() for name in rows.split(",")]) if rows else recipe


def _follow_corrections(recipe: CorrectionsRecipe, command: str, watch: Watch) -> CorrectionsSummary:
    """Do what is missing, prompt by prompt, and sum up."""
    study = corrections.begin(recipe)
    corrections.correct(study, watch)
    study.store.fold()
    rows = study.store.rows()
    summary = _came_about(corrections_table.analyse(rows), study, rows, command)
    write_summary(recipe.output, summary)
    write_text(recipe.output / "table.md", corrections_table.table(summary))
    return summary


def _follow_audit(recipe: AuditRecipe, command: str, watch: Watch) -> AuditSummary:
    """Do what is missing, prompt by prompt, and sum up whatever is there."""
    study = audit.begin(recipe)
    try:
        audit.look(study, watch)
    finally:
        if (recipe.output / STUDY).is_file():
            study.store.fold()
            with watch.waiting("summing up"):
                summary = _conclude_audit(study, command)
    return summary


def _conclude_audit(study: audit.Audit, command: str) -> AuditSummary:
    recipe, rows = study.recipe, study.store.rows()
    summary = _came_about(audit_table.analyse(rows), study, rows, command)
    write_summary(recipe.output, summary)
    write_text(recipe.output / "table.md", audit_table.table(summary))
    write_whole(recipe.output / "audit.png", audit_table.figure(summary))
    return summary


def _came_about(
    summary: Told,
    study: corrections.Corrections | audit.Audit,
    rows: Sequence[CorrectionsRow] | Sequence[AuditRow],
    command: str,
) -> Told:
    """A summary that also says how its numbers came about; `rows` are all those of the study."""
    told = {
        "recipe": study.recipe.model_dump(mode="json", exclude={"kind"}),
        "weights": study.weights,
        "seconds": sum(row.ended - row.began for row in rows),
        **circumstances(command),
    }
    return summary.model_copy(update=told)


def weights_used(recipe: StudyRecipe, known: Known) -> Weights:
    """SHA-256 of all that draws, verifies or searches, each read once, but for our own searches."""
    part = recipe.self_correction
    correcting = [part.correcting_generator] if part else []
    verifiers = self_correction.verifiers_of(part) if part else ()
    used = known.of_rows(recipe.rows.values(), [*recipe.generators.values(), *correcting], verifiers)
    return used if used["searches"] else {role: found for role, found in used.items() if role != "searches"}


def check_models(recipe: StudyRecipe, weights: Weights, shelf: Shelf) -> None:
    """Load what is still to draw or to judge, in the reverse order of use, and see that it can do all that is asked.

    UsageError for a prompt that a model cannot read whole, or what a row asks for and its models cannot do.
    """
    every = prompts(recipe.detector, recipe.prompts_per_task, recipe.world)
    texts = [*timed_prompts(recipe), *(metadata.prompt for _, metadata in every)]
    part = recipe.self_correction
    if part and len(correction_store(recipe, weights).numbers()) < len(self_correction.shuffled_prompts(recipe)):
        models = shelf.models(part.correcting_generator, self_correction.verifiers_of(part))
        check_prompts(texts, models.generator, *models.verifiers.values())
        self_correction.check(part, models, texts)
    work = list(units(recipe))
    for key, store in reversed(stores(recipe, weights).items()):
        if {unit.number for unit in work if unit.generator == key} <= store.numbers():
            continue
        models = shelf.of_rows(recipe, key)
        check_prompts(texts, models.generator, *models.verifiers.values(), *models.correctors.values())
        for name, row in recipe.rows_of(key).items():
            check_row(name, row, models, texts)


def _timed(name: str, row: RowRecipe, n: int) -> Timed:
    return Timed(name, row.search, row.verifier, row.sizes(n), options=row.options, corrector=row.corrector)


def correct(recipe: StudyRecipe, part: SelfCorrection, weights: Weights, shelf: Shelf, watch: Watch) -> None:
    """Do what is missing of Table 5: its prompts, then its seconds."""
    store = correction_store(recipe, weights)
    left = len(self_correction.shuffled_prompts(recipe)) - len(store.numbers())
    file = store.folder / TIMING
    todo = timing.missing(file, self_correction.timed(recipe, part), timed_prompts(recipe))
    if not left and not todo:
        return
    models = shelf.models(part.correcting_generator, self_correction.verifiers_of(part))
    with watch.progress("self-correction") as progress:
        done = counted(progress, left + len(todo))
        if left:
            judges = Judges.load(recipe.detector, recipe.world)
            self_correction.observe(self_correction.Work(recipe, part, models, judges), store, done)
        if todo:
            timing.measure(file, todo, models, recipe.seed, done)
