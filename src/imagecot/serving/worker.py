"""The one thread that draws: requests wait in a line of bounded length, and end when their client leaves."""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from imagecot import interruption
from imagecot.serving.messages import Ask, Done, Event, Failed

STOPPED = Failed(message="the server was stopped before it had drawn; start it and repeat the command.", exit_code=1)


class Gone(BaseException):
    """Nobody waits for the image any more; no `except Exception` catches it."""


@dataclass(eq=False)
class Task:
    """A request on its way.

    emit  is given what happens, from the thread that draws; the last is `Failed` or `Done`
    """

    ask: Ask
    emit: Callable[[Event], None]
    _gone: threading.Event = field(default_factory=threading.Event)

    def leave(self) -> None:
        """Nobody waits for it any more."""
        self._gone.set()

    def check(self) -> None:
        """Raise Gone where nobody waits for it any more."""
        if self._gone.is_set():
            raise Gone


class Worker:
    """Does tasks one after the other.

    longest  how many may wait beside the one that is done
    begin    is called once, in the thread, before the first
    do       does a task, and returns the last that is to be told of it; it may raise Gone

    The last is told when the next task can be taken: who hears it may ask again at once.
    """

    def __init__(
        self, longest: int, do: Callable[[Task], Done | Failed], begin: Callable[[], None] = lambda: None
    ) -> None:
        self._longest, self._do, self._begin = longest, do, begin
        self._line: deque[Task] = deque()
        self._now: Task | None = None
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    @property
    def busy(self) -> int:
        """How many tasks wait or are done."""
        with self._changed:
            return len(self._line) + (self._now is not None)

    @property
    def closed(self) -> bool:
        """Whether no task is taken any more."""
        return self._closed

    def put(self, task: Task) -> bool:
        """Let a task wait for its turn; false where the line is full, or no task is taken any more."""
        with self._changed:
            self._line = deque(one for one in self._line if not one._gone.is_set())
            if self._closed or len(self._line) >= self._longest + (self._now is None):
                return False
            self._line.append(task)
            self._changed.notify()
            return True

    def close(self) -> None:
        """Take no task any more, and end those that are there; that in progress ends after its step."""
        with self._changed:
            self._closed = True
            ended = [*self._line, *([self._now] if self._now else [])]
            self._line.clear()
            self._changed.notify()
        for task in ended:
            task.leave()
            task.emit(STOPPED)

    def join(self, seconds: float) -> None:
        """Wait for the end of the thread, but no longer than this."""
        self._thread.join(seconds)

    def _run(self) -> None:
        self._begin()
        while True:
            with self._changed:
                self._now = None
                while not self._line and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                self._now = self._line.popleft()
            task = self._now
            try:
                task.check()
                last = self._do(task)
            except (Gone, interruption.Stopped):
                continue
            with self._changed:
                self._now = None
            task.emit(last)
