"""The summary of a study, whatever of it is there, and how it came about."""

import math
import os
import platform
from collections.abc import Iterable
from datetime import date
from pathlib import Path

import torch

from imagecot.reading import read_record
from imagecot.strategies.trace import versions
from imagecot.study import table_five, timing
from imagecot.study.analysis import analyse
from imagecot.study.folder import correction_store, stores
from imagecot.study.known import Weights
from imagecot.study.names import SUMMARY
from imagecot.study.recipe import StudyRecipe, prompts
from imagecot.study.rows import Spent
from imagecot.study.summary import Summary, write_summary
from imagecot.worlds import find


def conclude(recipe: StudyRecipe, weights: Weights, command: str) -> Summary:
    """Sum up what is there, and write it."""
    places, corrected, part = stores(recipe, weights), correction_store(recipe, weights), recipe.self_correction
    for store in places.values():
        store.fold()
    if part:
        corrected.fold()
    observed = {key: store.rows() for key, store in places.items()}
    timings = timing.read(recipe.output / timing.TIMING)
    rows, seconds = (corrected.rows(), timing.read(corrected.folder / timing.TIMING)) if part else ([], [])
    everything: list[Spent] = [*(row for pool in observed.values() for row in pool), *timings, *rows, *seconds]
    found = analyse(recipe, observed, timing.means(timings))
    table = table_five.analyse(rows, recipe, part, timing.means(seconds)) if part and rows else None
    summary = found.model_copy(
        update={
            "self_correction": table,
            "recipe": recipe.model_dump(mode="json", exclude={"kind"}),
            "weights": {**weights, "judges": judges_used(recipe)},
            "prompts": len(prompts(recipe.detector, recipe.prompts_per_task, recipe.world)),
            "seconds": busy(everything),
            **circumstances(command),
        }
    )
    write_summary(recipe.output, summary)
    return summary


def concluded(recipe: StudyRecipe) -> Summary:
    """Read what another process has summed up; ImagecotError where it is damaged."""
    return read_record(recipe.output / SUMMARY, Summary, advice="run the same command again")


def judges_used(recipe: StudyRecipe) -> dict[str, dict[str, str]]:
    """SHA-256 of the judges' weights, where they are folders or in the hub's cache."""
    return {name: find.digests(name) for name in find.judges_of(recipe.detector, recipe.world)}


def circumstances(command: str) -> dict[str, object]:
    """By which command, when and where a study is summed up."""
    return {
        "command": command,
        "date": date.today().isoformat(),
        "machine": {
            "cpu": processor(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
        "versions": versions(),
    }


def processor() -> str:
    """What the processor calls itself where the system says it, else its architecture."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(errors="replace").splitlines() if file.is_file() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def busy(rows: Iterable[Spent]) -> float:
    """Seconds in which any of the rows was worked on: what a study took, however often it was interrupted."""
    total, until = 0.0, -math.inf
    for row in sorted(rows, key=lambda row: row.began):
        total += max(0.0, row.ended - max(row.began, until))
        until = max(until, row.ended)
    return total
