"""Folders of curated data, evaluations and studies as repositories of data sets."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from imagecot.curation.shards import IDENTITY as CURATION
from imagecot.curation.shards import content, shards
from imagecot.errors import UsageError
from imagecot.evaluation.state import IDENTITY as EVALUATION
from imagecot.evaluation.summary import SUMMARY
from imagecot.files import is_temporary
from imagecot.publishing.parcel import CARD, DATASET, Content, Parcel
from imagecot.study.folder import STUDY

CURATED, EVALUATED, STUDIED = "curated data", "evaluation", "study"
_SHOWN = (".json", ".jsonl", ".md", ".png", ".svg", ".html", ".css", ".js", ".csv", ".txt", ".yaml")
_STALE_RESULTS = tuple(f"*{ending}" for ending in _SHOWN if ending != ".md")


@dataclass(frozen=True)
class Kind:
    """A kind of folder: what it is called, the files that show it, the file that shows that it is finished."""

    name: str
    signs: Sequence[str]
    finished: str
    pack: Callable[[Path], Parcel]


def parcel_of(folder: Path) -> Parcel | None:
    """A folder of data or results as a parcel; None where it is none.

    UsageError for one that is not finished, or holds a link; ImagecotError where shards are missing.
    """
    for kind in _KINDS:
        if any(any(folder.glob(sign)) for sign in kind.signs):
            if not (folder / kind.finished).is_file():
                raise UsageError(
                    f"{folder} ({kind.name}) has no {kind.finished}, so it is not finished; run its command to the end."
                )
            return kind.pack(folder)
    return None


def _curated(folder: Path) -> Parcel:
    """The shards, whose features `datasets` wrote into them, and what tells how they were made."""
    names = [CURATION, "samples.png"]
    files: dict[str, Content] = {name: folder / name for name in names if (folder / name).is_file()}
    files |= {f"data/{file.name}": file for file in shards(folder)}
    return Parcel(CURATED, DATASET, files, ("data/*.parquet",), {"content": content(folder)})


def _evaluated(folder: Path) -> Parcel:
    return Parcel(EVALUATED, DATASET, dict(_results(folder)), _STALE_RESULTS)


def _studied(folder: Path) -> Parcel:
    return Parcel(STUDIED, DATASET, dict(_results(folder)), _STALE_RESULTS)


_KINDS = (
    Kind(CURATED, (CURATION, "data/*.parquet"), CARD, _curated),
    Kind(EVALUATED, (EVALUATION,), SUMMARY, _evaluated),
    Kind(STUDIED, (STUDY,), SUMMARY, _studied),
)


def _results(folder: Path) -> Iterator[tuple[str, Path]]:
    """The files of results by their names: what people and scripts read, and nothing that is run or unpickled."""
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        if any(part.startswith(".") or is_temporary(part) for part in name.split("/")):
            continue
        if file.is_symlink():
            raise UsageError(f"{file} is a link, and what it leads to may not be meant; replace it by its file.")
        if file.is_file() and file.suffix in _SHOWN and name != CARD:
            yield name, file
