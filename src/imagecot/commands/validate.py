"""`imagecot validate`: whether a recipe can be followed, and how long it takes."""

import typer

from imagecot.commands.recipe import Overrides, RecipeFile, taken


def validate(recipe: RecipeFile, overrides: Overrides = None) -> None:
    """Check a recipe and name all its problems, without following it; of full-size models also say how long it takes.

    Examples:

      imagecot validate recipes/show-o/dpo.yaml

      imagecot validate recipes/study/tiny.yaml n=50
    """
    from imagecot.estimate import gpu_hours
    from imagecot.recipes import kind_of

    checked = taken(recipe, overrides)
    typer.echo(f"{recipe} is a valid {kind_of(checked)} recipe")
    found = gpu_hours(checked)
    if found:
        hours, what = found
        typer.echo(f"about {hours:.2g} hours of one A100 for {what}")
