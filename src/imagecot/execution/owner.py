"""Who holds a lease: a process, told apart from all others of all machines, and whether it is still there."""

import os
import secrets
import socket
from functools import cache
from pathlib import Path

from imagecot.naming import printable
from imagecot.reading import Schema

_GONE = ("Z", "X")  # states of a process that has ended


class Owner(Schema):
    """A worker.

    host     for people
    place    the kernel, from its start on, and the table of processes that `pid` belongs to; "" where nothing says so
    started  when the process began, in ticks of that kernel, so that a number used again is another process
    id       random
    """

    host: str
    place: str
    pid: int
    started: int
    id: str

    @property
    def shown(self) -> str:
        """How people tell it from others."""
        return f"{printable(self.host)}, process {self.pid}"

    @property
    def gone(self) -> bool:
        """Whether it is a process of this machine that has ended; False where that cannot be known."""
        if not self.place or self.place != _place():
            return False
        state, started = _stat(self.pid)
        return state in _GONE or started != self.started


def me() -> Owner:
    """A new owner in this process."""
    _, started = _stat(os.getpid())
    return Owner(
        host=socket.gethostname(), place=_place(), pid=os.getpid(), started=started, id=secrets.token_hex(8)
    )  # fmt: skip


@cache
def _place() -> str:
    """The kernel's random id of this start, and the namespace of processes: containers have their own."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _stat(pid: int) -> tuple[str, int]:
    """State and start of a process; ("X", -1) where there is none, or no /proc to tell."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "X", -1
    fields = text.rpartition(")")[2].split()  # the name before may hold anything
    return fields[0], int(fields[19])
