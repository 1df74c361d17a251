"""`imagecot benchmark`: how fast a generator and its judge are on this machine, beside a plain decoder."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imagecot.bounds import check_whole
from imagecot.commands.output import check_models, completion, nearest, progress_bar, waiting
from imagecot.errors import UsageError
from imagecot.files import make_folder, write_text
from imagecot.interruption import continuing
from imagecot.precision import PRECISIONS, check_precision

if TYPE_CHECKING:
    from imagecot.contracts.verifier import Verifier
    from imagecot.generators.showo import ShowoGenerator

MOST_STEPS, MOST_PATHS, LARGEST_BATCH, MOST_REPEATS = 1000, 10_000, 4096, 1000


def benchmark(
    generator: Annotated[
        str | None,
        typer.Option(
            help="A shipped name, a checkpoint folder or a hub id.",
            autocompletion=completion("generator"),
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        str | None, typer.Option(help="Or random weights of a size: tiny, mid or full.", show_default=False)
    ] = None,
    verifier: Annotated[
        str | None,
        typer.Option(help="Who judges: likewise.", autocompletion=completion("verifier"), show_default=False),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Steps of an image. Default: the generator's own.", show_default=False)
    ] = None,
    n: Annotated[int, typer.Option("-n", help="Paths of the best-of-n that is timed with the judge.")] = 20,
    largest: Annotated[int, typer.Option(help="The largest batch of paths.")] = 64,
    repeats: Annotated[int, typer.Option(help="How often each work is timed; the median counts.")] = 3,
    precision: Annotated[str, typer.Option(help=f"Of both models: {', '.join(PRECISIONS)}.")] = "float32",
    out: Annotated[Path, typer.Option(help="Where to write.")] = Path("runs/benchmark"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Time drawing and judging, part by part, and against a plain decoder in the same run.

    Writes benchmark.json, benchmark.md and benchmark.png into the folder, in place of an earlier benchmark there.

    Examples:

      imagecot benchmark --generator tiny --verifier tiny-zero-shot

      imagecot benchmark --config mid --steps 4 -n 2

      imagecot benchmark --config full --steps 1 --largest 2 --repeats 1
    """
    if (generator is None) == (config is None):
        raise UsageError("give either --generator for a model or --config for random weights, not both or neither.")
    if steps is not None:
        check_whole(steps, "--steps", 1, MOST_STEPS)
    check_whole(n, "-n", 1, MOST_PATHS)
    check_whole(largest, "--largest", 1, LARGEST_BATCH)
    check_whole(repeats, "--repeats", 1, MOST_REPEATS)
    check_precision(precision)
    check_models(generator=generator, verifier=verifier)
    with continuing("nothing is written; the same command measures again"):
        drawing, judge = _load(generator, config, verifier, precision)
        drawing = drawing.adjusted(steps=steps) if steps is not None else drawing
        make_folder(out)  # before minutes are spent
        result = _measure(drawing, judge, largest, n, repeats)
    result = {"generator": generator or f"{config}, random weights", "verifier": verifier, **result}
    from imagecot.benchmark.report import plot, table

    write_text(out / "benchmark.json", json.dumps(result, indent=1) + "\n")
    write_text(out / "benchmark.md", table(result))
    plot(result, out / "benchmark.png")
    typer.echo(json.dumps(result) if as_json else f"{table(result)}\n{out}/benchmark.md, benchmark.json, benchmark.png")


def _load(
    generator: str | None, config: str | None, verifier: str | None, precision: str
) -> "tuple[ShowoGenerator, Verifier | None]":
    """Load the models, or make one of a size; UsageError for a generator whose parts are not known here."""
    with waiting("loading the models"):
        from imagecot import registry
        from imagecot.benchmark.measure import CONFIGS, random_generator
        from imagecot.generators.showo import ShowoGenerator

        judge = registry.load("verifier", verifier, dtype=precision) if verifier is not None else None
        if generator is not None:
            drawing = registry.load("generator", generator, dtype=precision)
            if not isinstance(drawing, ShowoGenerator):
                raise UsageError(f"the parts of a Show-o are timed, and {generator} is none; name a Show-o.")
            return drawing, judge
        if config not in CONFIGS:
            raise nearest("configuration", str(config), list(CONFIGS))
        return random_generator(CONFIGS[config], precision), judge


def _measure(drawing: "ShowoGenerator", judge: "Verifier | None", largest: int, n: int, repeats: int) -> dict[str, Any]:
    from imagecot.benchmark.measure import measure

    batches = sorted({2**k for k in range(largest.bit_length()) if 2**k < largest} | {largest})
    with progress_bar("measuring") as progress:
        return measure(drawing, judge, batches=batches, n=n, repeats=repeats, progress=progress)
