"""What searches cost in seconds, measured on real runs of them, side by side so that all meet the same machine.

Several prompts can be timed at once, as an evaluation draws them: their paths share batches, and so do rounds.

Each measurement is kept on disk when it is made and not repeated. They are only true while nothing else runs.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from imagecot import interruption
from imagecot.contracts.randomness import prompt_seed
from imagecot.contracts.search import Cost, Strategy
from imagecot.contracts.values import JSON
from imagecot.strategies.many import carry_out_many
from imagecot.study.counted import counted
from imagecot.study.models import Models, Shelf
from imagecot.study.recipe import Compared, RowRecipe, timed_prompts
from imagecot.study.rows import Counts, TimingRow
from imagecot.study.store import read_rows, write_rows
from imagecot.watch import Watch

TIMING = "timing.jsonl"
Timing = dict[str, dict[int, float]]  # row -> number of paths -> mean seconds an image


@dataclass(frozen=True)
class Timed:
    """A search to be timed with each of `sizes` numbers of paths; `name` is its row.

    of       by what else measurements of the row are told apart, where its settings or models may change
    at_once  how many prompts are run together
    """

    name: str
    search: str | Strategy
    verifier: str | None
    sizes: Sequence[int]
    options: Mapping[str, JSON] = field(default_factory=dict)
    corrector: str | None = None
    of: str = ""
    at_once: int = 1


Missing = tuple[str, int, Timed]  # prompt, number of paths, search


def read(file: Path) -> list[TimingRow]:
    """The measurements in `file`, none where it is missing; ImagecotError where it is damaged."""
    return [row for _, row in read_rows(file, TimingRow)]


def missing(file: Path, searches: Sequence[Timed], prompts: Sequence[str]) -> list[Missing]:
    """The measurements that are not in `file` yet."""
    done = {(row.name, row.of, row.n, row.prompt) for row in read(file)}
    sizes = sorted({size for one in searches for size in one.sizes})
    return [
        (prompt, size, one)
        for prompt in prompts
        for size in sizes
        for one in searches
        if size in one.sizes and (one.name, one.of, size, prompt) not in done
    ]


def measure(file: Path, todo: Sequence[Missing], models: Models, seed: int, done: Callable[[], object]) -> None:
    """Run the searches of `todo` one after another and add a line to `file` for each."""
    rows = read(file)

    def run(prompts: Sequence[str], n: int, one: Timed) -> list[Cost]:
        requests = [models.request(prompt, one, n, prompt_seed(seed, prompt)) for prompt in prompts]
        return [trace.cost for trace in carry_out_many(requests)]

    for one in {one.name: one for _, _, one in todo}.values():
        run([todo[0][0]], min(one.sizes), one)  # the first run of a model allocates and compiles
    for prompts, n, one in _together(todo):
        interruption.check()
        began = time.time()
        costs = run(prompts, n, one)
        rows += [
            TimingRow(
                name=one.name,
                of=one.of,
                n=n,
                prompt=prompt,
                seconds=cost.seconds,
                judge_seconds=cost.judge_seconds,
                counts=Counts.of(cost),
                began=began,
                ended=time.time(),
            )
            for prompt, cost in zip(prompts, costs, strict=True)
        ]
        write_rows(file, rows)
        for _ in prompts:
            done()


def _together(todo: Sequence[Missing]) -> Iterator[tuple[list[str], int, Timed]]:
    """What is to be measured, some prompts of a search and a number of paths at once, in the order of the first."""
    waiting: dict[tuple[str, int], list[Missing]] = {}
    for prompt, n, one in todo:
        waiting.setdefault((one.name, n), []).append((prompt, n, one))
    while waiting:
        for key in [*waiting]:
            at_once = waiting[key][0][2].at_once
            part, rest = waiting[key][:at_once], waiting.pop(key)[at_once:]
            yield [prompt for prompt, _, _ in part], part[0][1], part[0][2]
            if rest:
                waiting[key] = rest


def time_rows(recipe: Compared, timed: Callable[[str, RowRecipe], Timed], shelf: Shelf, watch: Watch) -> None:
    """Measure what is missing of every row's seconds, the rows of one generator side by side.

    timed  what is to be measured of a row with its name
    """
    file, texts = recipe.output / TIMING, timed_prompts(recipe)
    todo = {
        key: missing(file, [timed(name, row) for name, row in recipe.rows_of(key).items()], texts)
        for key in recipe.generators
    }
    measure_all(recipe, todo, shelf, watch)


def measure_all(recipe: Compared, todo: Mapping[str, Sequence[Missing]], shelf: Shelf, watch: Watch) -> None:
    """Measure what is missing, by generator."""
    if not any(todo.values()):
        return
    with watch.progress("seconds") as progress:
        done = counted(progress, sum(map(len, todo.values())))
        for key, lacking in todo.items():
            if lacking:
                measure(recipe.output / TIMING, lacking, shelf.of_rows(recipe, key), recipe.seed, done)


def means(rows: Sequence[TimingRow]) -> Timing:
    """Mean seconds by row and number of paths."""
    found: defaultdict[str, defaultdict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        found[row.name][row.n].append(row.seconds)
    return {name: {n: sum(seconds) / len(seconds) for n, seconds in by.items()} for name, by in found.items()}
