"""`run`: a benchmark from its recipe to its files."""

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from imagecot import registry
from imagecot.benchmark.measure import measure
from imagecot.benchmark.recipe import BenchmarkRecipe
from imagecot.benchmark.report import plot, table
from imagecot.benchmark.result import Result
from imagecot.contracts.generator import Adjustable
from imagecot.errors import UsageError, nearest
from imagecot.files import make_folder, write_text
from imagecot.generators.bench import RANDOM, random_generator
from imagecot.judging import beside, judge_named
from imagecot.watch import SILENT, Watch

if TYPE_CHECKING:
    from imagecot.contracts.generator import Generator
    from imagecot.contracts.verifier import Verifier

_USUAL = "float32"


def run(recipe: BenchmarkRecipe, *, watch: Watch = SILENT) -> Result:
    """Measure, and write benchmark.json, benchmark.md and benchmark.png, in place of an earlier benchmark there.

    UsageError for a model that there is not, and for what it cannot be asked for; ImagecotError where a model cannot be
    loaded or a file not be written.
    """
    if recipe.verifier is not None:
        recipe = recipe.model_copy(update={"verifier": judge_named(recipe.verifier, recipe.generator)})
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
    if recipe.config is not None and recipe.config not in RANDOM:
        raise nearest("configuration", recipe.config, list(RANDOM))


def _load(recipe: BenchmarkRecipe) -> "tuple[Generator, Verifier | None]":
    """Load the models, or make one of a size."""
    name = recipe.generator or ""
    if recipe.config is not None:
        generator = random_generator(recipe.config, recipe.precision or _USUAL)
    else:
        generator = registry.load("generator", name, dtype=_precision(recipe, "generator", name))
    verifier = None
    if recipe.verifier is not None:
        judging = _precision(recipe, "verifier", recipe.verifier)
        with beside(name, generator, dtype=_precision(recipe, "generator", name) if name else None):
            verifier = registry.load("verifier", recipe.verifier, dtype=judging)
    if recipe.steps is None:
        return generator, verifier
    if not isinstance(generator, Adjustable):
        raise UsageError(f"{recipe.generator} draws in no other number of steps; leave out steps.")
    return generator.adjusted(steps=recipe.steps), verifier


def _precision(recipe: BenchmarkRecipe, role: str, name: str) -> str | None:
    """The number format of a model; a class of somebody's own has its own where none is asked for."""
    return recipe.precision or (None if registry.is_code(role, name) else _USUAL)
