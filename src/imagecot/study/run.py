"""A study from its recipe to its summary: observe what is missing, time the searches, correct, and sum up.

    imagecot study recipes/study/tiny.yaml --workers 2

`candidates/GENERATOR.jsonl` hold a row a prompt, `timing.jsonl` a row a measurement, `self_correction/` the same of
Table 5, `gallery/` pictures, `summary.json` all numbers. The same command goes on wherever it was interrupted,
and judges anew what was judged by other weights.
"""

import json
import math
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from imagecot import interruption, registry
from imagecot.bounds import MOST_WORKERS, check_whole
from imagecot.errors import ImagecotError, UsageError
from imagecot.files import write_text
from imagecot.processes import share
from imagecot.prompts import check_prompts
from imagecot.strategies.options import settings_of
from imagecot.strategies.trace import versions
from imagecot.study import self_correction, timing
from imagecot.study.analysis import analyse
from imagecot.study.folder import TIMING, check_folder, correction_store, is_claimed, stores
from imagecot.study.known import Known
from imagecot.study.names import SUMMARY
from imagecot.study.pool import Judges, Models, Shelf, observe, write_pictures
from imagecot.study.recipe import RowRecipe, StudyRecipe, Unit, due, prompts, timed_prompts, units
from imagecot.study.rejudge import judge_again
from imagecot.study.rows import Row
from imagecot.study.store import Store, without_nan
from imagecot.study.timing import Timed
from imagecot.worlds import find
from imagecot.worlds.find import judges_of


def run(recipe: StudyRecipe, *, workers: int = 1, command: str = "", console: Console | None = None) -> Row:
    """Do what is missing of a study and return its summary, which is also written where the study is interrupted.

    workers  processes that draw and judge; seconds are measured by this one after they have ended
    command  what the user typed, for the summary

    UsageError where `recipe.output` holds another study, a model cannot read a prompt, or a row asks for what its
    models cannot do, all of it before anything is drawn; ImagecotError where a model or file cannot be used.
    """
    check_whole(workers, "--workers", 1, MOST_WORKERS)
    console = console or Console(stderr=True)
    known = Known(recipe.precision)
    recipe = recipe.resolved(known.advice)
    weights = weights_used(recipe, known)
    check_folder(recipe, weights)
    shelf = Shelf(recipe.precision)
    try:
        check_models(recipe, weights, shelf)
        draw(recipe, weights, workers, shelf, console)
        judge_again(recipe, stores(recipe, weights), console)
        with _bar(console, "seconds") as bar:
            time_rows(recipe, shelf, bar)
        if recipe.self_correction:
            with _bar(console, "self-correction") as bar:
                correct(recipe, weights, shelf, bar)
    finally:
        if is_claimed(recipe):
            with console.status("summing up"):
                summary = conclude(recipe, weights, command)
    return summary


def weights_used(recipe: StudyRecipe, known: Known) -> Row:
    """SHA-256 of all that draws, verifies or searches, each read once, but for our own searches."""
    rows = recipe.rows.values()
    names: dict[str, set[str | None]] = {
        "generator": {*recipe.generators.values(), *(row.corrector for row in rows)},
        "verifier": {row.verifier for row in rows},
        "search": {row.search for row in rows if registry.is_code("search", row.search)},
    }
    if recipe.self_correction:
        names["generator"].add(recipe.self_correction.correcting_generator)
        names["verifier"] |= self_correction.verifiers_of(recipe.self_correction)
    found = {
        role: {name: known.digests(role, name) for name in sorted(filter(None, asked))} for role, asked in names.items()
    }
    used = {"generators": found["generator"], "verifiers": found["verifier"]}
    return used | ({"searches": found["search"]} if found["search"] else {})


def judges_used(recipe: StudyRecipe) -> Row:
    """SHA-256 of the judges' weights, where they are folders or in the hub's cache."""
    return {name: find.digests(name) for name in judges_of(recipe.detector, recipe.world)}


