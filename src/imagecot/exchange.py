"""Requests to an endpoint, side by side, sent by the client of the library `openai`.

That client tries again what may pass, as long as a server's Retry-After asks for it. A request has one deadline for all
its tries. Requests run on an event loop in a thread of their own, so that Ctrl-C ends them at once.
"""

import asyncio
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, as_completed
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import httpx2
from openai import APIConnectionError, APIStatusError, AsyncOpenAI, Omit, OpenAIError

from imagecot.errors import ImagecotError, first_line
from imagecot.interruption import check
from imagecot.naming import printable
from imagecot.reading import parse_json, parse_object

if TYPE_CHECKING:
    from imagecot.endpoints import Answers, Body, Endpoint, Made

MOST_BYTES = 16 * 2**20  # of an answer
RETRIES = 3
_SHOWN = 200  # characters of a server's words that a message repeats
_ENDING = 5.0  # seconds that the loop has to end in
_GRACE = 20.0  # seconds that requests have to end in when another one has failed
_WRAPPING = frozenset({"content-encoding", "content-length", "transfer-encoding"})
# The client of openai adds what its environment variables and this machine say, which is no other server's business.
_SENT = frozenset(
    {"accept", "accept-encoding", "authorization", "connection", "content-length", "content-type", "host", "user-agent"}
)
_LATER = "try again later, the same command continues"


def post_each(
    endpoint: "Endpoint", path: str, bodies: Sequence["Body"], read: Callable[[int, "Answers"], "Made"]
) -> Iterator[tuple[int, "Made"]]:
    """As `Endpoint.post_each`."""
    with _running_loop() as loop:
        requests = _Requests(endpoint, path)
        failure: ImagecotError | None = None
        asked: dict[Future[Answers], int] = {
            asyncio.run_coroutine_threadsafe(requests.answer(body), loop): number for number, body in enumerate(bodies)
        }
        try:
            for done in as_completed(asked):
                check()
                try:
                    found = read(asked[done], done.result())
                except _NotAsked:
                    continue
                except ImagecotError as error:
                    failure = failure or error
                    loop.call_soon_threadsafe(requests.end_soon)
                    continue
                yield asked[done], found
            if failure is not None:
                raise failure
        finally:
            for future in asked:
                future.cancel()
            with suppress(Exception):
                asyncio.run_coroutine_threadsafe(requests.close(), loop).result(_ENDING)


class _NotAsked(Exception):
    """Another request failed before this one was sent."""


class _TooMuch(Exception):
    """An answer has more than MOST_BYTES bytes."""


class _Undecodable(Exception):
    """An answer is not encoded as its headers say."""


class _Bounded(httpx2.AsyncClient):
    """Sends what a request needs, reads every answer to its end, as long as it has one, and follows no redirect."""

    async def send(self, request: httpx2.Request, *, stream: bool = False, **options: Any) -> httpx2.Response:
        """Send a request and return the answer with its bytes, which are counted as they come."""
        for name in {*request.headers} - _SENT:
            del request.headers[name]
        response = await super().send(request, stream=True, **options)
        data = bytearray()
        try:
            async for chunk in response.aiter_bytes():
                data += chunk
                if len(data) > MOST_BYTES:
                    raise _TooMuch
        except httpx2.DecodingError as error:
            raise _Undecodable(first_line(error)) from None
        finally:
            await response.aclose()
        headers = [(name, value) for name, value in response.headers.multi_items() if name.lower() not in _WRAPPING]
        if response.status_code == httpx2.codes.TOO_EARLY:
            headers.append(("x-should-retry", "true"))  # as the client of openai asks servers to say it
        return httpx2.Response(response.status_code, headers=headers, content=bytes(data), request=request)


