"""`imagecot evaluate geneval`: score a folder of images, or draw and score, by GenEval."""

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from imagecot.commands import options, searches
from imagecot.commands.options import AsJson
from imagecot.commands.output import completion, say, terminal
from imagecot.commands.recipe import output_of
from imagecot.execution.executors import LOCAL
from imagecot.geneval.published import CLIP as PUBLISHED_CLIP
from imagecot.geneval.published import DETECTOR
from imagecot.interruption import continuing
from imagecot.naming import printable
from imagecot.precision import PRECISIONS, check_precision

if TYPE_CHECKING:
    from imagecot.evaluation.recipe import EvaluationRecipe
    from imagecot.evaluation.summary import Found

app = typer.Typer(no_args_is_help=True, help="Measure images by a benchmark.")
_TOLD = 10  # problems that are printed; all are in the summary

Images = Annotated[
    Path | None,
    typer.Option(help="Score this folder, laid out like the reference's: 00000/samples/0000.png.", show_default=False),
]
Generator = Annotated[
    str | None,
    typer.Option(help="Or draw with this model.", autocompletion=completion("generator"), show_default=False),
]
Verifier = Annotated[
    str | None,
    typer.Option(
        help=f"Who judges the paths: a name, or {options.written()}. A shipped generator has its own for each search.",
        autocompletion=completion("verifier"),
        show_default=False,
    ),
]
Search = Annotated[
    str,
    typer.Option("--search", help="Which paths live: {searches}, or module:Class.", autocompletion=searches.searches),
]
N = Annotated[int, typer.Option("-n", help="Paths of each search.", callback=options.PATHS)]
Budget = Annotated[
    int | None,
    typer.Option(
        help="Paths of each search on average, shared: what easy prompts leave goes to hard ones, up to -n. Of "
        "searches in rounds, such as adaptive.",
        show_default=False,
        callback=options.PATHS,
    ),
]
Prompts = Annotated[
    str,
    typer.Option(
        help="drawn (360 held-out prompts of the drawn world; or tiny, as it once was called), geneval (the "
        "benchmark's 553), module:Class, or a metadata file. Default: those of the generator's world. With "
        "--images: what the folder must hold.",
        autocompletion=completion("world"),
        show_default=False,
    ),
]
PerTask = Annotated[
    int | None,
    typer.Option(
        help="Take the first so many prompts of each task only.", show_default=False, callback=options.PROMPTS
    ),
]
Samples = Annotated[int, typer.Option(help="Images a prompt.", callback=options.IMAGES)]
Seed = Annotated[int, typer.Option(help="The same seed draws the same images.", callback=options.SEED)]
Detector = Annotated[
    str,
    typer.Option(
        help="pictograms, a Mask2Former (a folder, mmdet's .pth or a hub id), or module:Class. Default: the one of "
        f"the prompts' world: pictograms, or {DETECTOR}.",
        autocompletion=completion("detector"),
        show_default=False,
    ),
]
Clip = Annotated[str, typer.Option(help="The CLIP that names colours beside a Mask2Former.")]
Precision = Annotated[str | None, typer.Option(help=f"Of all models: {', '.join(PRECISIONS)}.", show_default=False)]
Against = Annotated[
    Path | None, typer.Option(help="A finished evaluation of the same prompts to compare with.", show_default=False)
]
Out = Annotated[Path | None, typer.Option(help="Where to write. Default: runs/geneval-<time>.", show_default=False)]


@app.callback()
def _benchmarks() -> None:
    """Measure images by a benchmark."""


