"""`imagecot evaluate geneval`: score a folder of images, or draw and score, by GenEval."""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imagecot import models as names
from imagecot.commands.output import nearest, progress_bar, say, usable, waiting
from imagecot.errors import ImagecotError, UsageError
from imagecot.geneval.choice import CLIP, classes_of, detectors
from imagecot.precision import PRECISIONS
from imagecot.processes import share
from imagecot.search import STRATEGIES

if TYPE_CHECKING:
    from imagecot.geneval.evaluate import Drawing, Evaluation, Models

app = typer.Typer(no_args_is_help=True, help="Measure images by a benchmark.")
_HUB_DETECTOR = "facebook/mask2former-swin-small-coco-instance"


@app.callback()
def _benchmarks() -> None:
    """Measure images by a benchmark."""


@dataclass(frozen=True)
class Job:
    """All that a process needs to take its share of an evaluation; `source` is a folder or how to draw."""

    source: "Path | Drawing"
    samples: int
    generator: str | None
    verifier: str | None
    detector: str
    clip: str
    precision: str | None
    out: Path
    identity: dict[str, Any]


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
        typer.Option(
            help="Or draw with this model.", autocompletion=lambda: names.known("generator"), show_default=False
        ),
    ] = None,
    verifier: Annotated[
        str | None,
        typer.Option(help="Who judges the paths.", autocompletion=lambda: names.known("verifier"), show_default=False),
    ] = None,
    strategy: Annotated[
        str, typer.Option("--search", help=f"{', '.join(STRATEGIES)}.", autocompletion=lambda: list(STRATEGIES))
    ] = "single",
    n: Annotated[int, typer.Option("-n", help="Paths of each search.")] = 20,
    prompts: Annotated[
        str,
        typer.Option(
            help="tiny (360 held-out prompts of the drawn world), geneval (the benchmark's 553), or a metadata file. "
            "Default: tiny for a generator of the drawn world, else geneval.",
            show_default=False,
        ),
    ] = "",
    per_task: Annotated[
        int | None, typer.Option(help="Take the first so many prompts of each task only.", show_default=False)
    ] = None,
    samples: Annotated[int, typer.Option(help="Images a prompt.")] = 4,
    seed: Annotated[int, typer.Option(help="The same seed draws the same images.")] = 0,
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
    workers: Annotated[int, typer.Option(help="Processes; `accelerate launch` shares the work among its own.")] = 1,
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
    from imagecot.geneval.evaluate import Drawing, Evaluation, plan

    if (images is None) == (generator is None):
        raise UsageError("give either --images to score a folder or --generator to draw, not both or neither.")
    for what, value in (("--samples", samples), ("--workers", workers), ("-n", n)):
        if value < 1:
            raise UsageError(f"{what} must be at least 1, not {value}.")
    precision = usable(precision)
    drawn = generator is not None and names.known_words(generator) is not None
    detector = detector or ("pictograms" if drawn else _HUB_DETECTOR)
    classes = classes_of(detector)
    source: Path | Drawing
    if images is not None:
        source = images
    else:
        assert generator is not None
        _check_models(generator, verifier, strategy)
        chosen = _prompts(prompts or ("tiny" if drawn else "geneval"), classes, per_task)
        source = Drawing(chosen, samples, strategy, n, seed)
    out = out or Path("runs") / time.strftime("geneval-%Y%m%d-%H%M%S")
    identity = {**_identity(source, samples, generator, verifier, detector, clip), "precision": precision}
    job = Job(source, samples, generator, verifier, detector, clip, precision, out, identity)
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    state = Evaluation(out, identity)
    entries, units = plan(source, samples, classes)
    try:
        if not state.finished:
            _share(job, state, entries, units, rank, world, workers)
    except KeyboardInterrupt:
        say(f"stopped; the same command with --out {out} continues where this run was.")
        raise typer.Exit(130) from None
    if rank:
        return
    summary = _conclude(job, state, units, against)
    if as_json:
        typer.echo(json.dumps({**summary, "out": str(out)}, ensure_ascii=False))
    else:
        from imagecot.geneval.report import remarks, table

        typer.echo(table(summary))
        typer.echo("\n".join(remarks(summary)))
        for problem in summary["problems"][:10]:
            say(f"problem: {problem}")
        typer.echo(f"{out}/summary.json, results.jsonl, failures.png")
    if summary["problems"]:
        raise typer.Exit(1)


def _share(job: Job, state: "Evaluation", entries: Any, units: Any, rank: int, world: int, workers: int) -> None:
    """Do what is missing: in this process, in `workers` processes, or this rank's part of accelerate's."""
    if world > 1:
        run_share(job, state, entries, units[rank::world])
        from accelerate import PartialState

        PartialState().wait_for_everyone()
        return
    todo = len(state.missing(units))
    if not todo:
        return
    with progress_bar("evaluating") as progress:
        if workers == 1:
            run_share(job, state, entries, units, lambda left: progress(len(units) - left, len(units)))
            return
        share(_work, (job,), workers, lambda: progress(len(units) - len(state.missing(units)), len(units)))
        if state.missing(units):
            raise ImagecotError("a worker process died; run the same command again to go on, or use fewer --workers.")