class _Requests:
    """The requests of one call, on one loop: a client for all, and a limit to how many run side by side."""

    def __init__(self, endpoint: "Endpoint", path: str) -> None:
        self.endpoint, self.path = endpoint, path
        self._limit = asyncio.Semaphore(endpoint.at_once)
        self._deadlines: set[asyncio.Timeout] = set()
        self._ending = False
        sent = endpoint.authorization
        self._headers: dict[str, str | Omit] = {"Authorization": sent if sent is not None else Omit()}
        try:
            # Every wait is bounded by the deadline of a request, which a server that drips bytes cannot move.
            limits = httpx2.Limits(max_connections=endpoint.at_once, max_keepalive_connections=endpoint.at_once)
            client = _Bounded(timeout=None, follow_redirects=False, verify=_trusted(), limits=limits)
            self._client = AsyncOpenAI(
                api_key="sent in the header of each request",
                base_url=endpoint.shown,
                default_query=endpoint.query,
                max_retries=RETRIES,
                http_client=client,
            )
        except (OSError, ValueError, ImportError, httpx2.InvalidURL, OpenAIError) as error:
            what = endpoint.hide(first_line(error))
            raise ImagecotError(
                f"no connection can be made ({what}); check HTTPS_PROXY and SSL_CERT_FILE of the environment."
            ) from None

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    def end_soon(self) -> None:
        """Send nothing more; what was sent has _GRACE seconds, since it is paid for."""
        last, self._ending = asyncio.get_running_loop().time() + _GRACE, True
        for deadline in self._deadlines:
            if (deadline.when() or last) > last:
                deadline.reschedule(last)

    async def answer(self, body: "Body") -> "Answers":
        """Ask, and again where the failure may pass; _NotAsked where the others are ending."""
        async with self._limit:
            if self._ending:
                raise _NotAsked
            try:
                return self._parsed((await self._ask(body)).content)
            except ImagecotError:
                self.end_soon()
                raise

    async def _ask(self, body: "Body") -> httpx2.Response:
        seconds = self.endpoint.seconds
        try:
            async with asyncio.timeout(seconds) as deadline:
                self._deadlines.add(deadline)
                try:
                    return await self._client.post(
                        self.path, cast_to=httpx2.Response, body=dict(body), options={"headers": self._headers}
                    )
                finally:
                    self._deadlines.remove(deadline)
        except TimeoutError:
            why = f"did not answer within {seconds:g} s; try again later, allow it more, or ask a faster model"
        except _TooMuch:
            why = f"answers more than {MOST_BYTES:,} bytes; check the address"
        except APIStatusError as error:
            why = self._refusal(error.response)
        except APIConnectionError as error:
            why = f"cannot be reached ({first_line(error.__cause__ or error)}); check the address"
        except (_Undecodable, OpenAIError, httpx2.InvalidURL, ValueError) as error:
            why = f"cannot be asked ({first_line(error)}); check the address"
        raise ImagecotError(f"{self.endpoint.shown} {self.endpoint.hide(why)}.")

    def _parsed(self, data: bytes) -> "Answers":
        where = f"the answer of {self.endpoint.shown}"
        return parse_object(data.removeprefix(b"\xef\xbb\xbf"), where, advice="check the address")

    def _refusal(self, response: httpx2.Response) -> str:
        """What an answer means that is none, and what to do."""
        from imagecot.endpoints import KEY

        code = response.status_code
        if response.is_redirect:
            target = self.endpoint.hide(_without_login(response.headers.get("Location", "")))
            return f"redirects to {_short(target)}, which is not followed; give the final address"
        said = _short(self.endpoint.hide(_message(response.content)))
        hints = {
            401: f"set {KEY} to a key of this server",
            403: f"set {KEY} to a key that may ask this model",
            404: "check the address and the name of the model",
            429: _LATER,
        }
        hint = hints.get(code, _LATER if code >= 500 else "change what is asked for")
        return f"refuses the request ({code}{': ' + said if said else ''}); {hint}"


@cache
def _trusted() -> ssl.SSLContext:
    """Whose certificates are trusted; reading them takes longer than a request."""
    return httpx2.create_ssl_context()


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