@app.command(cls=searches.SearchCommand)
def geneval(
    context: typer.Context,
    *,
    images: Images = None,
    generator: Generator = None,
    verifier: Verifier = None,
    strategy: Search = "single",
    n: N = 20,
    budget: Budget = None,
    settings: searches.Set = None,
    corrector: searches.Corrector = None,
    prompts: Prompts = "",
    per_task: PerTask = None,
    samples: Samples = 4,
    seed: Seed = 0,
    detector: Detector = "",
    clip: Clip = PUBLISHED_CLIP,
    precision: Precision = None,
    workers: options.Workers = 1,
    on: options.On = LOCAL,
    against: Against = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Score images by GenEval, with standard errors, both judges and a page of failures.

    Writes results.jsonl (readable by the reference's summary_scores.py), summary.json, table.md and failures.png. An
    interrupted run is resumed by the same command. Exit code 1 where images were missing or unreadable.

    Examples:

      imagecot evaluate geneval --generator tiny --workers 2 --out runs/single

      imagecot evaluate geneval --generator tiny --search parm --keep 0.5 --against runs/single

      imagecot evaluate geneval --images outputs/ --detector mask2former.pth
    """
    from imagecot.evaluation.recipe import EvaluationRecipe
    from imagecot.recipes import check

    check_precision(precision)
    asked = {
        "output": out,
        "images": images,
        "generator": generator,
        "verifier": verifier,
        "search": strategy,
        "n": n,
        "budget": budget,
        "settings": searches.settings_given(context, settings),
        "corrector": corrector,
        "prompts": prompts or None,
        "per_task": per_task,
        "detector": detector or None,
        "clip": clip,
        "precision": precision,
        "against": against,
    }
    asked |= {"samples": samples, "seed": seed, "workers": workers, "on": on}
    follow(check(asked, EvaluationRecipe, "what was asked for"), as_json=as_json)


def follow(recipe: "EvaluationRecipe", command: str = "", *, as_json: bool = False) -> None:
    """Score what a recipe says, and print what was found; exit code 1 where something was left out.

    command  what the user typed where that names the recipe
    """
    from imagecot.evaluation.follow import run
    from imagecot.evaluation.job import with_output

    recipe = with_output(recipe)
    out = output_of(recipe)
    with continuing_in(out, command):
        summary = run(recipe, watch=terminal())
    if summary is not None:
        say_found(summary, lambda: _lines(summary), out, as_json, "failures.png")


def _lines(summary: "Found") -> list[str]:
    from imagecot.evaluation.report import remarks, table

    return [table(summary), "\n".join(remarks(summary))]


class Scored(Protocol):
    """What an evaluation found: its numbers, and what is to be said of it."""

    @property
    def remarks(self) -> Sequence[str]:
        """What is odd."""
        ...

    @property
    def problems(self) -> Sequence[str]:
        """What was left out."""
        ...

    def as_json(self) -> dict[str, object]:
        """All that was found."""
        ...


def continuing_in(out: Path, command: str) -> AbstractContextManager[None]:
    """What an interruption says of an evaluation that writes to a folder; `command` as of `follow`."""
    option = "output=" if command else "--out "
    return continuing(f"the same command with {option}{out} continues where this run was")


def say_found(found: Scored, lines: Callable[[], Sequence[str]], out: Path, as_json: bool, shown: str) -> None:
    """Print what was found, as lines or as JSON; exit code 1 where something was left out.

    shown  the file beside summary.json and results.jsonl that people look at
    """
    if as_json:
        typer.echo(json.dumps({**found.as_json(), "out": str(out)}, ensure_ascii=False))
    else:
        typer.echo("\n".join(lines()))
        _say_all(found.remarks, found.problems, out)
        typer.echo(printable(f"{out}/summary.json, results.jsonl, {shown}"))
    if found.problems:
        raise typer.Exit(1)


def _say_all(remarks: Sequence[str], problems: Sequence[str], out: Path) -> None:
    """Print the first remarks and problems of an evaluation, and where the others are."""
    for kind, told in (("remark", remarks), ("problem", problems)):
        for sentence in told[:_TOLD]:
            say(f"{kind}: {sentence}")
        if len(told) > _TOLD:
            say(f"and {len(told) - _TOLD} more {kind}s, in {out}/summary.json.")
