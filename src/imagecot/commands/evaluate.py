"""`imagecot evaluate geneval`: score a folder of images, or draw and score, by GenEval."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imagecot.commands import options, searches
from imagecot.commands.output import completion, progress_bar, say, usable, waiting
from imagecot.errors import UsageError
from imagecot.geneval.published import CLIP, DETECTOR
from imagecot.interruption import continuing
from imagecot.naming import printable
from imagecot.precision import PRECISIONS

if TYPE_CHECKING:
    from imagecot.contracts.metadata import Metadata
    from imagecot.evaluation.folder import ImageSet

app = typer.Typer(no_args_is_help=True, help="Measure images by a benchmark.")
_TOLD = 10  # problems that are printed; all are in the summary


@app.callback()
def _benchmarks() -> None:
    """Measure images by a benchmark."""


@app.command(cls=searches.SearchCommand)
def geneval(
    context: typer.Context,
    images: Annotated[
        Path | None,
        typer.Option(
            help="Score this folder, laid out like the reference's: 00000/samples/0000.png.", show_default=False
        ),
    ] = None,
    generator: Annotated[
        str | None,
        typer.Option(help="Or draw with this model.", autocompletion=completion("generator"), show_default=False),
    ] = None,
    verifier: Annotated[
        str | None,
        typer.Option(
            help="Who judges the paths. A shipped generator has its own for each search.",
            autocompletion=completion("verifier"),
            show_default=False,
        ),
    ] = None,
    strategy: Annotated[
        str,
        typer.Option(
            "--search",
            help="Which paths live: {searches}, or module:Class.",
            autocompletion=searches.searches,
        ),
    ] = "single",
    n: Annotated[int, typer.Option("-n", help="Paths of each search.", callback=options.PATHS)] = 20,
    settings: searches.Set = None,
    corrector: searches.Corrector = None,
    prompts: Annotated[
        str,
        typer.Option(
            help="drawn (360 held-out prompts of the drawn world; or tiny, as it once was called), geneval (the "
            "benchmark's 553), module:Class, or a metadata file. Default: those of the generator's world. With "
            "--images: what the folder must hold.",
            autocompletion=completion("world"),
            show_default=False,
        ),
    ] = "",
    per_task: Annotated[
        int | None,
        typer.Option(
            help="Take the first so many prompts of each task only.", show_default=False, callback=options.PROMPTS
        ),
    ] = None,
    samples: Annotated[int, typer.Option(help="Images a prompt.", callback=options.IMAGES)] = 4,
    seed: Annotated[int, typer.Option(help="The same seed draws the same images.", callback=options.SEED)] = 0,
    detector: Annotated[
        str,
        typer.Option(
            help="pictograms, a Mask2Former (a folder, mmdet's .pth or a hub id), or module:Class. Default: the one of "
            f"the prompts' world: pictograms, or {DETECTOR}.",
            autocompletion=completion("detector"),
            show_default=False,
        ),
    ] = "",
    clip: Annotated[str, typer.Option(help="The CLIP that names colours beside a Mask2Former.")] = CLIP,
    precision: Annotated[
        str | None, typer.Option(help=f"Of all models: {', '.join(PRECISIONS)}.", show_default=False)
    ] = None,
    workers: Annotated[
        int,
        typer.Option(help="Processes; `accelerate launch` shares the work among its own.", callback=options.WORKERS),
    ] = 1,
    against: Annotated[
        Path | None, typer.Option(help="A finished evaluation of the same prompts to compare with.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where to write. Default: runs/geneval-<time>.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Score images by GenEval, with standard errors, both judges and a page of failures.

    Writes results.jsonl (readable by the reference's summary_scores.py), summary.json, table.md and failures.png. An
    interrupted run is resumed by the same command. Exit code 1 where images were missing or unreadable.

    Examples:

      imagecot evaluate geneval --generator tiny --workers 2 --out runs/single

      imagecot evaluate geneval --generator tiny --search parm --keep 0.5 --against runs/single

      imagecot evaluate geneval --images outputs/ --detector mask2former.pth
    """
    from imagecot.evaluation.evaluate import Drawing
    from imagecot.evaluation.run import Job, Screen, run
    from imagecot.strategies.defaults import completed
    from imagecot.worlds.find import world

    if (images is None) == (generator is None):
        raise UsageError("give either --images to score a folder or --generator to draw, not both or neither.")
    precision = usable(precision)
    given = searches.settings_given(context, settings)
    if generator is None and (verifier, corrector, per_task, given) != (None, None, None, {}):
        raise UsageError(
            "--verifier, --corrector, --per-task and settings of searches are about images that are drawn; leave them "
            "out with --images."
        )
    home = _home(prompts, generator)
    detector = detector or world(home).judges[0]
    if generator is not None:
        named = completed(generator, strategy, verifier, corrector, given)
        source: Drawing | ImageSet = Drawing(_prompts(prompts, home, detector, per_task), samples, named, n, seed)
    else:
        assert images is not None
        source = _image_set(images, samples, detector, home, _prompts(prompts, home, detector) if prompts else None)
    out = out or Path("runs") / time.strftime("geneval-%Y%m%d-%H%M%S")
    job = Job(source, images, samples, detector, clip, precision, out, workers, home)
    with continuing(f"the same command with --out {out} continues where this run was"):
        summary = run(job, against=against, screen=Screen(say, waiting, progress_bar))
    if summary is not None:
        _print(summary, out, as_json)


