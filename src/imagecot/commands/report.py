"""`imagecot report`: the page of a study."""

import json
from pathlib import Path
from typing import Annotated

import typer

from imagecot.commands.options import AsJson
from imagecot.commands.output import waiting
from imagecot.interruption import continuing


def report(
    folder: Annotated[Path, typer.Argument(help="Where a study has left its summary.json.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option(help="Where to write. Default: report/ in the study's folder.", show_default=False)
    ] = None,
    readme: Annotated[
        Path | None,
        typer.Option(
            help="Also put the main table into this file, between <!-- study --> and <!-- /study -->.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write what a study found: a page (report.html), and the same as Markdown with figures (report.md).

    Everything comes from summary.json and the pictures beside it; a study that is still running has a report, too.

    Examples:

      imagecot report runs/study/tiny

      imagecot report runs/study/tiny --out docs/results/tiny/report --readme README.md
    """
    with continuing("the same command draws the report again"), waiting("drawing the figures"):
        from imagecot.report import write

        files = write(folder, out or folder / "report", readme)
    if as_json:
        typer.echo(json.dumps({"files": [str(path) for path in files]}))
    else:
        typer.echo(f"{files[0]} ({len(files)} files)")
