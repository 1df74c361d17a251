"""Writes a report: `report.html`, `report.md` with `figures/`, and the table of a README."""

import os
from pathlib import Path

from imagecot.errors import UsageError
from imagecot.files import make_folder, make_own_folder, write_text, write_whole
from imagecot.reading import read_text
from imagecot.report import render
from imagecot.report.blocks import pictures
from imagecot.report.contents import contents, readme_fragment
from imagecot.report.read import read

TITLE = "Verification and alignment of an image generator: a study"
START, END = "<!-- study -->", "<!-- /study -->"


def write(folder: Path, out: Path, readme: Path | None = None) -> list[Path]:
    """Write the report of the study in `folder` into `out`; return its files, the page first.

    readme  where the main table is put, too, its pictures being those in `out`

    UsageError where `folder` holds no study or `readme` has no place for it, ImagecotError where its summary is damaged
    or something cannot be written.
    """
    marked = _split_readme(readme) if readme else ("", "")
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


def _split_readme(readme: Path) -> tuple[str, str]:
    """What stands before and behind the part that is generated, marks included; UsageError without the marks."""
    text = read_text(readme, failure=UsageError, advice="give a Markdown file to --readme")
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise UsageError(f"{readme} has no place for the study; write {START} and {END} where its table should stand.")
    return before + start, end + after
