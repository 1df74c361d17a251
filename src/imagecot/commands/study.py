"""`imagecot study`: follow a recipe that compares searches, generators or corrections."""

from typing import TYPE_CHECKING, Annotated

import typer

from imagecot.commands.options import On, Workers
from imagecot.commands.output import terminal
from imagecot.commands.recipe import Overrides, RecipeFile, taken
from imagecot.execution.executors import LOCAL
from imagecot.interruption import continuing
from imagecot.kinds import STUDY
from imagecot.launch import launched

if TYPE_CHECKING:
    from imagecot.study.follow import AnyStudy

Rows = Annotated[
    str, typer.Option(help="Only these rows, with commas between; give another output.", show_default=False)
]


def study(
    recipe: RecipeFile, overrides: Overrides = None, *, workers: Workers = 1, on: On = LOCAL, rows: Rows = ""
) -> None:
    """Compare searches and generators on held-out prompts; an interrupted study is resumed by the same command.

    Writes summary.json, and what it is made of, into the recipe's output; `imagecot report` makes a page of it. A
    frontier compares searches at equal seconds and writes frontier.json. A recipe of corrections compares what the
    generator can be told of a wrong image; an audit tells after which step what a verifier says of previews predicts
    the final image. Both write table.md beside summary.json.

    Examples:

      imagecot study recipes/study/tiny.yaml --workers 2

      imagecot study recipes/study/tiny.yaml --rows baseline,parm output=runs/study/parm-alone

      imagecot study recipes/study/clock.yaml

      imagecot study recipes/study/corrections.yaml

      imagecot study recipes/study/audit.yaml
    """
    checked = taken(recipe, overrides, STUDY, STUDY)
    with terminal().waiting("loading"):
        from imagecot.study.follow import AnyStudy, chosen, typed

    assert isinstance(checked, AnyStudy)  # there is no other recipe of this command
    command = typed(recipe, overrides or (), rows=rows, workers=workers)
    follow(chosen(checked, rows), command, workers, on)


def follow(recipe: "AnyStudy", command: str, workers: int = 1, on: str = LOCAL) -> None:
    """Do what is missing of a study, and say where its results are.

    command  what the user typed, for the summary
    """
    with terminal().waiting("loading"):
        from imagecot.study.audit import AuditRecipe
        from imagecot.study.corrections import CorrectionsRecipe
        from imagecot.study.follow import run
        from imagecot.study.frontier.recipe import FrontierRecipe
        from imagecot.study.frontier.summary import FRONTIER
        from imagecot.study.names import SUMMARY

    with continuing("the same command continues from what was saved last"):
        run(recipe, workers=workers, on=on, command=command, watch=terminal())
    output = recipe.output
    tabled = isinstance(recipe, CorrectionsRecipe | AuditRecipe)
    following = f"{output}/table.md" if tabled else f"next: imagecot report {output}"
    if launched()[0] == 0:
        typer.echo(f"{output}/{FRONTIER if isinstance(recipe, FrontierRecipe) else SUMMARY}; {following}")
