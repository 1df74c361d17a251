"""Models that answer over HTTP, through the interface that OpenAI defined and many servers have.

A request has one deadline for all that it takes, and Ctrl-C ends it at once: requests run on an event loop in a thread
of their own. The key goes to the host that was named and to no other: redirects are not followed. Neither the key nor
a password in the address is part of any message.
"""

import asyncio
import base64
import email.utils
import math
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit, urlunsplit

import httpx

from imagecot.contracts.values import JSON
from imagecot.errors import ImagecotError, UsageError, first_line
from imagecot.interruption import check
from imagecot.naming import printable
from imagecot.reading import parse_json, parse_object

KEY = "OPENAI_API_KEY"
MOST_BYTES = 16 * 2**20  # of an answer
_AT_ONCE = 8
_TRIES = 4
_LONGEST_PAUSE = 60.0  # seconds that a server may ask to wait before the next try
_PASSING = frozenset({408, 409, 425, 429})  # and all from 500 on
_SHOWN = 200  # characters of a server's words that a message repeats
_SHORTEST_SECRET = 4  # what is shorter is a word for nothing, and stands in other words
_ENDING = 5.0  # seconds that the loop has to end in
_HINTS = {
    401: f"set {KEY} to a key of this server",
    403: f"set {KEY} to a key that may ask this model",
    404: "check the address and the name of the model",
    429: "try again later, the same command continues",
}

Body = Mapping[str, JSON]
Answers = dict[str, JSON]


@dataclass(frozen=True)
class Endpoint:
    """The base address of an interface, such as https://api.openai.com/v1, and what is needed to ask there.

    address  http or https; a name and password in it are sent instead of the key, and shown nowhere
    key      sent as a bearer token, if there is one
    seconds  what one try of a request may take, from connecting to the last byte
    wait     seconds before a request is tried again, doubled each time; a server may ask for more, up to a minute

    UsageError for an address that is none, or a key that cannot be sent.
    """

    address: str = field(repr=False)
    key: str = field(default="", repr=False)
    seconds: float = 90.0
    wait: float = 2.0

    def __post_init__(self) -> None:
        _split(self.address)
        object.__setattr__(self, "key", self.key.strip())
        if not all("!" <= character <= "~" for character in self.key):
            raise UsageError(f"the key of an endpoint holds characters that no key has; set {KEY} again.")
        for name, value in (("seconds", self.seconds), ("wait", self.wait)):
            if not (math.isfinite(value) and value >= 0):
                raise UsageError(f"the {name} of an endpoint must be a number of at least 0, not {value}.")

    @classmethod
    def from_environment(cls, address: str) -> "Endpoint":
        """Return the endpoint at `address`, with the key in OPENAI_API_KEY if there is one."""
        return cls(address, os.environ.get(KEY, ""))

    @property
    def shown(self) -> str:
        """The address for people and files: without name, password and query."""
        return urlunsplit(_split(self.address)._replace(netloc=self._host, query="", fragment=""))

    def post(self, path: str, body: Body) -> Answers:
        """Return the JSON object that the server answers to `body`; ImagecotError as of `post_each`."""
        return next(answer for _, answer in self.post_each(path, [body]))

    def post_each(self, path: str, bodies: Sequence[Body]) -> Iterator[tuple[int, Answers]]:
        """Yield the number of each body and the JSON object that is answered, as they come; some run side by side.

        ImagecotError where the server cannot be reached, refuses, is too slow, or answers no JSON object. With that,
        with an interruption, or when the caller takes no more answers, the other requests end.
        """
        if not bodies:
            return
        with _running_loop() as loop:
            requests = _Requests(self, path)
            asked: dict[Future[Answers], int] = {
                asyncio.run_coroutine_threadsafe(requests.answer(body), loop): number
                for number, body in enumerate(bodies)
            }
            try:
                for done in as_completed(asked):
                    check()
                    yield asked[done], done.result()
            finally:
                for future in asked:
                    future.cancel()
                with suppress(Exception):
                    asyncio.run_coroutine_threadsafe(requests.close(), loop).result(_ENDING)

    def url(self, path: str) -> str:
        """The address of a path of the interface, without name and password, which `authorization` sends."""
        parts = _split(self.address)
        whole = f"{parts.path.rstrip('/')}/{path.lstrip('/')}"
        return urlunsplit(parts._replace(netloc=self._host, path=whole, fragment=""))

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
    told = repr(address[:_SHOWN]) if isinstance(address, str) and "@" not in address else "what was given"
    wrong = f"an endpoint is an address such as https://api.openai.com/v1, not {told}; correct it."
    if not isinstance(address, str) or any(c.isspace() or not c.isprintable() for c in address):
        raise UsageError(wrong)
    try:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            raise UsageError(wrong)
        httpx.URL(urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])))
    except (ValueError, httpx.InvalidURL):
        raise UsageError(wrong) from None
    return parts


