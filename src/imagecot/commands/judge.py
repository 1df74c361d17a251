"""`imagecot judge check`: whether a judge is to be trusted, before a long run."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from imagecot.commands.logged import LoggedCommand
from imagecot.commands.options import AsJson
from imagecot.commands.output import completion, terminal
from imagecot.naming import printable
from imagecot.precision import PRECISIONS

if TYPE_CHECKING:
    from imagecot.trust import Finding, Report

app = typer.Typer(no_args_is_help=True, help="Look at judges of images.")
_WIDTH = 110  # columns of the table where there is no terminal
_STYLES = {"good": "green", "bad": "bold red", "weak": "yellow", "unsure": "bold yellow", "untried": "dim"}
_QUESTIONS = ("orm", "prm", "clarity", "potential")

Name = Annotated[
    str,
    typer.Argument(
        metavar="VERIFIER",
        help="A shipped name, a folder, a hub id, a URL, package.module:Class, or a form such as 'mean(a,b)'.",
        autocompletion=completion("verifier"),
        show_default=False,
    ),
]
Images = Annotated[
    Path | None,
    typer.Option(
        help="Labelled pictures: a .jsonl file of image, prompt and label (yes or no), a folder of imagecot curate, or "
        "of imagecot evaluate geneval. Default: pictograms that are drawn here.",
        show_default=False,
    ),
]
Asked = Annotated[
    str | None,
    typer.Option(
        help=f"{', '.join(_QUESTIONS)}. Default: the first of orm, prm and potential that the judge answers.",
        autocompletion=lambda: list(_QUESTIONS),
        show_default=False,
    ),
]
Precision = Annotated[
    str | None,
    typer.Option(
        help=f"Of its weights: {', '.join(PRECISIONS)}. Another than float32 is compared with float32.",
        autocompletion=lambda: list(PRECISIONS),
        show_default=False,
    ),
]
Against = Annotated[
    str | None,
    typer.Option(
        help="A second verifier that must say the same, such as the folder of a served copy.",
        autocompletion=completion("verifier"),
        show_default=False,
    ),
]


@app.callback()
def _judges() -> None:
    """Look at judges of images."""


@app.command(cls=LoggedCommand)
def check(
    name: Name,
    *,
    images: Images = None,
    question: Asked = None,
    precision: Precision = None,
    against: Against = None,
    as_json: AsJson = False,
) -> None:
    """Tell whether a judge is to be trusted; exit code 1 where it is not.

    Asks about labelled pictures whether it reads its prompt, looks at its picture, is calibrated, answers the same in
    any order and batch, and tells 20 pictures of a prompt apart. Whether a class of your own keeps the contract of a
    verifier is another question: imagecot check verifier.

    Examples:

      imagecot judge check tiny-orm

      imagecot judge check tiny-orm --precision bfloat16

      imagecot judge check owner/vlm --images photos.jsonl

      imagecot judge check my_module:Served --against my/folder --json
    """
    from imagecot.trust import check_judge

    report = check_judge(name, images=images, question=question, precision=precision, against=against, watch=terminal())
    if as_json:
        typer.echo(json.dumps(report.as_json(), ensure_ascii=False))
    else:
        _print(report)
    if not report.trusted:
        raise typer.Exit(1)


def _print(report: "Report") -> None:
    """Print the table and the sentence."""
    from imagecot.trust.findings import shown

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column, side in (("checked", "left"), ("value", "right"), ("95 %", "left"), ("limit", "left")):
        table.add_column(column, justify="right" if side == "right" else "left")
    table.add_column("verdict")
    part = ""
    for finding in report.findings:
        if finding.part != part:
            part = finding.part
            table.add_row(Text(printable(part), style="bold"))
        verdict = finding.verdict
        table.add_row(
            Text(f"  {printable(finding.name)}"),
            shown(finding.value),
            _interval(finding),
            str(finding.limit),
            Text(verdict, style=_STYLES[verdict]),
        )
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH
    console.print(Text(printable(f"{report.judge}, question {report.question}, {report.source}"), style="bold"))
    console.print(table)
    typer.echo(f"{report.answers:,} answers in {report.seconds:.1f} s. {report.remark}".rstrip())
    typer.echo(printable(report.sentence))


def _interval(finding: "Finding") -> str:
    found = finding.interval
    return f"{found[0]:.2f} to {found[1]:.2f}" if found else ""
