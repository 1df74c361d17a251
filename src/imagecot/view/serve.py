"""The page on loopback, for browsers that open no files: its own files, and nothing else of this machine."""

import mimetypes
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from imagecot.errors import UsageError
from imagecot.files import reason
from imagecot.view.write import INDEX

HOST = "127.0.0.1"
_AT_ONCE = 32  # requests
_PATIENCE = 15.0  # seconds for a request to come
_TYPES = {".js": "text/javascript; charset=utf-8", ".html": "text/html; charset=utf-8", ".webp": "image/webp"}


class Server(ThreadingHTTPServer):
    """Serves the files that a folder holds when it starts: a request names one of them, or there is nothing."""

    daemon_threads = True

    def __init__(self, folder: Path, port: int) -> None:
        root = folder.resolve()
        own = [file for file in root.rglob("*") if file.is_file() and not file.is_symlink()]
        self.files = {f"/{file.relative_to(root).as_posix()}": file for file in own}
        self.files["/"] = root / INDEX
        self.free = threading.BoundedSemaphore(_AT_ONCE)
        try:
            super().__init__((HOST, port), _Answer)
        except OSError as error:
            raise UsageError(
                f"port {port} cannot be used ({reason(error).split(';')[0]}); name another --port."
            ) from None

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://{HOST}:{self.server_port}/"


class _Answer(BaseHTTPRequestHandler):
    server: Server
    timeout = _PATIENCE
    server_version, sys_version = "imagecot", ""

    def do_GET(self) -> None:
        """Answer with a file."""
        self._answer(True)

    def do_HEAD(self) -> None:
        """Answer with what a file is."""
        self._answer(False)

    def _answer(self, body: bool) -> None:
        with self.server.free:
            if (self.headers.get("Host") or "").rsplit(":", 1)[0] not in (HOST, "localhost"):
                self.send_error(HTTPStatus.FORBIDDEN)  # another site's name that leads here
                return
            file = self.server.files.get(unquote(urlsplit(self.path).path))
            try:
                data = file.read_bytes() if file else None
            except OSError:
                data = None
            if file is None or data is None:
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            self.send_response(HTTPStatus.OK)
            kind = _TYPES.get(file.suffix) or mimetypes.guess_type(file.name)[0] or "application/octet-stream"
            for name, value in (
                ("Content-Type", kind),
                ("Content-Length", str(len(data))),
                ("X-Content-Type-Options", "nosniff"),
                ("Cross-Origin-Resource-Policy", "same-origin"),
                ("Cache-Control", "no-cache"),
            ):
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing of requests."""