class _Requests:
    """The requests of one call, on one loop: a client for all, and a limit to how many run side by side."""

    def __init__(self, endpoint: Endpoint, path: str) -> None:
        self.endpoint, self.url = endpoint, endpoint.url(path)
        self._limit = asyncio.Semaphore(_AT_ONCE)
        headers = {"Authorization": endpoint.authorization} if endpoint.authorization else {}
        try:
            # Every wait is bounded by the deadline of a try, which a server that drips bytes cannot move.
            self._client = httpx.AsyncClient(headers=headers, timeout=None, follow_redirects=False)
        except (OSError, ValueError, ImportError, httpx.InvalidURL) as error:
            what = endpoint.hide(first_line(error))
            raise ImagecotError(
                f"no connection can be made ({what}); check HTTPS_PROXY and SSL_CERT_FILE of the environment."
            ) from None

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def answer(self, body: Body) -> Answers:
        """Ask, and again where the failure may pass."""
        async with self._limit:
            for attempt in range(_TRIES):
                last = attempt == _TRIES - 1
                try:
                    response, data = await self._try(body)
                except httpx.TransportError as error:
                    if last:
                        raise self._failure(f"cannot be reached ({first_line(error)}); check the address") from None
                    await asyncio.sleep(_pause(self.endpoint.wait * 2**attempt, None))
                    continue
                code = response.status_code
                if response.is_success:
                    return self._parsed(data)
                if last or not (code in _PASSING or code >= 500):
                    raise self._refusal(response, data)
                await asyncio.sleep(_pause(self.endpoint.wait * 2**attempt, response.headers.get("Retry-After")))
        raise AssertionError("the last attempt returns or raises")

    async def _try(self, body: Body) -> tuple[httpx.Response, bytes]:
        """One try, which ends by its deadline; the bytes of an answer are counted as they come."""
        data = bytearray()
        try:
            async with (
                asyncio.timeout(self.endpoint.seconds),
                self._client.stream("POST", self.url, json=dict(body)) as response,
            ):
                async for chunk in response.aiter_bytes():
                    data += chunk
                    if len(data) > MOST_BYTES:
                        raise self._failure(f"answers more than {MOST_BYTES:,} bytes; check the address")
        except TimeoutError:
            raise self._failure(
                f"did not answer within {self.endpoint.seconds:g} s; try again later, or ask a faster model"
            ) from None
        except (httpx.DecodingError, httpx.InvalidURL, ValueError) as error:
            raise self._failure(f"cannot be asked ({first_line(error)}); check the address") from None
        return response, bytes(data)

    def _parsed(self, data: bytes) -> Answers:
        where = f"the answer of {self.endpoint.shown}"
        return parse_object(data.removeprefix(b"\xef\xbb\xbf"), where, advice="check the address")

    def _refusal(self, response: httpx.Response, data: bytes) -> ImagecotError:
        code = response.status_code
        if response.is_redirect:
            target = self.endpoint.hide(_without_login(response.headers.get("Location", "")))
            return self._failure(f"redirects to {_short(target)}, which is not followed; give the final address")
        said = _short(self.endpoint.hide(_message(data)))
        later = "try again later, the same command continues"
        hint = _HINTS.get(code, later if code >= 500 else "change what is asked for")
        return self._failure(f"refuses the request ({code}{': ' + said if said else ''}); {hint}")

    def _failure(self, what: str) -> ImagecotError:
        return ImagecotError(f"{self.endpoint.shown} {self.endpoint.hide(what)}.")


def _message(data: bytes) -> str:
    """What a server says of an error: the message in its JSON, or its text where that is no page of HTML."""
    text = data[: 64 * _SHOWN].decode("utf-8", "replace").strip()
    try:
        value = parse_json(data, "", advice="")
    except ImagecotError:
        return "" if text.startswith("<") else text
    for _ in range(3):
        if isinstance(value, dict):
            value = next((value[name] for name in ("error", "message", "detail", "msg") if value.get(name)), "")
        elif isinstance(value, list):
            value = value[0] if value else ""
    return value if isinstance(value, str) else ""


def _short(text: str) -> str:
    """Other people's words in one line that steers no terminal."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= _SHOWN else line[:_SHOWN] + "…"


def _without_login(address: str) -> str:
    """An address without name, password and query; all of it where that cannot be told apart is left out."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return "another address"
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))


def _pause(seconds: float, asked: str | None) -> float:
    """Seconds to wait: at least those that the header Retry-After asks for, a number or a date, and not for ever."""
    wanted = 0.0
    if asked is not None:
        try:
            wanted = float(asked)
        except ValueError:
            with suppress(ValueError, TypeError, OverflowError):
                wanted = email.utils.parsedate_to_datetime(asked).timestamp() - time.time()
    return min(max(seconds, wanted if math.isfinite(wanted) else 0.0), _LONGEST_PAUSE)


@contextmanager
def _running_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop in a thread of its own: signals reach the caller's thread only, and end it whatever goes on."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="endpoint", daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        with suppress(Exception):
            asyncio.run_coroutine_threadsafe(_end_tasks(), loop).result(_ENDING)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_ENDING)
        if not thread.is_alive():
            loop.close()


async def _end_tasks() -> None:
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
