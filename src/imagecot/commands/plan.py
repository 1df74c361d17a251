"""`imagecot plan`: hours, storage and memory of a recipe on so many GPUs, and what the rest will wait for."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imagecot.commands.options import SEED, WORKERS, AsJson, between
from imagecot.commands.recipe import Overrides, RecipeFile, taken

if TYPE_CHECKING:
    from imagecot.planning.plan import Plan

Gpus = Annotated[int, typer.Option(help="How many take part.", callback=WORKERS)]
Gpu = Annotated[str, typer.Option(help="Which: a100, h100, h200 or l40s.")]
Judges = Annotated[
    int, typer.Option(help="How many of them serve the judge, and draw nothing.", callback=between(0, 1024))
]
Files = Annotated[
    list[Path] | None,
    typer.Option("--rates", help="A benchmark.json of a generator that is used; may be repeated.", show_default=False),
]
Seed = Annotated[int, typer.Option(help="Of what goes wrong.", callback=SEED)]


def plan(
    recipe: RecipeFile,
    overrides: Overrides = None,
    *,
    gpus: Gpus = 1,
    gpu: Gpu = "a100",
    judges: Judges = 0,
    rates: Files = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Say what a recipe takes on so many GPUs, before anything is run.

    Examples:

      imagecot plan recipes/show-o/curate-parm.yaml --gpus 64 --gpu h100

      imagecot plan recipes/study/tiny.yaml --rates docs/results/benchmark/tiny.json
    """
    from imagecot.planning.plan import plan as planned
    from imagecot.planning.rates import card_named, read_rates

    given = read_rates(card_named(gpu), rates or ())
    found = planned(taken(recipe, overrides), gpus, given, judges=judges, seed=seed)
    typer.echo(json.dumps(asdict(found), indent=1) if as_json else _text(found))


def _text(found: "Plan") -> str:
    """The plan, a line for each of its numbers."""
    parts = ", ".join(f"{name} {_hours(hours)}" for name, hours in found.parts.items())
    lines = [
        ("work", f"{found.kind}: {found.what}"),
        ("takes", f"{_hours(found.hours)} with {found.workers} workers on {found.gpus} cards"),
        ("at best", f"{_hours(found.ideal)} without loading, waiting and failures"),
        ("one card", parts),
        ("waits for", found.waits),
        ("units", f"{found.units:,}"),
        ("storage", f"{found.storage / 1e9:.3g} GB"),
        ("memory", f"{found.memory / 1e9:.3g} GB a card, activations aside"),
        *(("rates", line) for line in found.rates),
        *(("note", line) for line in found.notes),
    ]
    return "\n".join(f"{name:<10} {value}" for name, value in lines)


def _hours(hours: float) -> str:
    return f"{hours:.3g} h" if hours >= 1 else f"{hours * 60:.3g} min"
