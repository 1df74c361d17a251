"""The reference's image folders: `00000/metadata.jsonl` and `00000/samples/0000.png`, read and written."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from imagecot.errors import ImagecotError, UsageError
from imagecot.files import clear_write_errors, write_whole
from imagecot.geneval.rules import judge_detections
from imagecot.images import from_picture, png

Metadata = dict[str, Any]
_SAMPLE = re.compile(r"\d+\.png")


@dataclass(frozen=True)
class Entry:
    """One prompt's folder: its requirement, its images, and what is wrong with it, a sentence each."""

    name: str
    metadata: Metadata | None
    images: tuple[Path, ...]
    problems: tuple[str, ...]


def read_folder(folder: Path, samples: int, classes: Iterable[str]) -> list[Entry]:
    """Look through an image set in the reference's layout, in the order of the folders' names.

    samples  images that each prompt should have
    classes  what the detector knows

    Whatever cannot be scored is a problem of its entry and stops nothing else; UsageError where there is no
    image set at all.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder; give one that holds 00000/metadata.jsonl and 00000/samples/0000.png.")
    names = sorted(child.name for child in folder.iterdir() if child.is_dir() and child.name.isdigit())
    if not names:
        raise UsageError(
            f"{folder} holds no image set: there is no folder named by a number, such as {folder / '00000'}."
        )
    known = frozenset(classes)
    return [_read_entry(folder / name, samples, known) for name in names]


def _read_entry(folder: Path, samples: int, known: frozenset[str]) -> Entry:
    problems = []
    metadata = None
    try:
        metadata = read_metadata(folder / "metadata.jsonl", known)
    except ImagecotError as error:
        problems.append(str(error))
    files = sorted((folder / "samples").iterdir()) if (folder / "samples").is_dir() else []
    images = tuple(file for file in files if _SAMPLE.fullmatch(file.name))
    for file in files:
        if file not in images:
            problems.append(f"{file} is not named like 0000.png and is left out.")
    if len(images) < samples:
        problems.append(f"{folder} has {len(images)} of {samples} images.")
    return Entry(folder.name, metadata, images, tuple(problems))


def read_metadata(file: Path, known: frozenset[str]) -> Metadata:
    """Read the one requirement of a prompt's folder; ImagecotError where it is missing, malformed or unknown."""
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ImagecotError(f"{file} is missing; put the prompt's line of the metadata there.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ImagecotError(f"{file} cannot be read ({error}); write it again.") from None
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) > 1 and all(line.startswith("{") for line in lines):
        raise ImagecotError(f"{file} has {len(lines)} lines, not one; keep the line of this prompt only.")
    return parse_metadata(text, str(file), known)


def parse_metadata(line: str, where: str, known: frozenset[str]) -> Metadata:
    """Check one line of metadata; ImagecotError, naming `where`, if it is no requirement over known classes."""
    try:
        metadata = json.loads(line)
    except ValueError as error:
        raise ImagecotError(f"{where} is not valid JSON ({error}); write it again.") from None
    if not isinstance(metadata, dict):
        raise ImagecotError(f'{where} must hold an object with "tag", "include" and "prompt".')
    try:
        judge_detections(metadata, {}, {})
    except UsageError as error:
        raise ImagecotError(f"{where}: {error}") from None
    for need in (*metadata.get("include", []), *metadata.get("exclude", [])):
        if need["class"] not in known:
            raise ImagecotError(f"{where} asks for {need['class']!r}, a class that the detector does not know.")
    return metadata


def read_prompts(file: Path, classes: Iterable[str]) -> list[Metadata]:
    """Read a metadata file with a requirement a line; UsageError naming the first line that is malformed."""
    known = frozenset(classes)
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{file} cannot be read ({error}); give a file with a line of metadata for each prompt."
        ) from None
    try:
        prompts = [
            parse_metadata(line, f"line {k} of {file}", known) for k, line in enumerate(lines, 1) if line.strip()
        ]
    except ImagecotError as error:
        raise UsageError(str(error)) from None
    if not prompts:
        raise UsageError(f"{file} holds no prompts.")
    return prompts


def read_image(file: Path) -> Tensor:
    """Read an image as (3, H, W) float in [0, 1], rotated as its EXIF says; ImagecotError if it is unreadable."""
    try:
        with Image.open(file) as image:
            return from_picture(ImageOps.exif_transpose(image))
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ImagecotError(f"{file} is no readable image ({type(error).__name__}); draw it again.") from None


def write_entry(folder: Path, metadata: Metadata, images: Tensor) -> list[str]:
    """Write a prompt's requirement and images (B, 3, H, W) in [0, 1]; return the images' paths."""
    samples = folder / "samples"
    with clear_write_errors(folder):
        samples.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "metadata.jsonl", (json.dumps(metadata) + "\n").encode())
    files = []
    for k, image in enumerate(images):
        files.append(samples / f"{k:04d}.png")
        write_whole(files[-1], png(image))
    return [str(file) for file in files]
