"""A curation in units: what is drawn or asked, by whom, and what becomes of it."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

from imagecot.curation.dataset import RankingData, Work
from imagecot.curation.schema import RankingRow
from imagecot.errors import ImagecotError
from imagecot.execution import machine
from imagecot.execution.camp import WORK
from imagecot.execution.team import Team, carry_out
from imagecot.execution.work import Keep, Unit, Worker, absent
from imagecot.files import make_own_folder, write_whole
from imagecot.identity import Identity
from imagecot.watch import Watch

# Maps a unit's prompts, rows or numbers to its rows, and depends on them alone.
Make = Callable[[Sequence[Work]], Iterable[RankingRow]]
UNIT = 160  # images of a unit, about
ALONE = Team()


@dataclass(frozen=True)
class Job(Generic[Work]):
    """What a curation is to do.

    out       the folder to write
    identity  all that the rows depend on; a folder that holds another curation is refused
    work      prompts, rows or numbers
    each      images that one of them takes
    load      loads the models, and checks with them that all of `work` can be done
    doing     a word for it
    title, how  of the card
    nothing   says why there is no row at all, where that happens
    """

    out: Path
    identity: Identity
    work: Sequence[Work]
    load: Callable[[RankingData], Make[Work]]
    doing: str
    title: str
    how: str
    each: int = 1
    nothing: Callable[[], str] = lambda: "none of the images can be used; curate from other data."


class Filling(Generic[Work]):
    """The work of a curation, as a `Work`.

    A curation without any row claims no folder. So a unit without rows that is done before any other has some is noted
    in `.work`, and its empty shard is written in the end, if there are rows.

    source  makes the job; another process makes its own
    """

    def __init__(self, source: Callable[[], Job[Work]]) -> None:
        self.source, self.job = source, source()
        size = max(1, UNIT // self.job.each)
        starts = range(0, len(self.job.work), size)
        self.folder, self.doing = self.job.out, self.job.doing
        self.data = RankingData(self.folder, self.job.identity)
        self.parts = {f"{k:05d}": self.job.work[first : first + size] for k, first in enumerate(starts)}
        self.units = [Unit(name, str(self._shard(name).relative_to(self.folder))) for name in self.parts]
        said = json.dumps(dict(self.job.identity), sort_keys=True).encode()
        self._empty = self.folder / WORK / f"empty-{hashlib.sha256(said).hexdigest()[:16]}"

    def __reduce__(self) -> tuple[object, ...]:
        return Filling, (self.source,)

    def missing(self) -> list[Unit]:
        """Those without a shard that are not known to be empty."""
        return [unit for unit in absent(self.folder, self.units) if not (self._empty / unit.name).is_file()]

    def done(self, unit: Unit) -> bool:
        """As of `imagecot.execution.work.Work.done`."""
        return (self.folder / unit.marker).is_file() or (self._empty / unit.name).is_file()

    def load(self) -> Worker:
        """Load the models."""
        machine.settle()
        return _Curator(self, self.job.load(self.data))

    def keep(self, unit: Unit, rows: Sequence[RankingRow]) -> None:
        """Write the rows of a unit."""
        if rows or self.data.claimed:
            self.data.keep(int(unit.name), rows)
        else:
            make_own_folder(self._empty)
            write_whole(self._empty / unit.name, b"")

    def conclude(self) -> dict[str, int]:
        """Write what is left to write; returns the counts. ImagecotError where there is no row."""
        if not self.data.claimed:
            shutil.rmtree(self._empty, ignore_errors=True)
            raise ImagecotError(self.job.nothing())
        for unit in absent(self.folder, self.units):
            self.data.keep(int(unit.name), [])
        return self.data.finish(self.job.title, self.job.how)

    def _shard(self, name: str) -> Path:
        return self.data.shard(int(name))


@dataclass(frozen=True)
class _Curator(Generic[Work]):
    filling: Filling[Work]
    make: Make[Work]

    def do(self, unit: Unit) -> Keep:
        rows = list(self.make(self.filling.parts[unit.name]))
        return lambda: self.filling.keep(unit, rows)


def fill(source: Callable[[], Job[Work]], watch: Watch, team: Team = ALONE) -> dict[str, int]:
    """Do what is missing of a curation, and write its card; returns how many rows there are by question and label.

    source  makes what there is to do; of several workers each calls its own, sent by pickle
    team    who takes part

    UsageError where the folder holds something else, before anything is drawn; ImagecotError where there is no row.
    """
    filling = Filling(source)
    return carry_out(filling, team, watch, filling.conclude, filling.conclude)
