"""A server from its start to its end."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress

import uvicorn

from imagecot.errors import ImagecotError, said
from imagecot.serving.app import make_app
from imagecot.serving.draw import draw
from imagecot.serving.place import announce, withdraw
from imagecot.serving.shelf import Shelf
from imagecot.serving.worker import Worker

HOST = "127.0.0.1"
_LOOK = 0.1  # seconds between looks at whether the server is to end
_PATIENCE = 5  # seconds that open connections, and the step in progress, are given in the end


def serve(port: int, longest: int, most_models: int, ready: Callable[[str], object]) -> None:
    """Serve on this machine alone until a signal comes, which is raised again.

    port         0 for any that is free
    longest      how many requests wait beside the one that is drawn
    most_models  how many models stay loaded
    ready        is given the address, once requests are taken

    ImagecotError where the port is taken, or the file with the token cannot be written.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((HOST, port))
        except OSError as error:
            raise ImagecotError(f"port {port} cannot be used ({said(error)}); choose another with --port.") from error
        address = f"http://{HOST}:{listening.getsockname()[1]}"
        shelf = Shelf(most_models)
        worker = Worker(longest, lambda task: draw(task, shelf), _prepare)
        place = announce(address)
        try:
            app = make_app(place.token, worker, shelf)
            config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=_PATIENCE)
            asyncio.run(_until_stopped(uvicorn.Server(config), listening, worker, lambda: ready(address)))
        finally:
            withdraw(place)
            worker.close()
            worker.join(_PATIENCE)


async def _until_stopped(
    server: uvicorn.Server, listening: socket.socket, worker: Worker, ready: Callable[[], object]
) -> None:
    """Serve, and end what waits as soon as the server is to end: it waits for the answers."""
    worker.start()

    async def look() -> None:
        while not server.started:
            await asyncio.sleep(_LOOK)
        ready()
        while not server.should_exit:
            await asyncio.sleep(_LOOK)
        worker.close()

    looking = asyncio.create_task(look())
    try:
        await server.serve([listening])
    finally:
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking


def _prepare() -> None:
    """Import what every request needs, before the first comes."""
    import imagecot.generators.showo.loading
    import imagecot.strategies.picture
    import imagecot.strategies.search
    import imagecot.verifiers.loading  # noqa: F401
