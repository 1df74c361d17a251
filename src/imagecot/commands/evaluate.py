"""`imagecot evaluate geneval`: score a folder of images, or draw and score, by GenEval."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imagecot.commands import options
from imagecot.commands.output import check_models, completion, nearest, progress_bar, say, usable, waiting
from imagecot.errors import UsageError
from imagecot.interruption import continuing
from imagecot.naming import printable
from imagecot.precision import PRECISIONS
from imagecot.strategies import STRATEGIES
from imagecot.worlds.choice import CLIP, benchmark_of, classes_of

if TYPE_CHECKING:
    from imagecot.evaluation.evaluate import Drawing
    from imagecot.evaluation.folder import ImageSet

app = typer.Typer(no_args_is_help=True, help="Measure images by a benchmark.")
_HUB_DETECTOR = "facebook/mask2former-swin-small-coco-instance"
_TOLD = 10  # problems that are printed; all are in the summary


@app.callback()
def _benchmarks() -> None:
    """Measure images by a benchmark."""


@app.command()
def geneval(
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
        typer.Option(help="Who judges the paths.", autocompletion=completion("verifier"), show_default=False),
    ] = None,
    strategy: Annotated[
        str, typer.Option("--search", help=f"{', '.join(STRATEGIES)}.", autocompletion=lambda: list(STRATEGIES))
    ] = "single",
    n: Annotated[int, typer.Option("-n", help="Paths of each search.", callback=options.PATHS)] = 20,
    prompts: Annotated[
        str,
        typer.Option(
            help="tiny (360 held-out prompts of the drawn world), geneval (the benchmark's 553), or a metadata file. "
            "Default: tiny for a generator of the drawn world, else geneval. With --images: what the folder must hold.",
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
            help="pictograms, or a Mask2Former: a folder, mmdet's .pth or a hub id. Default: pictograms for a "
            f"generator of the drawn world, else {_HUB_DETECTOR}.",
            show_default=False,
        ),
    ] = "",
    clip: Annotated[str, typer.Option(help="The CLIP that names colours beside a Mask2Former.")] = CLIP,
    precision: Annotated[
        str | None, typer.Option(help=f"Of both models: {', '.join(PRECISIONS)}.", show_default=False)
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

      imagecot evaluate geneval --generator tiny --verifier tiny-zero-shot --search best-of-n --against runs/single

      imagecot evaluate geneval --images outputs/ --detector mask2former.pth
    """
    from imagecot import models as names

    if (images is None) == (generator is None):
        raise UsageError("give either --images to score a folder or --generator to draw, not both or neither.")
    precision = usable(precision)
    drawn = generator is not None and names.known_words(generator) is not None
    detector = detector or ("pictograms" if drawn else _HUB_DETECTOR)
    if generator is not None:
        _check_models(generator, verifier, strategy)
        chosen = _prompts(prompts or ("tiny" if drawn else "geneval"), detector, per_task)
        source: Drawing | ImageSet = _drawing(chosen, samples, strategy, n, seed)
    else:
        assert images is not None
        if verifier is not None or per_task is not None:
            raise UsageError("--verifier and --per-task are about images that are drawn; leave them out with --images.")
        source = _image_set(images, samples, detector, _prompts(prompts, detector) if prompts else None)
    out = out or Path("runs") / time.strftime("geneval-%Y%m%d-%H%M%S")
    from imagecot.evaluation.run import Job, Screen, run

    job = Job(source, images, samples, generator, verifier, detector, clip, precision, out, workers)
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


def _check_models(generator: str, verifier: str | None, strategy: str) -> None:
    if strategy not in STRATEGIES:
        raise nearest("search", strategy, list(STRATEGIES))
    if strategy != "single" and verifier is None:
        raise UsageError(f"{strategy} needs a verifier; name one with --verifier, or search with single.")
    check_models(generator=generator, verifier=verifier)


def _drawing(prompts: list[dict[str, Any]], samples: int, strategy: str, n: int, seed: int) -> "Drawing":
    from imagecot.evaluation.evaluate import Drawing

    return Drawing(prompts, samples, strategy, n, seed)


def _image_set(folder: Path, samples: int, detector: str, prompts: list[dict[str, Any]] | None) -> "ImageSet":
    from imagecot.evaluation.folder import read_folder

    return read_folder(folder, samples, classes_of(detector), prompts=prompts, benchmark=benchmark_of(detector))


def _prompts(name: str, detector: str, per_task: int | None = None) -> list[dict[str, Any]]:
    """The prompts by their name, or of a metadata file; the first `per_task` of each task."""
    from imagecot.geneval.metadata import read_prompts
    from imagecot.geneval.prompts import load_benchmark_prompts
    from imagecot.worlds.drawn.captions import held_out_prompts

    if name == "tiny":
        found = held_out_prompts()
    elif name == "geneval":
        found = load_benchmark_prompts()
    else:
        found = read_prompts(Path(name), classes_of(detector))
    if per_task is None:
        return found
    taken: dict[str, int] = {}
    kept = []
    for metadata in found:
        taken[metadata["tag"]] = taken.get(metadata["tag"], 0) + 1
        if taken[metadata["tag"]] <= per_task:
            kept.append(metadata)
    return kept
