"""`view`: what folders hold is read into one page."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from imagecot.curation.shards import IDENTITY as CURATION
from imagecot.errors import UsageError
from imagecot.strategies.folder import PARTIAL
from imagecot.strategies.trace import TRACE
from imagecot.view.model import Source
from imagecot.view.pictures import Pictures
from imagecot.view.write import MOST_SOURCES, write_page
from imagecot.watch import SILENT, Watch

VIEW = "view"
Read = Callable[[Pictures, Watch], Source]


def _readings(folder: Path) -> Iterator[tuple[bool, Read]]:
    """Whether a folder is of a kind, and what reads it, kind by kind; what imports torch comes last."""
    from imagecot.view.runs import read_run

    yield (folder / TRACE).is_file(), lambda pictures, _: read_run(folder, pictures)

    from imagecot.view.curations import read_curation

    curated = (folder / CURATION).is_file() or any(folder.glob("data/*.parquet"))
    yield curated, lambda pictures, _: read_curation(folder, pictures)

    from imagecot.evaluation.state import IDENTITY as EVALUATION
    from imagecot.view.evaluations import read_evaluation

    yield (folder / EVALUATION).is_file(), lambda pictures, _: read_evaluation(folder, pictures)

    from imagecot.study.folder import CANDIDATES, STUDY
    from imagecot.study.names import SUMMARY
    from imagecot.view import others
    from imagecot.view.studies import read_study

    yield _has(folder, others.AUDIT), lambda *_: others.read_audit(folder)
    yield _has(folder, others.CORRECTIONS), lambda *_: others.read_corrections(folder)
    study = any((folder / name).exists() for name in (STUDY, CANDIDATES, SUMMARY))
    yield study, partial(read_study, folder)


def view(folders: Sequence[Path], out: Path | None = None, *, watch: Watch = SILENT) -> Path:
    """Write a page about folders and return its `index.html`; a folder of several of them stands for these.

    out  where it is written, by default `view/` in the first folder; what was written there before is replaced

    UsageError where a folder holds nothing that can be shown, or `out` something else than a page; ImagecotError naming
    what is damaged.
    """
    found = [one for folder in folders for one in _inside(folder)]
    if not found:
        raise UsageError("there is nothing to look at; name a folder.")
    if len(found) > MOST_SOURCES:
        raise UsageError(f"these are {len(found)} folders, over {MOST_SOURCES}; name fewer.")
    out = out or folders[0] / VIEW

    def read(pictures: Pictures) -> list[Source]:
        sources = []
        with watch.progress("reading") as progress:
            for done, (folder, reader) in enumerate(found, 1):
                sources.append(reader(pictures, watch))
                progress(done, len(found), folder.name)
        return sources

    return write_page(out, read)


def _inside(folder: Path) -> list[tuple[Path, Read]]:
    """What a folder holds, or those directly in it do; UsageError where that is nothing."""
    if not folder.exists():
        raise UsageError(f"there is no folder {folder}; check the path.")
    if not folder.is_dir():
        raise UsageError(f"{folder} is a file; give the folder of a run, an evaluation, a curation or a study.")
    own = _reader(folder)
    if own:
        return [(folder, own)]
    found = [(one, read) for one in sorted(folder.iterdir()) if one.is_dir() and (read := _reader(one))]
    if not found:
        unfinished = (
            " an unfinished run, which its command completes" if (folder / PARTIAL).is_dir() else " nothing to see"
        )
        raise UsageError(f"{folder} holds{unfinished}; give the folder of a run, an evaluation, a curation or a study.")
    return found


def _reader(folder: Path) -> Read | None:
    return next((read for holds, read in _readings(folder) if holds), None)


def _has(folder: Path, name: str) -> bool:
    return any((folder / f"{name}.{ending}").exists() for ending in ("jsonl", "parts"))