def _print(summary: dict[str, Any], out: Path, as_json: bool) -> None:
    """Print what was found; exit code 1 where something was left out."""
    if as_json:
        typer.echo(json.dumps({**summary, "out": str(out)}, ensure_ascii=False))
    else:
        from imagecot.evaluation.report import remarks, table

        typer.echo(table(summary))
        typer.echo("\n".join(remarks(summary)))
        for kind, told in (("remark", summary.get("remarks", [])), ("problem", summary["problems"])):
            for sentence in told[:_TOLD]:
                say(f"{kind}: {sentence}")
            if len(told) > _TOLD:
                say(f"and {len(told) - _TOLD} more {kind}s, in {out}/summary.json.")
        typer.echo(printable(f"{out}/summary.json, results.jsonl, failures.png"))
    if summary["problems"]:
        raise typer.Exit(1)


def _image_set(folder: Path, samples: int, detector: str, home: str, prompts: "list[Metadata] | None") -> "ImageSet":
    from imagecot.evaluation.folder import read_folder
    from imagecot.worlds.find import benchmark_of, classes_of

    benchmark = benchmark_of(detector, home)
    return read_folder(folder, samples, classes_of(detector, home), prompts=prompts, benchmark=benchmark)


def _home(prompts: str, generator: str | None) -> str:
    """The name of the world of the prompts, where they are a world's, else of the generator, else of all photos."""
    from imagecot import registry
    from imagecot.worlds.find import is_world
    from imagecot.worlds.geneval import GenEval

    if is_world(prompts):
        return prompts
    return registry.world_of(generator) if generator else GenEval.name


def _prompts(name: str, home: str, detector: str, per_task: int | None = None) -> "list[Metadata]":
    """The prompts of a world, or of a metadata file; the first `per_task` of each task."""
    from imagecot.geneval.metadata import read_prompts
    from imagecot.worlds.find import classes_of, is_world, prompts_of, world

    if not name or is_world(name):
        found = prompts_of(world(home), home)
    else:
        found = read_prompts(Path(name), classes_of(detector, home))
    if per_task is None:
        return found
    taken: dict[str, int] = {}
    kept = []
    for metadata in found:
        taken[metadata.tag] = taken.get(metadata.tag, 0) + 1
        if taken[metadata.tag] <= per_task:
            kept.append(metadata)
    return kept
