"""`imagecot view`: a page to look at runs, evaluations, curations and studies."""

import json
from pathlib import Path
from typing import Annotated

import typer

from imagecot.commands.options import AsJson
from imagecot.commands.output import say, terminal
from imagecot.interruption import continuing


def view(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="DIR...", help="Folders of runs, evaluations, curations or studies.", show_default=False
        ),
    ],
    *,
    bundle: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT",
            help="Where to write, for a web host or a Space. Default: view/ in the first folder.",
            show_default=False,
        ),
    ] = None,
    animate: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Instead of a page: the paths of one run as a moving picture, .webp or .gif; .png is its last frame.",
            show_default=False,
        ),
    ] = None,
    dark: Annotated[bool, typer.Option("--dark", help="A dark ground for the moving picture.")] = False,
    serve: Annotated[bool, typer.Option("--serve", help="Serve the page to this machine until interrupted.")] = False,
    port: Annotated[int, typer.Option(help="Where to serve it; 0 is any free port.", min=0, max=65535)] = 0,
    as_json: AsJson = False,
) -> None:
    """Write a page that shows every path, verdict and choice; it opens from disk and asks no other host.

    Several folders are shown side by side, prompt by prompt; a folder of folders stands for those in it.

    Examples:

      imagecot view runs/demo

      imagecot view runs/eval-orm runs/eval-parm

      imagecot view runs/study/tiny --bundle site/tiny

      imagecot view runs/demo --animate demo.webp
    """
    if animate is not None:
        _animate(folders, animate, dark, as_json)
        return
    from imagecot.view import view as write

    with continuing("the same command writes the page again"):
        index = write(folders, bundle, watch=terminal())
    if as_json:
        typer.echo(json.dumps({"page": str(index)}))
    elif not serve:
        typer.echo(f"{index}: open it in a browser")
    if serve:
        _serve(index.parent, port, told=not as_json)


def _animate(folders: list[Path], file: Path, dark: bool, as_json: bool) -> None:
    """Write the moving picture of a run."""
    from imagecot.errors import UsageError
    from imagecot.view.animation import animate

    if len(folders) != 1:
        raise UsageError("a moving picture is of one run; name one folder.")
    animate(folders[0], file, dark=dark)
    typer.echo(json.dumps({"picture": str(file)}) if as_json else f"{file}: the paths of {folders[0]}")


def _serve(folder: Path, port: int, told: bool) -> None:
    """Serve a page until somebody stops this process."""
    from imagecot import interruption
    from imagecot.view.serve import Server

    with Server(folder, port) as server:
        server.timeout = 0.5
        if told:
            typer.echo(f"{server.address} shows {folder}; press Ctrl-C to end")
        else:
            say(server.address)
        while interruption.asked() is None:
            server.handle_request()
