"""An app on its way: where it listens, where its files are, and how it ends."""

import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from imagecot import registry
from imagecot.errors import ImagecotError, UsageError
from imagecot.serving.place import find
from imagecot.serving.shelf import Shelf

_PREFIX = "imagecot-app-"
# Gradio asks its own hosts for news, and the hub, unless it is told not to before it is imported.
_QUIET = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_RUN_HISTORY": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


@contextmanager
def own_folder() -> Iterator[Path]:
    """A folder for files of visitors, removed at the end, or by the next app where this one was killed."""
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        number = left.name.removeprefix(_PREFIX).split("-")[0]
        if number.isdigit() and not Path(f"/proc/{number}").exists():
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_generators(names: Sequence[str]) -> list[str]:
    """The generators of a page; UsageError for a name that there is not, and for none."""
    if not names:
        raise UsageError("an app needs a generator; name one.")
    return [registry.check("generator", name) for name in dict.fromkeys(names)]


def serve(
    generators: Sequence[str],
    *,
    host: str,
    port: int,
    most: int,
    queue: int,
    models: int,
    ready: Callable[[str], None],
    server: str | None = None,
) -> None:
    """Show the page until a signal ends it.

    generators  that can be chosen
    most        paths of a search at most
    queue       visitors that may wait
    models      that stay loaded
    ready       is told the address
    server      that draws, as of `imagecot.serving.place.find`; None for this process

    UsageError for a generator that there is not; ImagecotError where the port is taken, or there is no server.
    """
    generators = check_generators(generators)
    place = find(server) if server is not None else None
    with own_folder() as folder:
        os.environ.update(_QUIET | {"GRADIO_TEMP_DIR": str(folder)})
        from imagecot.app.away import Away
        from imagecot.app.drawing import Studio
        from imagecot.app.grid import STYLE
        from imagecot.app.page import page

        easel = Away(place, folder, most) if place is not None else Studio(Shelf(models), most)
        blocks = page(easel, folder, generators, queue=queue)
        ended = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: ended.set())
        try:
            _, address, _ = blocks.launch(
                server_name=host, server_port=port or None, share=False, quiet=True, prevent_thread_lock=True,
                css=STYLE, footer_links=[], enable_monitoring=False, ssr_mode=False, state_session_capacity=100,
                max_file_size="1mb",
            )  # fmt: skip
        except OSError as error:
            raise ImagecotError(f"{host}:{port} cannot be listened at; choose another --port.") from error
        ready(address)
        ended.wait()
        blocks.close(verbose=False)
