"""`imagecot generate`: draw a prompt, search, and leave the image, the steps and the trace in a folder."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imagecot.commands import options, searches
from imagecot.commands.options import AsJson
from imagecot.commands.output import completion, terminal
from imagecot.interruption import continuing
from imagecot.precision import PRECISIONS, check_precision

if TYPE_CHECKING:
    from imagecot.contracts.values import JSON
    from imagecot.generation.follow import Opened
    from imagecot.generation.recipe import GenerationRecipe
    from imagecot.strategies.trace import Trace

Prompt = Annotated[str, typer.Argument(help="What to draw.", show_default=False)]
Generator = Annotated[
    str,
    typer.Option(
        help="A shipped name, a checkpoint folder, a hub id or module:Class.", autocompletion=completion("generator")
    ),
]
Verifier = Annotated[
    str | None,
    typer.Option(
        help=f"Who judges: likewise, or {options.written()}. A shipped generator has its own for each search.",
        autocompletion=completion("verifier"),
        show_default=False,
    ),
]
Search = Annotated[
    str | None,
    typer.Option(
        "--search",
        help="Which paths live: {searches}, or module:Class. Default: what the generator's checkpoint names, of "
        "shipped ones parm.",
        autocompletion=searches.searches,
        show_default=False,
    ),
]
N = Annotated[int, typer.Option("-n", help="How many paths are drawn.")]
Seed = Annotated[int, typer.Option(help="The same seed draws the same paths.")]
Precision = Annotated[
    str | None,
    typer.Option(
        help=f"Of all models: {', '.join(PRECISIONS)}. Default: bfloat16 on a GPU, else float32.", show_default=False
    ),
]
Out = Annotated[Path | None, typer.Option(help="Where to write. Default: runs/<date>-<prompt>.", show_default=False)]
Server = Annotated[
    str | None,
    typer.Option(
        help="Let `imagecot serve` draw, which has its models loaded: auto, or its address.", show_default=False
    ),
]


def generate(
    context: typer.Context,
    prompt: Prompt,
    *,
    generator: Generator = "tiny-dpo",
    verifier: Verifier = None,
    strategy: Search = None,
    n: N = 20,
    seed: Seed = 0,
    settings: searches.Set = None,
    corrector: searches.Corrector = None,
    precision: Precision = None,
    out: Out = None,
    server: Server = None,
    as_json: AsJson = False,
) -> None:
    """Draw a prompt many times and keep the image that the verifier believes in most.

    Writes image.png (the choice), steps.png (how every path got there) and trace.jsonl into the folder. An
    interrupted run is resumed by the same command; a finished one is reported again.

    Examples:

      imagecot generate "a photo of a red apple"

      imagecot generate "two cups" --search single --seed 7 --out runs/cups

      imagecot generate "a bird left of a cup" --generator tiny-dpo --search parm++ --keep 0.5

      imagecot generate "a blue car" -n 50 --json | jq .chosen

      imagecot generate "a blue car" --verifier http://localhost:8000/v1#Qwen/Qwen2.5-VL-7B-Instruct
    """
    from imagecot.bounds import check_paths, check_seed
    from imagecot.generation.recipe import GenerationRecipe
    from imagecot.prompts import check_prompt
    from imagecot.recipes import check

    check_prompt(prompt)
    check_paths(n)
    check_seed(seed)
    check_precision(precision)
    asked = {
        "prompt": prompt,
        "output": out,
        "generator": generator,
        "verifier": verifier,
        "search": strategy,
        "n": n,
        "seed": seed,
        "settings": searches.settings_given(context, settings),
        "corrector": corrector,
        "precision": precision,
    }
    follow(check(asked, GenerationRecipe, "what was asked for"), as_json=as_json, server=server)


def follow(recipe: "GenerationRecipe", command: str = "", *, as_json: bool = False, server: str | None = None) -> None:
    """Draw what a recipe says, and print what came of it.

    command  what the user typed where that names the recipe
    server   who draws, as of `imagecot.serving.place.find`; None for this process
    """
    from imagecot.generation.follow import Opened

    opened = Opened.of(recipe, terminal(), drawn_here=server is None)
    place = f" with {'output=' if command else '--out '}{opened.folder}" if recipe.output is None else ""
    with continuing(f"the same command{place} continues where this run was"):
        trace = opened.trace() if server is None else _drawn_there(opened, server)
    if as_json:
        typer.echo(json.dumps(as_dict(trace, opened.folder), ensure_ascii=False))
    else:
        typer.echo(summary(trace, opened.folder, opened.finished is not None))


def _drawn_there(opened: "Opened", server: str) -> "Trace":
    from imagecot.serving.client import draw_there

    return draw_there(opened, server, terminal())


def summary(trace: "Trace", folder: Path, again: bool = False) -> str:
    """Return the line that `generate` prints."""
    choice, cost = trace.choice, trace.cost
    verdict = f", P(yes) {choice.score:.2f}" if choice.score is not None else ""
    rounds = f"{len(trace.rounds)} round{'s' * (len(trace.rounds) > 1)} of reflection; " if trace.rounds else ""
    return (
        f"path {trace.chosen + 1} chosen{verdict}; {trace.kept} of {len(trace.candidates)} paths kept; {rounds}"
        f"{cost.seconds:.1f} s, {cost.generator_rows} generator rows, {cost.previews} previews, "
        f"{cost.judge_calls} judge calls{' (finished before)' if again else ''}: "
        f"{folder}/image.png, steps.png"
    )


def as_dict(trace: "Trace", folder: Path) -> "dict[str, JSON]":
    """Return what `generate --json` prints."""
    return {
        **trace.identity,
        "image": str(folder / "image.png"),
        "steps_picture": str(folder / "steps.png"),
        "trace": str(folder / "trace.jsonl"),
        "chosen": {"path": trace.chosen + 1, "seed": trace.choice.seed, "p_yes": trace.choice.score},
        "kept": trace.kept,
        "rounds": [asdict(round) for round in trace.rounds],
        "cost": asdict(trace.cost),
        "picture_cost": asdict(trace.picture_cost),
    }
