"""`run`: a benchmark from its recipe to its files."""

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from imagecot import registry
from imagecot.benchmark.measure import CONFIGS, measure, random_generator
from imagecot.benchmark.recipe import BenchmarkRecipe
from imagecot.benchmark.report import plot, table
from imagecot.benchmark.result import Result
from imagecot.errors import UsageError, nearest
from imagecot.files import make_folder, write_text
from imagecot.generators.showo import ShowoGenerator
from imagecot.watch import SILENT, Watch

if TYPE_CHECKING:
    from imagecot.contracts.verifier import Verifier


def run(recipe: BenchmarkRecipe, *, watch: Watch = SILENT) -> Result:
    """Measure, and write benchmark.json, benchmark.md and benchmark.png, in place of an earlier benchmark there.

    UsageError for a model that there is not and for a generator whose parts are not known here; ImagecotError where a
    model cannot be loaded or a file not be written.
    """
    _check(recipe)
    with watch.waiting("loading the models"):
        generator, verifier = _load(recipe)
    make_folder(recipe.output)  # before minutes are spent
    largest = recipe.largest
    batches = sorted({2**k for k in range(largest.bit_length()) if 2**k < largest} | {largest})
    with watch.progress("measuring") as progress:
        found = measure(generator, verifier, batches=batches, n=recipe.n, repeats=recipe.repeats, progress=progress)
    result = replace(found, generator=recipe.generator or f"{recipe.config}, random weights", verifier=recipe.verifier)
    write_text(recipe.output / "benchmark.json", json.dumps(result.as_json(), indent=1) + "\n")
    write_text(recipe.output / "benchmark.md", table(result))
    plot(result, recipe.output / "benchmark.png")
    return result


def _check(recipe: BenchmarkRecipe) -> None:
    """Raise UsageError for a name that can be nothing."""
    for role, name in (("generator", recipe.generator), ("verifier", recipe.verifier)):
        if name is not None:
            registry.check(role, name)
    if recipe.config is not None and recipe.config not in CONFIGS:
        raise nearest("configuration", recipe.config, list(CONFIGS))


def _load(recipe: BenchmarkRecipe) -> "tuple[ShowoGenerator, Verifier | None]":
    """Load the models, or make one of a size."""
    verifier = None
    if recipe.verifier is not None:
        verifier = registry.load("verifier", recipe.verifier, dtype=recipe.precision)
    if recipe.config is not None:
        drawing = random_generator(CONFIGS[recipe.config], recipe.precision)
    else:
        found = registry.load("generator", str(recipe.generator), dtype=recipe.precision)
        if not isinstance(found, ShowoGenerator):
            raise UsageError(f"the parts of a Show-o are timed, and {recipe.generator} is none; name a Show-o.")
        drawing = found
    return drawing if recipe.steps is None else drawing.adjusted(steps=recipe.steps), verifier
