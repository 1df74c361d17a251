"""Being asked to stop: Ctrl-C and SIGTERM end every command with one sentence and 128 + the signal's number.

A signal raises `Stopped` wherever the program is. Code of other people may swallow that, as callbacks from C++ do, so
long loops also call `check`, which raises it again.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_NAMES = {signal.SIGINT: "stopped", signal.SIGTERM: "ended by SIGTERM"}


class Stopped(BaseException):
    """The user or the system wants the program to end. No `except Exception` catches it, and click does not either."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number, self.how = number, ""

    @property
    def exit_code(self) -> int:
        """What a shell calls an end by this signal."""
        return 128 + self.number

    @property
    def sentence(self) -> str:
        """What the user is told: that it ended, and what `continuing` said of going on."""
        what = _NAMES.get(signal.Signals(self.number), "stopped")
        return f"{what}; {self.how}." if self.how else f"{what}."


_asked: Stopped | None = None


def catch_signals() -> None:
    """From now on let Ctrl-C and SIGTERM raise `Stopped`. A signal that the caller wants ignored stays ignored."""
    global _asked
    _asked = None
    for number in _NAMES:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)


def _stop(number: int, frame: FrameType | None) -> None:
    global _asked
    _asked = Stopped(number)
    raise _asked


def catching() -> bool:
    """Whether signals raise `Stopped`, so that a KeyboardInterrupt comes from the code that raises it."""
    return _stop in (signal.getsignal(number) for number in _NAMES)


def asked() -> Stopped | None:
    """The request to stop that came in, if there was one."""
    return _asked


def check() -> None:
    """Raise `Stopped` where that was asked for and got lost on its way."""
    if _asked is not None:
        raise _asked


@contextmanager
def continuing(how: str) -> Iterator[None]:
    """Say what the user can do after an interruption inside: half a sentence."""
    try:
        yield
    except Stopped as stopped:
        stopped.how = stopped.how or how
        raise
    except KeyboardInterrupt:
        interrupted = Stopped(signal.SIGINT)
        interrupted.how = how
        raise interrupted from None
