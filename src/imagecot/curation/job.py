"""A curation in units: what is drawn or asked, by whom, and what becomes of it."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagecot.curation.dataset import RankingData, Row, curate
from imagecot.errors import ImagecotError

# Maps a unit's prompts, rows or numbers to its rows, and depends on them alone.
Make = Callable[[Sequence[Any]], Iterable[Row]]
UNIT = 160  # images of a unit, about


@dataclass(frozen=True)
class Job:
    """What a curation is to do.

    out       the folder to write
    identity  all that the rows depend on; a folder that holds another curation is refused
    work      prompts, rows or numbers
    each      images that one of them takes
    load      loads the models, and checks with them that all of `work` can be done
    title, how  of the card
    nothing   says why there is no row at all, where that happens
    """

    out: Path
    identity: Row
    work: Sequence[Any]
    load: Callable[[RankingData], Make]
    title: str
    how: str
    each: int = 1
    nothing: Callable[[], str] = lambda: "none of the images can be used; curate from other data."


@dataclass(frozen=True)
class Watch:
    """Who is told how far a curation is: `loading` surrounds the loading of models, `done` counts units."""

    loading: Callable[[], AbstractContextManager[Any]] = nullcontext
    doing: Callable[[], AbstractContextManager[Callable[[int, int], None]]] = lambda: nullcontext(lambda done, of: None)


def run(job: Job, watch: Watch | None = None) -> dict[str, int]:
    """Do what is missing of a curation, and write its card; returns how many rows there are by question and label.

    UsageError where the folder holds something else, before anything is drawn; ImagecotError where there is no row.
    """
    watch = watch or Watch()
    size = max(1, UNIT // job.each)
    units = [job.work[first : first + size] for first in range(0, len(job.work), size)]
    data = RankingData(job.out, job.identity, len(units))
    if data.missing():
        with watch.loading():
            make = job.load(data)
        with watch.doing() as progress:
            curate(data, units, make, lambda done: progress(done, len(units)))
        if not data.claimed:
            raise ImagecotError(job.nothing())
    return data.finish(job.title, job.how)
