"""A curation in units: what is drawn or asked, by whom, and what becomes of it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

from imagecot.curation.dataset import RankingData, Work, curate
from imagecot.curation.schema import RankingRow
from imagecot.errors import ImagecotError
from imagecot.identity import Identity
from imagecot.watch import Watch

# Maps a unit's prompts, rows or numbers to its rows, and depends on them alone.
Make = Callable[[Sequence[Work]], Iterable[RankingRow]]
UNIT = 160  # images of a unit, about


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


def fill(job: Job[Work], watch: Watch) -> dict[str, int]:
    """Do what is missing of a curation, and write its card; returns how many rows there are by question and label.

    UsageError where the folder holds something else, before anything is drawn; ImagecotError where there is no row.
    """
    size = max(1, UNIT // job.each)
    units = [job.work[first : first + size] for first in range(0, len(job.work), size)]
    data = RankingData(job.out, job.identity, len(units))
    if data.missing():
        with watch.waiting("loading the models"):
            make = job.load(data)
        with watch.progress(job.doing) as progress:
            curate(data, units, make, lambda done: progress(done, len(units)))
        if not data.claimed:
            raise ImagecotError(job.nothing())
    return data.finish(job.title, job.how)
