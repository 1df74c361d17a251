"""What goes on in long work as lines of JSON, for whoever follows it from outside: `--log FILE`.

Each line is an object with `time` (UTC, ISO 8601), `event`, and

    event     what else
    say       text: a sentence for people
    begin     what: a part of the work
    progress  what, done, of, note; seconds since it began, rate (parts a second) and left (seconds), null if not known
    end       what, seconds, and failed: whether it ended by an error
    error     text and exit_code: why the command failed

Lines are appended, so that a resumed run goes on in the same file. Of progress there is a line a second at most, and
the last one. A log that can be written no longer is told once and ends; the work goes on.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from imagecot.contracts.values import JSON
from imagecot.errors import UsageError
from imagecot.files import reason
from imagecot.watch import Progress, Watch

_EVERY = 1.0  # seconds between two lines of progress


class EventLog:
    """A file of events, opened by its first line.

    file  what is appended to
    warn  is told where nothing can be written any more

    UsageError where the file cannot be written now.
    """

    def __init__(self, file: Path, warn: Callable[[str], None]) -> None:
        self._file, self._warn, self._open = file, warn, True
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("a", encoding="utf-8"):
                pass
        except OSError as error:
            raise UsageError(f"--log {file}: {reason(error)}.") from error

    def watch(self) -> Watch:
        """What writes down all that it is told."""
        return Watch(lambda text: self.write("say", text=text), self._part, self._progress)

    def write(self, event: str, **values: JSON) -> None:
        """Append a line."""
        if not self._open:
            return
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = json.dumps({"time": now, "event": event, **values}, ensure_ascii=False)
        try:
            with self._file.open("a", encoding="utf-8", errors="backslashreplace") as stream:
                stream.write(line + "\n")
        except OSError as error:
            self._open = False
            self._warn(f"--log {self._file}: {reason(error)}; nothing more is logged, the work goes on.")

    @contextmanager
    def _part(self, what: str) -> Iterator[float]:
        """Write when a part of the work begins and ends; when it began."""
        began, failed = time.monotonic(), True
        self.write("begin", what=what)
        try:
            yield began
            failed = False
        finally:
            self.write("end", what=what, seconds=_rounded(time.monotonic() - began), failed=failed)

    @contextmanager
    def _progress(self, what: str) -> Iterator[Progress]:
        """Yield what writes how far a part is."""
        with self._part(what) as began:
            first: int | None = None  # what was done before, by a run that was interrupted
            written = began - _EVERY

            def move(done: int, of: int, note: str = "") -> None:
                nonlocal first, written
                now = time.monotonic()
                first = done if first is None else first
                if done < of and now - written < _EVERY:
                    return
                written, seconds = now, now - began
                rate = (done - first) / seconds if done > first and seconds else None
                self.write(
                    "progress", what=what, done=done, of=of, note=note, seconds=_rounded(seconds),
                    rate=_rounded(rate), left=_rounded((of - done) / rate if rate else None),
                )  # fmt: skip

            yield move


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