def _work(job: Job, rank: int, world: int) -> None:
    """One process's share of an evaluation."""
    from imagecot.geneval.evaluate import Evaluation, plan

    entries, units = plan(job.source, job.samples, classes_of(job.detector))
    run_share(job, Evaluation(job.out, job.identity), entries, units[rank::world])


def run_share(job: Job, state: "Evaluation", entries: Any, units: Any, left: Any = None) -> None:
    """Do those of `units` that are missing; `left` is told how many remain."""
    from imagecot.geneval.evaluate import work

    todo = state.missing(units)
    if not todo:
        return
    with waiting("loading the models"):
        models = _load(job)
    state.begin(models)
    remaining = len(todo)

    def done() -> None:
        nonlocal remaining
        remaining -= 1
        if left:
            left(remaining)

    work(job.source, entries, todo, models, state, done)


def _load(job: Job) -> "Models":
    import torch

    from imagecot.generators import load_generator
    from imagecot.geneval.evaluate import Models
    from imagecot.verifiers import load_verifier

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    first, second = detectors(job.detector, job.clip)
    return Models(
        first,
        second,
        load_generator(job.generator, dtype=job.precision) if job.generator else None,
        load_verifier(job.verifier, dtype=job.precision) if job.verifier else None,
    )


def _check_models(generator: str, verifier: str | None, strategy: str) -> None:
    if strategy not in STRATEGIES:
        raise nearest("search", strategy, list(STRATEGIES))
    if strategy != "single" and verifier is None:
        raise UsageError(f"{strategy} needs a verifier; name one with --verifier, or search with single.")
    for role, name in (("generator", generator), ("verifier", verifier)):
        if name and names.locate(name) is None and name.partition(":")[0].count("/") != 1:
            raise nearest(role, name, names.known(role), ", or give a folder or another hub id")


def _prompts(name: str, classes: tuple[str, ...], per_task: int | None) -> list[dict[str, Any]]:
    from imagecot.geneval.folder import read_prompts
    from imagecot.geneval.prompts import load_benchmark_prompts
    from imagecot.pictograms.captions import held_out_prompts

    if name == "tiny":
        found = held_out_prompts()
    elif name == "geneval":
        found = load_benchmark_prompts()
    else:
        found = read_prompts(Path(name), classes)
    if per_task is None:
        return found
    if per_task < 1:
        raise UsageError(f"--per-task must be at least 1, not {per_task}.")
    taken: dict[str, int] = {}
    kept = []
    for metadata in found:
        taken[metadata["tag"]] = taken.get(metadata["tag"], 0) + 1
        if taken[metadata["tag"]] <= per_task:
            kept.append(metadata)
    return kept


def _identity(
    source: "Path | Drawing", samples: int, generator: str | None, verifier: str | None, detector: str, clip: str
) -> dict[str, Any]:
    """What defines an evaluation: equal identities give equal results."""
    import hashlib

    weights: dict[str, str] = {}
    for role, name in (("generator", generator), ("verifier", verifier)):
        if name:
            weights |= names.weights_of(role, name)
    common = {"samples": samples, "detector": detector, "clip": clip, "weights": weights}
    if isinstance(source, Path):
        return {"images": str(source), **common}
    text = "\n".join(json.dumps(metadata) for metadata in source.prompts)
    return {
        "generator": generator,
        "verifier": verifier,
        "search": source.strategy,
        "n": source.n if source.strategy != "single" else 1,
        "seed": source.seed,
        "prompts": len(source.prompts),
        "prompts_sha256": hashlib.sha256(text.encode()).hexdigest(),
        **common,
    }


def _conclude(job: Job, state: "Evaluation", units: Any, against: Path | None) -> dict[str, Any]:
    """Join the units, write everything that a finished evaluation leaves, and return the summary."""
    import platform

    import numpy
    import PIL
    import torch
    import transformers

    from imagecot import __version__
    from imagecot.files import write_whole
    from imagecot.geneval.report import FAILURES, SUMMARY, failures_page, summarise_run, table

    file = state.out / SUMMARY
    if state.finished and file.is_file() and state.missing(units):
        summary: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if against is None:
            return summary
        from imagecot.geneval.evaluate import Unit
        from imagecot.geneval.report import read_results

        whole = Unit(rows=read_results(state.out), problems=summary["problems"], cost=summary["cost"])
        fresh = summarise_run(whole, summary["record"], against)
        summary["against"] = fresh["against"]
        write_whole(file, (json.dumps(summary, indent=1) + "\n").encode())
        return summary
    whole = state.close(units)
    record = {
        **state.detectors(),
        "run": job.identity,
        "versions": {
            "imagecot": __version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "numpy": numpy.__version__,
            "pillow": PIL.__version__,
            "python": platform.python_version(),
        },
    }
    summary = summarise_run(whole, record, against)
    failures_page(whole.rows, state.out, state.out / FAILURES)
    write_whole(state.out / "table.md", (table(summary) + "\n").encode())
    write_whole(file, (json.dumps(summary, indent=1) + "\n").encode())
    state.clean()
    return summary
