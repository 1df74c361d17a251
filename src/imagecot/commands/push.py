"""`imagecot push`: a model, data or results to the Hugging Face hub."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from imagecot.commands.options import AsJson
from imagecot.commands.output import say, terminal
from imagecot.interruption import continuing


def push(
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT", help="A shipped model, or the folder of a model, data or results.", show_default=False
        ),
    ],
    repository: Annotated[
        str, typer.Argument(metavar="REPO", help="OWNER/NAME, or OWNER/NAME:FOLDER of a model.", show_default=False)
    ],
    *,
    private: Annotated[bool, typer.Option("--private", help="Only its owner can see the repository.")] = False,
    base: Annotated[
        str | None,
        typer.Option(metavar="OWNER/NAME", help="Of an adapter: where its base is on the hub.", show_default=False),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="An evaluation or a study of these weights, for the card.", show_default=False
        ),
    ] = None,
    benchmark: Annotated[
        str | None,
        typer.Option(
            metavar="OWNER/NAME", help="The data set on whose leaderboard the scores shall stand.", show_default=False
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Publish a checkpoint, curated data, an evaluation or a study on the Hugging Face hub, in one commit.

    Whoever has imagecot loads a model by the name of its repository, and has the same weights to the byte. Paths of
    this machine do not leave it; a file that holds a token is refused.

    Examples:

      imagecot push tiny me/tiny --results runs/geneval

      imagecot push runs/dpo me/dpo --base me/tiny --private

      imagecot push runs/data-parm me/parm-data
    """
    with continuing("nothing was published; the same command pushes again"):
        from imagecot.publishing import push_to_hub

        found = push_to_hub(
            what, repository, private=private, base=base, results=results, benchmark=benchmark, watch=terminal()
        )
    if as_json:
        typer.echo(json.dumps(asdict(found)))
        return
    for sentence in found.lacks:
        say(f"note: {sentence}.")
    typer.echo(f"{found.url} holds {found.name}: {found.kind}, {len(found.files)} files")
