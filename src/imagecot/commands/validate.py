"""`imagecot validate`: whether a recipe can be followed, and how long it takes."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from imagecot.commands.recipe import Overrides, RecipeFile, taken

if TYPE_CHECKING:
    from pydantic import BaseModel

_JUDGES = ("verifier", "judge")  # the keys of recipes that name a verifier


def validate(recipe: RecipeFile, overrides: Overrides = None) -> None:
    """Check a recipe and name all its problems, without following it; of full-size models also say how long it takes.

    Examples:

      imagecot validate recipes/show-o/dpo.yaml

      imagecot validate recipes/study/tiny.yaml n=50
    """
    from imagecot.planning.estimate import gpu_hours
    from imagecot.recipes import kind_of

    checked = taken(recipe, overrides)
    _check_verifiers(checked)
    typer.echo(f"{recipe} is a valid {kind_of(checked)} recipe")
    found = gpu_hours(checked)
    if found:
        hours, what = found
        typer.echo(f"about {hours:.2g} hours of one A100 for {what}")


def _check_verifiers(part: "BaseModel", place: str = "") -> None:
    """UsageError, naming the key, for a verifier that there cannot be, in a recipe and all its parts."""
    from pydantic import BaseModel

    from imagecot.errors import UsageError
    from imagecot.judging import judge_named

    values = dict(part)
    for key, value in values.items():
        if isinstance(value, BaseModel):
            _check_verifiers(value, f"{place}{key}.")
        elif isinstance(value, Mapping):
            for name, inner in value.items():
                if isinstance(inner, BaseModel):
                    _check_verifiers(inner, f"{place}{key}.{name}.")
        elif key in _JUDGES and isinstance(value, str):
            try:
                _check("verifier", judge_named(value, values.get("generator")))
            except UsageError as error:
                raise UsageError(f"{place}{key}: {error}") from None


def _check(role: str, name: object) -> str:
    """As `imagecot.registry.check`; a folder that is not there yet is what another recipe may make."""
    from imagecot import forms, registry

    text = str(name)
    form = forms.form_of(role, text)
    if form is not None:
        forms.check(form, text, _check)
    elif "/" not in text or Path(text).exists():
        registry.check(role, text)
    return text
