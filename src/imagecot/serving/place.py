"""Where a server is found: its address and token, in a file that its user alone can read."""

import contextlib
import os
import secrets
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field

from imagecot.checkpoint import is_file
from imagecot.errors import ImagecotError, UsageError
from imagecot.files import clear_write_errors, make_folder
from imagecot.reading import Schema, read_record

TOKEN = "IMAGECOT_SERVER_TOKEN"
AUTO = "auto"
START = "start one with imagecot serve, or leave out --server"
_SHORTEST = 16  # characters of a token that is given
_HOSTS = ("127.0.0.1", "localhost", "::1")


class Place(Schema):
    """What the file says: where the server of a process is, and what it must be told."""

    address: str
    token: str = Field(repr=False)
    process: int


def file_of_server() -> Path:
    """The file, in the user's folder for states."""
    home = os.environ.get("XDG_STATE_HOME")
    return (Path(home) if home else Path.home() / ".local" / "state") / "imagecot" / "server.json"


def token_given() -> str | None:
    """The token in the environment, if there is one; UsageError for one that is no token."""
    token = os.environ.get(TOKEN)
    if token is None:
        return None
    if len(token) < _SHORTEST or not all("!" <= character <= "~" for character in token):
        raise UsageError(f"{TOKEN} must be at least {_SHORTEST} characters without blanks; set it again, or unset it.")
    return token


def announce(address: str) -> Place:
    """Write the file of a server that begins, and return what it says; ImagecotError where that is not possible."""
    place = Place(address=address, token=token_given() or secrets.token_urlsafe(32), process=os.getpid())
    file = file_of_server()
    make_folder(file.parent)
    part = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    with clear_write_errors(file):
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
            out.write(place.model_dump_json() + "\n")
        os.replace(part, file)
    return place


def withdraw(place: Place) -> None:
    """Remove the file of a server that ends, unless another has written its own since."""
    with contextlib.suppress(ImagecotError, OSError):
        if _read() == place:
            file_of_server().unlink()


def find(server: str) -> Place:
    """Where the server is that was named, by its address or as `auto`, and the token for it.

    UsageError for an address that is none of this machine; ImagecotError where no server was started, or its token is
    not known. A token that a file holds goes to the address beside it and to no other.
    """
    there = _read() if is_file(file_of_server()) else None
    if server == AUTO:
        if there is None:
            raise ImagecotError(f"no server was started on this machine; {START}.")
        return there
    address = _checked(server)
    token = token_given() or (there.token if there is not None and there.address == address else None)
    if token is None:
        raise ImagecotError(f"the token of the server at {address} is not known here; set {TOKEN} to it.")
    return Place(address=address, token=token, process=there.process if there is not None else 0)


def _read() -> Place:
    place = read_record(file_of_server(), Place, advice="remove it and start the server again")
    return place.model_copy(update={"address": _checked(place.address)})


def _checked(address: str) -> str:
    """An address of a server on this machine, in its shortest form."""
    wrong = f"a server is named by auto or an address such as http://127.0.0.1:8000, not {address[:100]!r}"
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        raise UsageError(f"{wrong}; correct it.") from None
    if parts.scheme != "http" or parts.path not in ("", "/") or parts.query or "@" in parts.netloc or not port:
        raise UsageError(f"{wrong}; correct it.")
    if parts.hostname not in _HOSTS:
        raise UsageError(f"a server is asked on this machine only, not at {parts.hostname}; forward a port to it.")
    return f"http://{parts.netloc}"
