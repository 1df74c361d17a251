"""`imagecot serve`: keep models loaded, and draw what other commands ask for."""

from importlib.util import find_spec
from typing import Annotated

import typer

from imagecot.commands.output import say
from imagecot.errors import UsageError

Port = Annotated[int, typer.Option(min=0, max=65535, help="Of 127.0.0.1; 0 for any that is free.")]
Queue = Annotated[int, typer.Option(min=0, max=1000, help="How many requests may wait beside the one that is drawn.")]
Models = Annotated[int, typer.Option("--models", min=1, max=100, help="How many models stay loaded.")]


def serve(*, port: Port = 0, queue: Queue = 8, models: Models = 6) -> None:
    """Keep models loaded, so that `imagecot generate --server auto` starts to draw at once.

    Whoever has the token may ask, on this machine alone. It is written to a file that only you can read, or taken from
    IMAGECOT_SERVER_TOKEN. Ctrl-C ends the server.

    Examples:

      imagecot serve

      imagecot serve --port 8000 --models 2
    """
    missing = [name for name in ("fastapi", "uvicorn") if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"serve needs {' and '.join(missing)}, which is not installed; run pip install 'imagecot[serve]'."
        )
    from imagecot.serving.place import file_of_server
    from imagecot.serving.server import serve as run

    run(port, queue, models, lambda address: say(f"serving at {address}; the token is in {file_of_server()}."))
