"""A server on this machine that answers as a test wants it: rightly, wrongly, slowly, or not at all."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Server:
    """`answers` are used up in their order, the last one for ever; what came in is kept."""

    answers: list[Answer]
    url: str = ""
    bodies: list[Any] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)


@contextmanager
def server(*answers: Answer) -> Iterator[Server]:
    state = Server(list(answers))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            if not data:
                return  # the client has gone
            self.asked = json.loads(data)
            state.bodies.append(self.asked)
            state.headers.append({name.title(): value for name, value in self.headers.items()})
            state.paths.append(self.path)
            answer = state.answers.pop(0) if len(state.answers) > 1 else state.answers[0]
            with suppress(OSError):  # the client may have gone
                answer(self)

        do_GET = do_POST

        def log_message(self, *arguments: object) -> None:
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.daemon_threads = True
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{running.server_port}/v1"
    try:
        yield state
    finally:
        running.shutdown()
        running.server_close()


def sends(body: Any, code: int = 200, **headers: str) -> Answer:
    """Answer with JSON, or with text as it is."""
    data = body.encode() if isinstance(body, str) else json.dumps(body).encode()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(data)

    return answer


def says(content: Any, finish: str | None = "stop", **message: Any) -> Answer:
    """Answer as a chat model does."""
    choice = {"message": {"role": "assistant", "content": content, **message}, "finish_reason": finish}
    return sends({"choices": [choice], "usage": {"prompt_tokens": 100, "completion_tokens": 7}})


def closes(handler: BaseHTTPRequestHandler) -> None:
    """Close the connection without a word."""
    handler.close_connection = True
    handler.connection.close()


def drips(headers: bool) -> Answer:
    """Send a byte now and then, for ever: of the headers, or of the body."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if headers:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        else:
            handler.send_response(200)
            handler.send_header("Content-Length", "1000000")
            handler.end_headers()
        while True:
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.05)

    return answer


def floods(handler: BaseHTTPRequestHandler) -> None:
    """Send a body without end."""
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b" " * 2**20)
