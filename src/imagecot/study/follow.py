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
from imagecot.files import write_text, write_whole
from imagecot.prompts import check_prompts
from imagecot.recipes import usable
from imagecot.study import audit, audit_table, corrections, corrections_table, self_correction, timing
from imagecot.study.audit import AuditRecipe
from imagecot.study.conclude import circumstances, conclude
from imagecot.study.corrections import CorrectionsRecipe
from imagecot.study.counted import counted
from imagecot.study.draw import draw
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
def run(recipe: StudyRecipe, *, workers: int = 1, command: str = "", watch: Watch = SILENT) -> Summary: ...
@overload
def run(
    recipe: CorrectionsRecipe, *, workers: int = 1, command: str = "", watch: Watch = SILENT
) -> CorrectionsSummary: ...
@overload
def run(recipe: AuditRecipe, *, workers: int = 1, command: str = "", watch: Watch = SILENT) -> AuditSummary: ...
@overload
def run(recipe: FrontierRecipe, *, workers: int = 1, command: str = "", watch: Watch = SILENT) -> FrontierSummary: ...
def run(
    recipe: AnyStudy, *, workers: int = 1, command: str = "", watch: Watch = SILENT
) -> Summary | CorrectionsSummary | AuditSummary | FrontierSummary:
    """Do what is missing of a study and return its summary, which is also written where the study is interrupted.

    workers  processes that draw and judge; seconds are measured by this one after they have ended
    command  what the user typed, for the summary (`typed`)

    UsageError where `recipe.output` holds another study, a model cannot read a prompt, or a row asks for what its
    models cannot do, all of it before anything is drawn; ImagecotError where a model or file cannot be used. A study of
    corrections runs in one process, as each prompt is told the reasons of the one before in a control; so do an audit
    and a frontier.
    """
    check_whole(workers, "--workers", 1, MOST_WORKERS)
    recipe = usable(recipe, watch)
    if isinstance(recipe, CorrectionsRecipe):
        return _follow_corrections(recipe, workers, command, watch)
    if isinstance(recipe, AuditRecipe):
        return _follow_audit(recipe, workers, command, watch)
    if isinstance(recipe, FrontierRecipe):
        if workers > 1:
            raise UsageError("a frontier runs in one process; leave out --workers.")
        return frontier.follow(recipe, command, watch)
    known = Known(recipe.precision)
    recipe = recipe.resolved(known.advice)
    weights = weights_used(recipe, known)
    check_folder(recipe, weights)
    shelf = Shelf(recipe.precision)
    try:
        check_models(recipe, weights, shelf)
        draw(recipe, weights, workers, shelf, watch)
        judge_again(recipe, stores(recipe, weights), watch)
        timing.time_rows(recipe, lambda name, row: _timed(name, row, recipe.n), shelf, watch)
        if recipe.self_correction:
            correct(recipe, recipe.self_correction, weights, shelf, watch)
    finally:
        if is_claimed(recipe):
            with watch.waiting("summing up"):
                summary = conclude(recipe, weights, command)
    return summary


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


def _follow_corrections(recipe: CorrectionsRecipe, workers: int, command: str, watch: Watch) -> CorrectionsSummary:
    """Do what is missing, prompt by prompt, and sum up."""
    if workers > 1:
        raise UsageError("a study of corrections runs in one process; leave out --workers.")
    study = corrections.begin(recipe)
    corrections.correct(study, watch)
    study.store.fold()
    rows = study.store.rows()
    summary = _came_about(corrections_table.analyse(rows), study, rows, command)
    write_summary(recipe.output, summary)
    write_text(recipe.output / "table.md", corrections_table.table(summary))
    return summary


def _follow_audit(recipe: AuditRecipe, workers: int, command: str, watch: Watch) -> AuditSummary:
    """Do what is missing, prompt by prompt, and sum up whatever is there."""
    if workers > 1:
        raise UsageError("an audit runs in one process; leave out --workers.")
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
