"""Models that answer over HTTP, through the interface that OpenAI defined and many servers have.

Requests are sent by the client of the library `openai` (`exchange.py`). The key goes to the host that was named and to
no other: redirects are not followed. Neither the key nor a password in the address is part of any message.
"""

import base64
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TypeVar
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit, urlunsplit

from imagecot.contracts.values import JSON
from imagecot.errors import UsageError

KEY = "OPENAI_API_KEY"
AT_ONCE = 8
SECONDS = 120.0
_SHOWN = 200  # characters of an address that a message repeats
_SHORTEST_SECRET = 4  # what is shorter is a word for nothing, and stands in other words

Body = Mapping[str, JSON]
Answers = dict[str, JSON]
Made = TypeVar("Made")


@dataclass(frozen=True)
class Endpoint:
    """The base address of an interface, such as https://api.openai.com/v1, and what is needed to ask there.

    address  http or https; a name and password in it are sent instead of the key, and shown nowhere
    key      sent as a bearer token, if there is one
    seconds  what a request may take from connecting to the last byte, with all its tries and the pauses between them
    at_once  how many requests run side by side

    UsageError for an address that is none, a key that cannot be sent, or where the library `openai` is missing.
    """

    address: str = field(repr=False)
    key: str = field(default="", repr=False)
    seconds: float = SECONDS
    at_once: int = AT_ONCE

    def __post_init__(self) -> None:
        if find_spec("openai") is None:
            raise UsageError("an endpoint needs openai, which is not installed; run pip install 'imagecot[served]'.")
        _split(self.address)
        object.__setattr__(self, "key", self.key.strip())
        if not all("!" <= character <= "~" for character in self.key):
            raise UsageError(f"the key of an endpoint holds characters that no key has; set {KEY} again.")
        if not (math.isfinite(self.seconds) and self.seconds >= 0):
            raise UsageError(f"the seconds of an endpoint must be a number of at least 0, not {self.seconds}.")
        if self.at_once < 1:
            raise UsageError(f"at least one request must run at once, not {self.at_once}.")

    @classmethod
    def from_environment(cls, address: str) -> "Endpoint":
        """Return the endpoint at `address`, with the key in OPENAI_API_KEY if there is one."""
        return cls(address, os.environ.get(KEY, ""))

    @property
    def shown(self) -> str:
        """The address for people and files, and where requests go: without name, password and query."""
        return urlunsplit(_split(self.address)._replace(netloc=self._host, query="", fragment=""))

    def post(self, path: str, body: Body) -> Answers:
        """Return the JSON object that the server answers to `body`; ImagecotError as of `post_each`."""
        return next(answer for _, answer in self.post_each(path, [body], lambda _, answer: answer))

    def post_each(
        self, path: str, bodies: Sequence[Body], read: Callable[[int, Answers], Made]
    ) -> Iterator[tuple[int, Made]]:
        """Yield the number of each body and what is read of its answer, as they come; some run side by side.

        read  makes something of a body's number and the JSON object that is answered; ImagecotError for a wrong one

        ImagecotError where the server cannot be reached, refuses, is too slow, or answers no JSON object, and where
        `read` raises it. Then no more requests are sent. What was asked already is paid for: those answers are yielded
        before the error is raised. With an interruption, or when the caller takes no more answers, all requests end.
        """
        if bodies:
            from imagecot.exchange import post_each

            yield from post_each(self, path, bodies, read)

    @property
    def query(self) -> dict[str, str]:
        """What the query of the address adds to every request."""
        return dict(parse_qsl(_split(self.address).query, keep_blank_values=True))

    @property
    def authorization(self) -> str | None:
        """The header of that name."""
        if self._login is not None:
            return "Basic " + base64.b64encode(":".join(self._login).encode()).decode()
        return f"Bearer {self.key}" if self.key else None

    def hide(self, text: str) -> str:
        """Return `text` without the key and what the address holds of a login, or in its query."""
        secrets = {self.key, (self.authorization or "").partition(" ")[2]}
        if self._login is not None:
            secrets |= {self._login[1], _split(self.address).password or ""}
        secrets |= {value for _, value in parse_qsl(_split(self.address).query)}
        for secret in sorted(secrets, key=len, reverse=True):
            if len(secret) >= _SHORTEST_SECRET:
                text = text.replace(secret, "…")
        return text

    @property
    def _host(self) -> str:
        return _split(self.address).netloc.rpartition("@")[2]

    @property
    def _login(self) -> tuple[str, str] | None:
        parts = _split(self.address)
        if "@" not in parts.netloc:
            return None
        return unquote(parts.username or ""), unquote(parts.password or "")


def _split(address: str) -> SplitResult:
    """The parts of an address; UsageError, which repeats none that may hold a password."""
    told = repr(address[:_SHOWN]) if isinstance(address, str) and not {*"@?"} & {*address} else "what was given"
    wrong = f"an endpoint is an address such as https://api.openai.com/v1, not {told}; correct it."
    if not isinstance(address, str) or any(c.isspace() or not c.isprintable() for c in address):
        raise UsageError(wrong)
    import httpx2

    try:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            raise UsageError(wrong)
        httpx2.URL(urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])))
    except (ValueError, httpx2.InvalidURL):
        raise UsageError(wrong) from None
    return parts
