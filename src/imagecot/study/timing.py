"""What searches cost in seconds, measured on real runs of them, side by side so that all meet the same machine.

Each measurement is kept on disk when it is made and not repeated. They are only true while nothing else runs.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imagecot import interruption
from imagecot.contracts.randomness import prompt_seed
from imagecot.contracts.search import Strategy
from imagecot.strategies.search import search
from imagecot.study.pool import Models
from imagecot.study.rows import Row, TimingRow
from imagecot.study.store import read_rows, write_lines

Timing = dict[str, dict[int, float]]  # row -> number of paths -> mean seconds an image


@dataclass(frozen=True)
class Timed:
    """A search to be timed with each of `sizes` numbers of paths; `name` is its row."""

    name: str
    search: str | Strategy
    verifier: str | None
    sizes: Sequence[int]
    options: Mapping[str, Any] = field(default_factory=dict)
    corrector: str | None = None


def read(file: Path) -> list[Row]:
    """The measurements in `file`, none where it is missing; ImagecotError where it is damaged."""
    return [row for _, row in read_rows(file, TimingRow)]


def missing(file: Path, searches: Sequence[Timed], prompts: Sequence[str]) -> list[tuple[str, int, Timed]]:
    """The measurements that are not in `file` yet: prompt, number of paths, search."""
    done = {(row["name"], row["n"], row["prompt"]) for row in read(file)}
    sizes = sorted({size for one in searches for size in one.sizes})
    return [
        (prompt, size, one)
        for prompt in prompts
        for size in sizes
        for one in searches
        if size in one.sizes and (one.name, size, prompt) not in done
    ]


def measure(
    file: Path, todo: Sequence[tuple[str, int, Timed]], models: Models, seed: int, done: Callable[[], object]
) -> None:
    """Run the searches of `todo` one after another and add a line to `file` for each."""
    rows = read(file)

    def run(prompt: str, n: int, one: Timed) -> float:
        trace = search(
            prompt,
            generator=models.generator,
            verifier=models.verifier(one.verifier),
            strategy=one.search,
            n=n,
            seed=prompt_seed(seed, prompt),
            corrector=models.corrector(one.corrector),
            **one.options,
        )
        return trace.cost.seconds

    for one in {one.name: one for _, _, one in todo}.values():
        run(todo[0][0], min(one.sizes), one)  # the first run of a model allocates and compiles
    for prompt, n, one in todo:
        interruption.check()
        began = time.time()
        row = {"name": one.name, "n": n, "prompt": prompt, "seconds": run(prompt, n, one)}
        rows.append({**row, "began": began, "ended": time.time()})
        write_lines(file, rows)
        done()


def means(rows: Sequence[Row]) -> Timing:
    """Mean seconds by row and number of paths."""
    by: dict[str, dict[int, list[float]]] = {}
    for row in rows:
        by.setdefault(row["name"], {}).setdefault(row["n"], []).append(row["seconds"])
    return {name: {n: sum(found) / len(found) for n, found in sizes.items()} for name, sizes in by.items()}
