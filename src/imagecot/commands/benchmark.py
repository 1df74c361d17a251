"""`imagecot benchmark`: how fast a generator and its judge are on this machine, beside a plain decoder."""

import json
from pathlib import Path
from typing import Annotated

import typer

from imagecot import models
from imagecot.commands.output import nearest, progress_bar, waiting
from imagecot.errors import UsageError
from imagecot.files import clear_write_errors, write_whole
from imagecot.precision import PRECISIONS, check_precision


def benchmark(
    generator: Annotated[
        str | None,
        typer.Option(
            help="A shipped name, a checkpoint folder or a hub id.",
            autocompletion=lambda: models.known("generator"),
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        str | None, typer.Option(help="Or random weights of a size: tiny, mid or full.", show_default=False)
    ] = None,
    verifier: Annotated[
        str | None,
        typer.Option(help="Who judges: likewise.", autocompletion=lambda: models.known("verifier"), show_default=False),
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
    for what, value in (("--steps", steps), ("-n", n), ("--largest", largest), ("--repeats", repeats)):
        if value is not None and value < 1:
            raise UsageError(f"{what} must be at least 1, not {value}.")
    check_precision(precision)
    for role, name in (("generator", generator), ("verifier", verifier)):
        if name and models.locate(name) is None and name.partition(":")[0].count("/") != 1:
            raise nearest(role, name, models.known(role), ", or give a folder or another hub id")
    with clear_write_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    with waiting("loading the models"):
        from imagecot.benchmark.measure import CONFIGS, measure, random_generator
        from imagecot.benchmark.report import plot, table
        from imagecot.generators import load_generator
        from imagecot.verifiers import load_verifier

        if config is not None and config not in CONFIGS:
            raise nearest("configuration", config, list(CONFIGS))
        drawing = (
            load_generator(generator, dtype=precision)
            if generator
            else random_generator(CONFIGS[config or ""], precision)
        )
        drawing.steps = steps or drawing.steps
        judge = load_verifier(verifier, dtype=precision) if verifier else None
    batches = sorted({2**k for k in range(largest.bit_length()) if 2**k < largest} | {largest})
    with progress_bar("measuring") as progress:
        result = measure(drawing, judge, batches=batches, n=n, repeats=repeats, progress=progress)
    result = {"generator": generator or f"{config}, random weights", "verifier": verifier, **result}
    write_whole(out / "benchmark.json", (json.dumps(result, indent=1) + "\n").encode())
    write_whole(out / "benchmark.md", table(result).encode())
    plot(result, out / "benchmark.png")
    typer.echo(json.dumps(result) if as_json else f"{table(result)}\n{out}/benchmark.md, benchmark.json, benchmark.png")
