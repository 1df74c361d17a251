"""`imagecot study`: follow a recipe that compares searches, generators or corrections."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imagecot.commands.options import On, Workers
from imagecot.commands.output import terminal
from imagecot.commands.recipe import Overrides, RecipeFile, taken
from imagecot.errors import UsageError
from imagecot.execution.executors import LOCAL
from imagecot.interruption import continuing
from imagecot.kinds import STUDY
from imagecot.launch import launched

if TYPE_CHECKING:
    from imagecot.study.follow import AnyStudy

Rows = Annotated[
    str, typer.Option(help="Only these rows, with commas between; give another output.", show_default=False)
]
Power = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Draw nothing; from the errors of this smaller study of the same rows say how precise this one will be.",
        show_default=False,
    ),
]


def study(
    recipe: RecipeFile,
    overrides: Overrides = None,
    *,
    workers: Workers = 1,
    on: On = LOCAL,
    rows: Rows = "",
    power: Power = None,
) -> None:
    """Compare searches and generators on held-out prompts; an interrupted study is resumed by the same command.

    Writes summary.json, and what it is made of, into the recipe's output; `imagecot report` makes a page of it. A
    frontier compares searches at equal seconds and writes frontier.json. A recipe of corrections compares what the
    generator can be told of a wrong image; an audit tells after which step what a verifier says of previews predicts
    the final image. Both write table.md beside summary.json.

    Examples:

      imagecot study recipes/study/tiny.yaml --workers 2

      imagecot study recipes/study/tiny.yaml --rows baseline,parm output=runs/study/parm-alone

      imagecot study recipes/study/tiny.yaml prompts_per_task=60 draws=2 --power docs/results/tiny

      imagecot study recipes/study/clock.yaml

      imagecot study recipes/study/corrections.yaml

      imagecot study recipes/study/audit.yaml
    """
    checked = taken(recipe, overrides, STUDY, STUDY)
    with terminal().waiting("loading"):
        from imagecot.study.follow import AnyStudy, chosen, typed

    assert isinstance(checked, AnyStudy)  # there is no other recipe of this command
    if power is not None:
        foretell(chosen(checked, rows), power)
        return
    command = typed(recipe, overrides or (), rows=rows, workers=workers)
    follow(chosen(checked, rows), command, workers, on)


def foretell(recipe: "AnyStudy", pilot: Path) -> None:
    """Say how precise a study will be, by the errors of another one; UsageError where it compares no rows."""
    from imagecot.report.blocks import Block, Heading
    from imagecot.report.power import findings, rows
    from imagecot.report.read import read
    from imagecot.report.render import document
    from imagecot.study.recipe import StudyRecipe

    if not isinstance(recipe, StudyRecipe):
        raise UsageError("--power is of studies that compare rows; leave it out.")
    known = read(pilot)
    blocks: list[Block] = [Heading("Scores"), rows(recipe, known)]
    blocks += [Heading("Findings, in points"), findings(recipe, known)]
    typer.echo(document(f"How precise this study will be, by {pilot}", blocks))


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
