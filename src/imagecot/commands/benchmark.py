"""`imagecot benchmark`: how fast a generator and its judge are on this machine, beside a plain decoder."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imagecot.benchmark.bounds import LARGEST_BATCH, MOST_PATHS, MOST_REPEATS, MOST_STEPS
from imagecot.commands.options import AsJson, between
from imagecot.commands.output import completion, terminal
from imagecot.errors import UsageError
from imagecot.interruption import continuing
from imagecot.precision import PRECISIONS, check_precision

if TYPE_CHECKING:
    from imagecot.benchmark.recipe import BenchmarkRecipe


Generator = Annotated[
    str | None,
    typer.Option(
        help="A shipped name, a checkpoint folder or a hub id.",
        autocompletion=completion("generator"),
        show_default=False,
    ),
]
Config = Annotated[
    str | None, typer.Option(help="Or random weights of a Show-o of a size: tiny, mid or full.", show_default=False)
]
Verifier = Annotated[
    str | None, typer.Option(help="Who judges: likewise.", autocompletion=completion("verifier"), show_default=False)
]
Steps = Annotated[
    int | None,
    typer.Option(
        help="Steps of an image. Default: the generator's own.", show_default=False, callback=between(1, MOST_STEPS)
    ),
]
N = Annotated[
    int,
    typer.Option("-n", help="Paths of the best-of-n that is timed with the judge.", callback=between(1, MOST_PATHS)),
]
Largest = Annotated[int, typer.Option(help="The largest batch of paths.", callback=between(1, LARGEST_BATCH))]
Repeats = Annotated[
    int, typer.Option(help="How often each work is timed; the median counts.", callback=between(1, MOST_REPEATS))
]
Precision = Annotated[
    str | None,
    typer.Option(help=f"Of both models: {', '.join(PRECISIONS)}. Default: float32.", show_default=False),
]
Out = Annotated[Path, typer.Option(help="Where to write.")]


def benchmark(
    *,
    generator: Generator = None,
    config: Config = None,
    verifier: Verifier = None,
    steps: Steps = None,
    n: N = 20,
    largest: Largest = 64,
    repeats: Repeats = 3,
    precision: Precision = None,
    out: Out = Path("runs/benchmark"),
    as_json: AsJson = False,
) -> None:
    """Time drawing and judging, part by part, and against a plain decoder in the same run.

    Writes benchmark.json, benchmark.md and benchmark.png into the folder, in place of an earlier benchmark there.

    Examples:

      imagecot benchmark --generator tiny --verifier tiny-zero-shot

      imagecot benchmark --config mid --steps 4 -n 2

      imagecot benchmark --config full --steps 1 --largest 2 --repeats 1
    """
    from imagecot.benchmark.recipe import BenchmarkRecipe
    from imagecot.recipes import check

    if (generator is None) == (config is None):
        raise UsageError("give either --generator for a model or --config for random weights, not both or neither.")
    if precision is not None:
        check_precision(precision)
    asked = {
        "output": out,
        "generator": generator,
        "config": config,
        "verifier": verifier,
        "steps": steps,
        "n": n,
        "largest": largest,
        "repeats": repeats,
        "precision": precision,
    }
    follow(check(asked, BenchmarkRecipe, "what was asked for"), as_json=as_json)


def follow(recipe: "BenchmarkRecipe", command: str = "", *, as_json: bool = False) -> None:
    """Measure by a recipe, and print the table, or one JSON object."""
    with terminal().waiting("loading"):
        from imagecot.benchmark.follow import run
        from imagecot.benchmark.report import table

    with continuing("nothing is written; the same command measures again"):
        result = run(recipe, watch=terminal())
    files = f"{recipe.output}/benchmark.md, benchmark.json, benchmark.png"
    typer.echo(json.dumps(result.as_json()) if as_json else f"{table(result)}\n{files}")
