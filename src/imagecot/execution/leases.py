"""Leases: which worker does which unit, told by files in a folder that all machines share.

A lease of a unit is a file `NAME.GENERATION`, made exclusively (a temporary file, then a link to its name, which is
atomic on NFS too). It says who owns it, and a heartbeat: a number that its owner raises every few seconds, through the
file that it has open and not by name. A lease is over where its owner gave it back, or is dead. It is dead where an
observer has seen it unchanged for long by the observer's own clock, so that clocks of machines never matter; or at once
where it belongs to a process of the observer's machine that has ended.

Nobody takes a lease away or writes into that of another. Whoever finds generation g over makes g + 1, which only one
can. An observer that is late, because others have taken the unit over since, finds g + 1 there and leaves it alone: a
generation never comes back while the unit is not done, since the files of a unit are removed only when its result is
there. Whoever then still makes one looks whether the result is there before it works.

So at most one worker that is alive holds a unit, but for one that was stopped for longer than others are patient. That
one cannot be told from a dead one: it loses its lease, and results are kept so that the first one counts (`publish`).
"""

import contextlib
import json
import os
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from imagecot.execution.owner import Owner, me
from imagecot.files import clear_write_errors, create, is_temporary, make_own_folder

_FORM = re.compile(r"(?P<name>.+)\.(?P<generation>\d+)")
_HELD, _FREE = "held", "free"


@dataclass(frozen=True)
class Pace:
    """How often leases are renewed and looked at, in seconds.

    beat      between two heartbeats
    patience  without one, until a lease of another machine is dead
    look      between two looks at what others hold
    """

    beat: float = 5.0
    patience: float = 30.0
    look: float = 1.0


PACE = Pace()


@dataclass
class Lease:
    """A unit that this process holds."""

    name: str
    generation: int
    file: Path
    _descriptor: int
    _offset: int
    _began: float = field(default_factory=time.monotonic)
    _beats: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def lost(self) -> bool:
        """Whether somebody else holds the unit now, or held it since and is done."""
        return self.file.with_name(f"{self.name}.{self.generation + 1}").exists() or not self.file.exists()

    def beat(self) -> None:
        """Say that its owner lives."""
        with self._lock:
            self._beats += 1
            self._write(_HELD)

    def give_back(self) -> None:
        """Let others have the unit at once, whose result is not there."""
        with self._lock:
            self._write(_FREE)
            self._close()

    def finish(self) -> None:
        """Remove what tells of the lease, as the result of the unit is there."""
        with self._lock:
            self._close()
        for generation in range(self.generation, 0, -1):
            self.file.with_name(f"{self.name}.{generation}").unlink(missing_ok=True)

    def _write(self, state: str) -> None:
        """Where the machine has lost the folder, there is nobody to tell: others take over when they lose patience."""
        if self._descriptor < 0:
            return
        with contextlib.suppress(OSError):
            os.pwrite(self._descriptor, _pulse(state, self._beats, time.monotonic() - self._began), self._offset)
            os.fsync(self._descriptor)

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1


def _pulse(state: str, beats: int, seconds: float) -> bytes:
    """The line of a lease that changes, always equally long."""
    return f"{state} {beats:012d} {seconds:014.1f}\n".encode()


@dataclass(frozen=True)
class Seen:
    """A lease as an observer finds it.

    owner    None where that cannot be read
    seconds  how long it was held at its last heartbeat
    pulse    what changes with each heartbeat
    """

    name: str
    generation: int
    owner: Owner | None
    state: str
    seconds: float
    pulse: bytes

    @property
    def free(self) -> bool:
        """Whether it was given back."""
        return self.state == _FREE


def newest(folder: Path) -> dict[str, int]:
    """The units of a folder of leases, each with its newest generation; none where there is no folder."""
    found: dict[str, int] = {}
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return found
    for entry in names:
        match = None if is_temporary(entry) else _FORM.fullmatch(entry)
        if match:
            found[match["name"]] = max(found.get(match["name"], 0), int(match["generation"]))
    return found


def see(folder: Path, name: str, generation: int) -> Seen | None:
    """Read a lease; None where it is gone."""
    try:
        data = (folder / f"{name}.{generation}").read_bytes()
    except FileNotFoundError:
        return None
    head, _, pulse = data.partition(b"\n")
    owner: Owner | None = None
    with contextlib.suppress(ValueError):
        owner = Owner.model_validate_json(head)
    state, seconds = "", 0.0
    with contextlib.suppress(ValueError):  # while it is written
        state, _, said = pulse.decode().split()
        seconds = float(said)
    return Seen(name, generation, owner, state, seconds, pulse)


class Leases:
    """The leases of one worker, and what it sees of others; a context, inside which its own are renewed."""

    def __init__(self, folder: Path, pace: Pace) -> None:
        self.folder, self.pace, self.owner = folder, pace, me()
        self._held: dict[str, Lease] = {}
        self._seen: dict[tuple[str, int], tuple[bytes, float, float]] = {}
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Self:
        self._heart.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Give back what is held."""
        self._ended.set()
        for lease in list(self._held.values()):
            self.give_back(lease)

    def others(self) -> Iterator[Seen]:
        """The leases of others that are not over."""
        for name, generation in newest(self.folder).items():
            found = see(self.folder, name, generation) if name not in self._held else None
            if found and not found.free and not self.dead(found):
                yield found

    def take(self, name: str, generation: int = 0) -> Lease | None:
        """Hold a unit; None where somebody else does.

        generation  the newest lease that the caller has seen of it, and found over; 0 for none

        ImagecotError where nothing can be written.
        """
        make_own_folder(self.folder)
        file = self.folder / f"{name}.{generation + 1}"
        head = json.dumps(self.owner.model_dump()).encode() + b"\n"
        with clear_write_errors(file):
            if not create(file, head + _pulse(_HELD, 0, 0)):
                return None
            lease = Lease(name, generation + 1, file, os.open(file, os.O_WRONLY | os.O_NOFOLLOW), len(head))
        self._held[name] = lease
        return lease

    def finish(self, lease: Lease) -> None:
        """As of `Lease.finish`."""
        self._held.pop(lease.name, None)
        lease.finish()

    def give_back(self, lease: Lease) -> None:
        """As of `Lease.give_back`."""
        self._held.pop(lease.name, None)
        lease.give_back()

    def dead(self, found: Seen) -> bool:
        """Whether the owner of a lease has ended, as far as this observer can know by now.

        Each look adds at most the time of two heartbeats to the silence that it has seen. So after a sleep of its own
        it looks more than once before it takes anything over.
        """
        if found.owner is not None and found.owner.gone:
            return True
        key, now = (found.name, found.generation), time.monotonic()
        pulse, before, silence = self._seen.get(key, (b"", now, 0.0))
        silence = silence + min(now - before, 2 * self.pace.beat) if pulse == found.pulse else 0.0
        self._seen[key] = found.pulse, now, silence
        return silence > self.pace.patience

    def _beat(self) -> None:
        while not self._ended.wait(self.pace.beat):
            for lease in list(self._held.values()):
                lease.beat()