def check_models(recipe: StudyRecipe, weights: Row, shelf: Shelf) -> None:
    """Load what is still to draw or to judge, in the reverse order of use, and see that it can do all that is asked.

    UsageError for a prompt that a model cannot read whole, or what a row asks for and its models cannot do.
    """
    texts = [
        *timed_prompts(recipe),
        *(m["prompt"] for _, m in prompts(recipe.detector, recipe.prompts_per_task, recipe.world)),
    ]
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
            _check_row(name, row, models, texts)


def _check_row(name: str, row: RowRecipe, models: Models, texts: Sequence[str]) -> None:
    """Raise UsageError, naming the row, for what its models cannot do; of a prompt only reasons depend."""
    strategy = row.how.strategy
    try:
        settings_of(strategy, row.search, row.options, {}, models.generator.steps)
    except UsageError as error:
        advised = f", where {row.verifier} advises these" if row.verifier else ""
        raise UsageError(f"rows.{name}: {str(error).rstrip('.')}; say others in the row{advised}.") from None
    for text in texts if "reflector" in strategy.needs else texts[:1]:
        try:
            models.request(text, row, 1, 0)
        except UsageError as error:
            raise UsageError(f"rows.{name}: {error}") from None


def weight(recipe: StudyRecipe, unit: Unit) -> float:
    """About how long a unit takes: a search that draws anew, and maybe judges every step, as long as all else."""
    return 1.0 + sum(not row.how.replayed for row in due(recipe, unit).values())


def draw(recipe: StudyRecipe, weights: Row, workers: int, shelf: Shelf, console: Console) -> None:
    """Do the missing units, in this process or shared among `workers`."""
    work = list(units(recipe))
    places = stores(recipe, weights)
    done = {key: store.numbers() for key, store in places.items()}
    todo = [unit for unit in work if unit.number not in done[unit.generator]]
    if not todo:
        return
    workers = min(workers, len(todo))
    lengths = {unit[:2]: weight(recipe, unit) for unit in work}
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f} %"))
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as progress:
        total = sum(lengths.values())
        task = progress.add_task("drawing and judging", total=total)
        left = list(todo)

        def watch() -> None:
            nonlocal left
            first = len(left) == len(todo)
            left = [unit for unit in left if not places[unit.generator].holds_new(unit.number)]
            remaining = sum(lengths[unit[:2]] for unit in left)
            progress.update(task, completed=total - remaining)
            if first and len(left) < len(todo):
                began = next(unit for unit in todo if unit not in left)
                each = _seconds(places[began.generator], began.number) / lengths[began[:2]]
                console.print(f"{len(left)} of {len(work)} pools to draw, about {_span(each * remaining / workers)}")

        watch()
        if workers == 1:
            for _ in _follow(recipe, places, todo, shelf):
                watch()
        else:
            shelf.clear()
            share(_work, (recipe, weights, todo), workers, watch)
            watch()
        if left:
            raise ImagecotError("a worker process died; run the same command again to go on, or use fewer --workers.")


def _work(recipe: StudyRecipe, weights: Row, todo: list[Unit], rank: int, workers: int) -> None:
    """One process's share of the units."""
    for _ in _follow(recipe, stores(recipe, weights), todo[rank::workers], Shelf(recipe.precision)):
        pass


def _follow(recipe: StudyRecipe, places: dict[str, Store], todo: Sequence[Unit], shelf: Shelf) -> Iterator[Unit]:
    """Do units and yield each when it is kept; only the models of one generator are held at a time."""
    judges = Judges.load(recipe.detector, recipe.world)
    for key, group in groupby(todo, lambda unit: unit.generator):
        models = shelf.of_rows(recipe, key)
        for unit in group:
            interruption.check()
            row, pictures = observe(recipe, unit, models, judges)
            places[key].claim()
            write_pictures(recipe.output, unit.number, pictures)
            places[key].keep(row)
            yield unit


def _seconds(store: Store, number: int) -> float:
    row = next(row for row in store.rows() if row["number"] == number)
    return float(row["ended"] - row["began"])


