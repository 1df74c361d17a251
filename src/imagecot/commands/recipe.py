"""What the commands that take a recipe share: how it is read from the command line, and how it is followed."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imagecot.commands.output import terminal
from imagecot.interruption import continuing

if TYPE_CHECKING:
    from pydantic import BaseModel

RecipeFile = Annotated[Path, typer.Argument(help="A YAML file, such as those in recipes/.", show_default=False)]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="key=value with dotted keys.", metavar="[KEY=VALUE]...", show_default=False)
]


def taken(file: Path, overrides: Sequence[str] | None, kind: str = "", command: str = "") -> "BaseModel":
    """The recipe that was named; arguments and errors as of `imagecot.recipes.read`."""
    watch = terminal()
    with watch.waiting("loading"):
        from imagecot.recipes import read

        return read(file, overrides or (), kind, command=command, watch=watch)


def followed(recipe: "BaseModel", *, quiet: bool = False) -> object:
    """Do what a recipe says, and return what its function returns; errors as of the function.

    quiet  whether another process tells how far it is
    """
    from imagecot.recipes import follow
    from imagecot.watch import SILENT

    with continuing("the same command continues from what was saved last"):
        return follow(recipe, watch=SILENT if quiet else terminal())


def output_of(recipe: "BaseModel") -> Path:
    """The folder that a recipe writes to."""
    return Path(str(dict(recipe)["output"]))
