"""`imagecot evaluate geneval2`: score a folder of images, or draw and score, by GenEval 2."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imagecot.commands import evaluate, options, searches
from imagecot.commands.output import completion, terminal
from imagecot.commands.recipe import output_of
from imagecot.execution.executors import LOCAL
from imagecot.geneval2.published import JUDGE
from imagecot.precision import check_precision

if TYPE_CHECKING:
    from imagecot.evaluation.geneval2.recipe import Geneval2Recipe
    from imagecot.evaluation.geneval2.summary import Found

Data = Annotated[
    Path,
    typer.Option(help="geneval2_data.jsonl of facebookresearch/GenEval2 (CC BY-NC 4.0), or lines like its own."),
]
Images = Annotated[
    Path | None,
    typer.Option(
        help="Score this folder, laid out like 00000/metadata.jsonl and 00000/samples/0000.png, or the images of a "
        "JSON file {prompt: path}.",
        show_default=False,
    ),
]
Judge = Annotated[
    str,
    typer.Option(
        help="Who answers the questions about the images: a verifier that answers in words.",
        autocompletion=completion("verifier"),
    ),
]
PerCount = Annotated[
    int | None,
    typer.Option(
        help="Take the first so many prompts of each atom count only.", show_default=False, callback=options.PROMPTS
    ),
]
Out = Annotated[Path | None, typer.Option(help="Where to write. Default: runs/geneval2-<time>.", show_default=False)]


def geneval2(
    context: typer.Context,
    *,
    data: Data,
    images: Images = None,
    generator: evaluate.Generator = None,
    verifier: evaluate.Verifier = None,
    strategy: evaluate.Search = "single",
    n: evaluate.N = 20,
    settings: searches.Set = None,
    corrector: searches.Corrector = None,
    judge: Judge = JUDGE,
    per_count: PerCount = None,
    samples: evaluate.Samples = 1,
    seed: evaluate.Seed = 0,
    precision: evaluate.Precision = None,
    workers: options.Workers = 1,
    on: options.On = LOCAL,
    out: Out = None,
    as_json: evaluate.AsJson = False,
) -> None:
    """Score images by GenEval 2 (Soft-TIFA), by skill and by atom count, with 95 % intervals.

    Writes results.jsonl, summary.json, table.md and, with one image of every prompt, score_lists.json for the
    reference's analysis. An interrupted run is resumed by the same command. Exit code 1 where images were missing or
    unreadable.

    Examples:

      imagecot evaluate geneval2 --data geneval2_data.jsonl --generator deepseek-community/Janus-Pro-1B

      imagecot evaluate geneval2 --data geneval2_data.jsonl --images outputs/ --judge Qwen/Qwen3-VL-8B-Instruct
    """
    from imagecot.evaluation.geneval2.recipe import Geneval2Recipe
    from imagecot.recipes import check

    check_precision(precision)
    asked = {
        "data": data,
        "output": out,
        "images": images,
        "generator": generator,
        "verifier": verifier,
        "search": strategy,
        "n": n,
        "settings": searches.settings_given(context, settings),
        "corrector": corrector,
        "per_count": per_count,
        "samples": samples,
        "seed": seed,
        "judge": judge,
        "precision": precision,
        "workers": workers,
        "on": on,
    }
    follow(check(asked, Geneval2Recipe, "what was asked for"), as_json=as_json)


def follow(recipe: "Geneval2Recipe", command: str = "", *, as_json: bool = False) -> None:
    """Score what a recipe says, and print what was found; exit code 1 where something was left out.

    command  what the user typed where that names the recipe
    """
    from imagecot.evaluation.geneval2.follow import run
    from imagecot.evaluation.geneval2.job import with_output

    recipe = with_output(recipe)
    out = output_of(recipe)
    with evaluate.continuing_in(out, command):
        found = run(recipe, watch=terminal())
    if found is not None:
        evaluate.say_found(found, lambda: _lines(found), out, as_json, "table.md")


def _lines(found: "Found") -> list[str]:
    from imagecot.evaluation.geneval2.report import remarks, table

    return [table(found), "\n".join(remarks(found))]
