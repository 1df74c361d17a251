"""Writes a report: `report.html`, `report.md` with `figures/`, and the table of a README.

Of a frontier `frontier.md` with its figure, and the numbers themselves.
"""

import os
from pathlib import Path

from imagecot.errors import UsageError
from imagecot.files import make_folder, make_own_folder, write_text, write_whole
from imagecot.reading import read_text
from imagecot.report import frontier, render
from imagecot.report.blocks import pictures
from imagecot.report.contents import contents, readme_fragment
from imagecot.report.read import read
from imagecot.study.frontier.summary import FRONTIER

TITLE = "Verification and alignment of an image generator: a study"
STUDY_PART, FRONTIER_PART = "study", "frontier"  # of a README, between comments of these names


def write(folder: Path, out: Path, readme: Path | None = None) -> list[Path]:
    """Write the report of the study in `folder` into `out`; return its files, the page first.

    readme  where the main table is put, too, its pictures being those in `out`

    UsageError where `folder` holds no study or `readme` has no place for it, ImagecotError where its summary is damaged
    or something cannot be written.
    """
    if (folder / FRONTIER).is_file():
        return _write_frontier(folder, out, readme)
    marked = _split_readme(readme, STUDY_PART) if readme else ("", "")
    summary = read(folder)
    blocks = contents(summary, folder)
    drawn = make_own_folder(make_folder(out) / "figures")
    files = [(drawn / f"{picture.name}.png", picture.png) for picture in pictures(blocks)]
    files.append((out / "report.md", render.document(TITLE, blocks).encode()))
    files.append((out / "report.html", render.page(TITLE, blocks).encode()))
    for path, data in files:
        write_whole(path, data)
    written = [path for path, _ in reversed(files)]
    if readme:
        figures_folder = Path(os.path.relpath(drawn, readme.resolve().parent)).as_posix()
        write_text(readme, f"\n{readme_fragment(summary, figures_folder)}\n".join(marked))
        written.append(readme)
    return written


def _write_frontier(folder: Path, out: Path, readme: Path | None) -> list[Path]:
    """The report of a frontier, which lies in `out` itself beside what else is there."""
    marked = _split_readme(readme, FRONTIER_PART) if readme else ("", "")
    summary = frontier.read(folder)
    blocks = frontier.contents(summary)
    make_folder(out)
    files = {out / f"{picture.name}.png": picture.png for picture in pictures(blocks)}
    files[out / "frontier.md"] = render.document(frontier.TITLE, blocks, ".").encode()
    files[out / FRONTIER] = read_text(folder / FRONTIER).encode()
    for path, data in files.items():
        write_whole(path, data)
    written = [path for path in reversed(files)]
    if readme:
        place = Path(os.path.relpath(out, readme.resolve().parent)).as_posix()
        write_text(readme, f"\n{frontier.readme_fragment(summary, place)}\n".join(marked))
        written.append(readme)
    return written


def _split_readme(readme: Path, part: str) -> tuple[str, str]:
    """What stands before and behind the part that is generated, marks included; UsageError without the marks."""
    text = read_text(readme, failure=UsageError, advice="give a Markdown file to --readme")
    opening, closing = f"<!-- {part} -->", f"<!-- /{part} -->"
    before, start, rest = text.partition(opening)
    _, end, after = rest.partition(closing)
    if not start or not end:
        raise UsageError(
            f"{readme} has no place for the {part}; write {opening} and {closing} where its table should stand."
        )
    return before + start, end + after
