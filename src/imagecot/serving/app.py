"""The HTTP interface: who may ask, what is taken, and the lines that are answered."""

import asyncio
import secrets
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import ValidationError
from starlette.middleware.trustedhost import TrustedHostMiddleware

from imagecot import __version__
from imagecot.serving.messages import MOST_BYTES, Ask, Done, Event, Failed
from imagecot.serving.shelf import Shelf
from imagecot.serving.worker import STOPPED, Task, Worker

_AGAIN = 5  # seconds after which a client may ask again
_DRAINED = 16  # times the largest body: so far a client that sends more can still read why it is refused


def make_app(token: str, worker: Worker, shelf: Shelf) -> FastAPI:
    """The interface of a server: `GET /health` and `POST /generate`, for whoever has the token.

    An error has a status of HTTP, and is a `Failed` as JSON.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    # A page in a browser that gives itself a name of this machine has another host.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "[::1]"])

    def refused(request: Request) -> Response | None:
        said = request.headers.get("authorization", "")
        if secrets.compare_digest(said.encode(), f"Bearer {token}".encode()):
            return None
        return _error(401, "the token is not that of the server; use the one that it wrote when it was started.")

    @app.get("/health")
    async def health(request: Request) -> Response:
        """Say that the server is there, and what it holds."""
        told = {"version": __version__, "busy": worker.busy, "models": shelf.names}
        return refused(request) or JSONResponse(told)

    @app.post("/generate")
    async def generate(request: Request) -> Response:
        """Draw a recipe; the answer is lines of JSON as they happen."""
        wrong = refused(request)
        if wrong is not None:
            return wrong
        body = await _body(request)
        if body is None:
            return _error(413, f"a request has at most {MOST_BYTES:,} bytes; shorten it.", 2)
        try:
            ask = Ask.model_validate_json(body)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "it"
            return _error(422, f"the request is not one that a server takes ({place}: {first['msg']}).", 2)
        if ask.version != __version__:
            return _error(409, f"the server is imagecot {__version__}, not {ask.version}; start it again.")
        return _answer(ask, worker)

    return app


async def _body(request: Request) -> bytes | None:
    """The body of a request; None where it is too large, of which no more than a few times as much is read."""
    body, size = b"", 0
    async for part in request.stream():
        size += len(part)
        if size > _DRAINED * MOST_BYTES:
            break
        body = body + part if size <= MOST_BYTES else b""
    return body if size <= MOST_BYTES else None


def _answer(ask: Ask, worker: Worker) -> Response:
    """Let a request wait for its turn, and tell what happens to it."""
    loop, events = asyncio.get_running_loop(), asyncio.Queue[Event]()
    task = Task(ask, lambda event: _call(loop, events, event))
    if worker.closed:
        return _error(503, STOPPED.message)
    if not worker.put(task):
        return _error(429, "the server has as many requests as it takes; ask again in a while.")

    async def lines() -> AsyncIterator[str]:
        try:
            while True:
                event = await events.get()
                yield event.model_dump_json() + "\n"
                if isinstance(event, Failed | Done):
                    return
        finally:
            task.leave()

    return StreamingResponse(lines(), media_type="application/x-ndjson")


def _call(loop: asyncio.AbstractEventLoop, events: "asyncio.Queue[Event]", event: Event) -> None:
    """Put an event into the queue of a loop, from another thread; nobody hears it where the loop has ended."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(events.put_nowait, event)


def _error(status: int, message: str, exit_code: int = 1) -> Response:
    headers = {"retry-after": str(_AGAIN)} if status == 429 else None
    return JSONResponse(Failed(message=message, exit_code=exit_code).model_dump(), status, headers)
