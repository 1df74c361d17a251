"""The client: a run is drawn by a server, and left in its folder as a local command leaves it."""

import base64
import http.client
import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import ValidationError

from imagecot import __version__
from imagecot.errors import ImagecotError, UsageError
from imagecot.files import check_writable, make_folder, write_whole
from imagecot.generation.follow import Opened
from imagecot.generation.recipe import GenerationRecipe
from imagecot.serving.messages import EVENT, Ask, Done, Drawing, Event, Failed, Seen, Tell, Waiting
from imagecot.serving.place import START, Place, find
from imagecot.strategies.folder import PARTIAL
from imagecot.strategies.trace import TRACE, Trace
from imagecot.watch import Watch

if TYPE_CHECKING:
    from imagecot.serving.looking import Look

_CONNECTING = 5.0  # seconds
_LONGEST_LINE = 1 << 30  # bytes


def draw_there(opened: Opened, server: str, watch: Watch) -> Trace:
    """Let a server draw a run, leave its trace in the folder, and return it; a finished one is read back.

    server  the address of a server on this machine, or `auto` for the one that was started last

    Errors are those of a local run; ImagecotError too where there is no server, it refuses, or it has other weights.
    """
    if opened.finished is not None:
        return opened.finished
    place = find(server)
    check_writable(opened.folder)
    files = _files(place, opened.job.recipe, watch)
    drawn = json.loads(files[TRACE].splitlines()[0])
    known = json.loads(json.dumps(opened.job.identity))
    others = [name for name, value in known.items() if drawn.get(name) != value]
    if others:
        raise ImagecotError(f"the server has another {others[0]} than is here; start it again.")
    make_folder(opened.folder)
    for name in sorted(files, key=lambda name: name == TRACE):  # a folder that has the last is finished
        write_whole(opened.folder / name, files[name])
    shutil.rmtree(opened.folder / PARTIAL, ignore_errors=True)
    return Trace.load(opened.folder)


def _files(place: Place, recipe: GenerationRecipe, watch: Watch) -> dict[str, bytes]:
    """Ask, show what goes on, and return the files of the trace."""
    exchange = Exchange(place, recipe.model_dump(mode="json", exclude={"output"}))
    with ExitStack() as shown, ExitStack() as bar:
        shown.enter_context(watch.waiting("waiting for the server"))
        move = None
        for event in exchange.events():
            if isinstance(event, Tell):
                watch.tell(event.text)
                continue
            shown.close()
            if isinstance(event, Waiting) and event.text is not None:
                shown.enter_context(watch.waiting(event.text))
            elif isinstance(event, Drawing):
                move = move or bar.enter_context(watch.progress("drawing"))
                move(event.done, event.of)
            elif isinstance(event, Done):
                return files_of(event)
    raise AssertionError  # the last event is Done


def files_of(done: Done) -> dict[str, bytes]:
    """The files of a trace that was drawn."""
    return {name: base64.b64decode(data) for name, data in done.files.items()}


def look_of(seen: Seen) -> "Look":
    """A look that was sent."""
    from imagecot.serving.looking import Look

    pictures = {int(seed): base64.b64decode(data) for seed, data in seen.pictures.items()}
    return Look(seen.step, seen.steps, [line.candidate() for line in seen.paths], pictures)


class Exchange:
    """A request and what a server answers to it.

    recipe         the values of a `GenerationRecipe` without its output
    steps, others  as of `Ask`
    """

    def __init__(
        self, place: Place, recipe: Mapping[str, object], *, steps: bool = False, others: bool = False
    ) -> None:
        asked = {"version": __version__, "folder": os.getcwd(), "recipe": dict(recipe)}
        self._ask = Ask.model_validate({**asked, "steps": steps, "others": others})
        self._place = place
        self._socket: socket.socket | None = None
        self._left = False

    def leave(self) -> None:
        """End it, from any thread: the server draws no further, and `events` says that it ended."""
        self._left = True
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def events(self) -> Iterator[Event]:
        """What a server answers, as it comes; the last is `Done`. A client that takes no more of it leaves.

        ImagecotError where there is no server, it ends, or it says what failed; UsageError for a wrong request.
        """
        place, parts = self._place, urlsplit(self._place.address)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_CONNECTING)
        headers = {"Authorization": f"Bearer {place.token}", "Content-Type": "application/json"}
        try:
            connection.connect()
        except OSError:
            connection.close()
            raise ImagecotError(f"no server answers at {place.address}; {START}.") from None
        try:
            self._socket = connection.sock
            self._socket.settimeout(None)  # a model may take minutes to load
            connection.request("POST", "/generate", self._ask.model_dump_json().encode(), headers)
            answer = connection.getresponse()
            if answer.status != http.client.OK:
                raise _refusal(place, answer)
            while not self._left and (line := answer.readline(_LONGEST_LINE)):
                event = EVENT.validate_json(line)
                if isinstance(event, Failed):
                    raise _error(event)
                yield event
                if isinstance(event, Done):
                    return
            raise _ended(place)
        except (OSError, http.client.HTTPException):
            raise _ended(place) from None
        except ValidationError:
            raise _strange(place) from None
        finally:
            connection.close()


def _refusal(place: Place, answer: http.client.HTTPResponse) -> ImagecotError:
    """What a server says that takes no request."""
    try:
        said = Failed.model_validate_json(answer.read(1 << 16))
    except ValidationError:
        return _strange(place)
    return _error(said)


def _error(said: Failed) -> ImagecotError:
    """The error of a local run of which a server tells."""
    return (UsageError if said.exit_code == UsageError.exit_code else ImagecotError)(said.message)


def _ended(place: Place) -> ImagecotError:
    return ImagecotError(f"the server at {place.address} ended before it had drawn; start it and repeat the command.")


def _strange(place: Place) -> ImagecotError:
    return ImagecotError(f"what answers at {place.address} is no server of imagecot; {START}.")
