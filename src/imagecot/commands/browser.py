"""`imagecot app`: the method in a browser."""

from importlib.util import find_spec
from typing import Annotated

import typer

from imagecot.commands.output import completion, say
from imagecot.errors import UsageError

Generators = Annotated[
    list[str] | None,
    typer.Option(
        "--generator",
        help="A generator that visitors can choose; give the option again for more. Default: the shipped ones.",
        autocompletion=completion("generator"),
        show_default=False,
    ),
]
Host = Annotated[str, typer.Option(help="Where to listen; 0.0.0.0 lets other machines in, without any password.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0 for one that is free.")]
Most = Annotated[int, typer.Option(min=1, max=256, help="Paths of a search at most.")]
Queue = Annotated[int, typer.Option(min=1, max=1000, help="How many visitors may wait; one draws at a time.")]
Models = Annotated[int, typer.Option("--models", min=1, max=100, help="How many models stay loaded.")]
Server = Annotated[
    str | None,
    typer.Option(
        help="Let `imagecot serve` draw, which has its models loaded: auto, or its address.", show_default=False
    ),
]


def app(
    *,
    generator: Generators = None,
    host: Host = "127.0.0.1",
    port: Port = 7860,
    most: Most = 32,
    queue: Queue = 20,
    models: Models = 6,
    server: Server = None,
) -> None:
    """Open the method in a browser: the grid of paths fills while it is drawn.

    The page shows why a path was chosen, and what other searches would have chosen. Ctrl-C ends it.

    Examples:

      imagecot app

      imagecot app --generator tiny-janus --generator tiny-dpo --most 20

      imagecot app --server auto
    """
    if find_spec("gradio") is None:
        raise UsageError("app needs gradio, which is not installed; run pip install 'imagecot[app]'.")
    from imagecot.app.launch import serve
    from imagecot.models import shipped

    serve(
        generator or ["tiny-dpo", *shipped("generator")],
        host=host, port=port, most=most, queue=queue, models=models, server=server,
        ready=lambda address: say(f"open {address} in a browser; Ctrl-C ends it."),
    )  # fmt: skip