def _span(seconds: float) -> str:
    minutes = math.ceil(seconds / 60)
    return f"{minutes} minutes" if minutes < 100 else f"{minutes / 60:.1f} hours"


@contextmanager
def _bar(console: Console, text: str) -> Iterator[Callable[[int], Callable[[], object]]]:
    """Yield a function that adds a number of pieces to a bar and returns what moves it by one."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(text, total=0, visible=False)

        def add(count: int) -> Callable[[], object]:
            total = (progress.tasks[0].total or 0) + count
            progress.update(task, total=total, visible=total > 0)
            return lambda: progress.advance(task)

        yield add


def time_rows(recipe: StudyRecipe, shelf: Shelf, bar: Callable[[int], Callable[[], object]]) -> None:
    """Measure the seconds of every row, the rows of one generator side by side."""
    file, texts = recipe.output / TIMING, timed_prompts(recipe)
    for key in recipe.generators:
        searches = [
            Timed(name, row.search, row.verifier, row.sizes(recipe.n), row.options, row.corrector)
            for name, row in recipe.rows_of(key).items()
        ]
        todo = timing.missing(file, searches, texts)
        if todo:
            timing.measure(file, todo, shelf.of_rows(recipe, key), recipe.seed, bar(len(todo)))


def correct(recipe: StudyRecipe, weights: Row, shelf: Shelf, bar: Callable[[int], Callable[[], object]]) -> None:
    """Do what is missing of Table 5: its prompts, then its seconds."""
    part, store = recipe.self_correction, correction_store(recipe, weights)
    assert part is not None
    left = len(self_correction.shuffled_prompts(recipe)) - len(store.numbers())
    file = store.folder / TIMING
    todo = timing.missing(file, self_correction.timed(recipe, part), timed_prompts(recipe))
    if not left and not todo:
        return
    models = shelf.models(part.correcting_generator, self_correction.verifiers_of(part))
    done = bar(left + len(todo))
    if left:
        self_correction.observe(recipe, part, store, models, Judges.load(recipe.detector, recipe.world), done)
    if todo:
        timing.measure(file, todo, models, recipe.seed, done)


def conclude(recipe: StudyRecipe, weights: Row, command: str) -> Row:
    """Sum up what is there, and write it."""
    places, corrected, part = stores(recipe, weights), correction_store(recipe, weights), recipe.self_correction
    for store in [*places.values(), *([corrected] if part else [])]:
        store.fold()
    observed = {key: store.rows() for key, store in places.items()}
    timings = timing.read(recipe.output / TIMING)
    rows, seconds = (corrected.rows(), timing.read(corrected.folder / TIMING)) if part else ([], [])
    everything = [*(row for found in observed.values() for row in found), *timings, *rows, *seconds]
    summary = {
        **analyse(recipe, observed, timing.means(timings)),
        "self_correction": self_correction.analyse(rows, recipe, part, timing.means(seconds))
        if part and rows
        else None,
        "recipe": recipe.model_dump(mode="json"),
        "weights": {**weights, "judges": judges_used(recipe)},
        "prompts": len(prompts(recipe.detector, recipe.prompts_per_task, recipe.world)),
        "seconds": busy((row["began"], row["ended"]) for row in everything),
        **circumstances(command),
    }
    return write_summary(recipe.output, summary)


def write_summary(folder: Path, summary: Row) -> Row:
    """Write the summary of a study into its folder and return it as it is read there, without NaN."""
    found: Row = without_nan(summary)
    write_text(folder / SUMMARY, json.dumps(found, indent=1) + "\n")
    return found


def circumstances(command: str) -> Row:
    """Return by which command, when and where a study was summed up."""
    return {
        "command": command,
        "date": date.today().isoformat(),
        "machine": {
            "cpu": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
        "versions": versions(),
    }


def busy(intervals: Any) -> float:
    """Seconds that lie in any of the intervals (began, ended): what a study took, however often it was interrupted."""
    total, until = 0.0, -math.inf
    for began, ended in sorted(intervals):
        total += max(0.0, ended - max(began, until))
        until = max(until, ended)
    return total
