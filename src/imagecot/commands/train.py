"""`imagecot train`: follow a recipe that makes weights."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imagecot.commands.options import WORKERS
from imagecot.commands.output import say
from imagecot.commands.recipe import Overrides, followed, output_of, taken
from imagecot.errors import nearest
from imagecot.kinds import TRAIN, of_command
from imagecot.launch import expect, launched, leftovers

if TYPE_CHECKING:
    from pydantic import BaseModel

Words = Annotated[
    str,
    typer.Argument(
        help="A YAML file, such as those in recipes/; before it may stand its kind.",
        metavar="RECIPE",
        autocompletion=lambda: of_command(TRAIN),
        show_default=False,
    ),
]


Processes = Annotated[
    int | None,
    typer.Option(
        help="Refuse to train unless as many take part, as torchrun starts them.", callback=WORKERS, show_default=False
    ),
]


def train(recipe: Words, overrides: Overrides = None, *, processes: Processes = None) -> None:
    """Train a model by a recipe; an interrupted training is resumed by the same command.

    Several processes share every step, so they compute what one computes.

    Examples:

      imagecot train recipes/tiny/tokenizer.yaml

      imagecot train recipes/tiny/generator.yaml optimization.steps=100

      imagecot train dpo recipes/tiny/dpo.yaml

      torchrun --nproc-per-node 4 -m imagecot train recipes/show-o/dpo.yaml --processes 4
    """
    expect(processes)
    kind, file, rest = spelt(recipe, overrides or [])
    follow(taken(file, rest, kind, TRAIN))


def spelt(first: str, rest: Sequence[str]) -> tuple[str, Path, Sequence[str]]:
    """What was said of the kind ("" for nothing), the recipe, and its overrides.

    UsageError for a kind that there is not.
    """
    two = bool(rest) and ("=" not in rest[0] or Path(rest[0]).exists())
    kinds = of_command(TRAIN)
    if not two or (first not in kinds and (Path(first).exists() or not re.fullmatch(r"[\w-]*", first))):
        return "", Path(first), rest
    if first not in kinds:
        raise nearest("training", first, kinds)
    return first, Path(rest[0]), rest[1:]


def follow(recipe: "BaseModel", command: str = "") -> None:
    """Train by a recipe; on standard error stands where nothing was left to do."""
    from imagecot.training.output import is_finished

    if leftovers():
        say(f"{', '.join(leftovers())} in the environment are of no running launcher; training is one process.")
    output = output_of(recipe)
    before = is_finished(output)
    first = launched()[0] == 0
    followed(recipe, quiet=not first)
    if before and first:
        say(f"{output} was finished before; nothing is left to do.")
