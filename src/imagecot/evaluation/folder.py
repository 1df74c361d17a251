"""The reference's image folders: `00000/metadata.jsonl` and `00000/samples/0000.png`, read and written."""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from torch import Tensor

from imagecot.contracts.metadata import Metadata
from imagecot.errors import ImagecotError, UsageError, said
from imagecot.files import is_temporary, make_own_folder, write_whole
from imagecot.geneval.metadata import read_metadata
from imagecot.geneval.prompts import TASKS
from imagecot.images import from_picture, open_picture, png
from imagecot.naming import printable
from imagecot.reading import read_bytes

_UNREADABLE = "unreadable"
_NUMBER = re.compile(r"[0-9]{1,12}")
_SAMPLE = re.compile(r"([0-9]{1,12})\.png")


@dataclass(frozen=True)
class Entry:
    """One prompt's folder: its requirement and its images.

    problems  what keeps something of it out of the score, a sentence each
    remarks   what is odd about it
    digest    SHA-256 of the names and contents of its files, so that repaired images are not taken for the old ones
    """

    name: str
    metadata: Metadata | None
    images: tuple[Path, ...]
    problems: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    digest: str = ""

    @property
    def number(self) -> int:
        """Which prompt of the set it is, from 0."""
        return int(self.name)


@dataclass(frozen=True)
class ImageSet:
    """Folders in the order of their numbers; `problems` are about the set as a whole, a sentence each."""

    entries: tuple[Entry, ...]
    problems: tuple[str, ...] = ()

    @property
    def remarks(self) -> list[str]:
        """What is odd about the folders, a sentence each."""
        return [remark for entry in self.entries for remark in entry.remarks]

    @property
    def digest(self) -> str:
        """SHA-256 of all that the folders hold."""
        return hashlib.sha256("".join(entry.digest for entry in self.entries).encode()).hexdigest()


def read_folder(
    folder: Path,
    samples: int,
    classes: Iterable[str],
    *,
    prompts: Sequence[Metadata] | None = None,
    benchmark: Sequence[Metadata] = (),
) -> ImageSet:
    """Look through an image set in the reference's layout.

    samples    images that each prompt should have
    classes    what the detector knows
    prompts    what the set must hold, where the user says so; folder 00007 holds number 7
    benchmark  what it must hold otherwise, if all of it is found in there

    Whatever cannot be scored is a problem and stops nothing else; UsageError where there is no image set at all.
    """
    known = frozenset(classes)
    entries, problems = read_entries(folder, samples, lambda file: read_metadata(file, known))
    expected = prompts
    if prompts is None and _is_of(entries, benchmark):
        expected = benchmark
    if prompts is not None:
        entries = [_held_against(entry, prompts, folder) for entry in entries]
    entries = without_repetitions(entries, folder)
    problems += _gaps(folder, [entry.number for entry in entries], len(expected or ()))
    if expected is None:
        problems += _missing_tasks(folder, entries)
    return ImageSet(tuple(entries), tuple(problems))


def read_entries(folder: Path, samples: int, read: Callable[[Path], Metadata]) -> tuple[list[Entry], list[str]]:
    """The prompts' folders of an image set in the order of their numbers, and what is wrong with others.

    read  the requirement in a `metadata.jsonl`; ImagecotError where it is none
    """
    names, problems = _folders(folder)
    return [_read_entry(folder / name, samples, read) for name in names], problems


def _folders(folder: Path) -> tuple[list[str], list[str]]:
    """The names of the prompts' folders in the order of their numbers, and what is wrong with others."""
    layout = "give one that holds 00000/metadata.jsonl and 00000/samples/0000.png"
    try:
        if not folder.is_dir():
            raise UsageError(f"{folder} is no folder; {layout}.")
        children = sorted(child.name for child in folder.iterdir() if child.is_dir())
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder} cannot be read ({said(error)}); {layout}.") from None
    names: dict[int, str] = {}
    problems = []
    for name in children:
        where = printable(str(folder / name))
        if not _NUMBER.fullmatch(name):
            if (folder / name / "metadata.jsonl").exists():
                problems.append(f"{where} is not named by a number like 00000 and is left out.")
        elif int(name) in names:
            problems.append(f"{where} has the number of {names[int(name)]} and is left out.")
        else:
            names[int(name)] = name
    if not names:
        raise UsageError(
            f"{folder} holds no image set: there is no folder named by a number, such as {folder / '00000'}."
        )
    return [names[number] for number in sorted(names)], problems


def _read_entry(folder: Path, samples: int, read: Callable[[Path], Metadata]) -> Entry:
    problems: list[str] = []
    metadata = None
    try:
        metadata = read(folder / "metadata.jsonl")
    except ImagecotError as error:
        problems.append(printable(str(error)))
    files = _samples(folder, problems)
    images = _numbered(files, problems)
    if len(images) < samples:
        problems.append(f"{folder} has {len(images)} of {samples} images.")
    if len(images) > samples:
        problems.append(
            f"{folder} has {len(images)} of {samples} images: more images than --samples asks for, of which the first "
            f"{samples} are scored."
        )
    images = images[:samples]
    digests = {file: digest_of(file) for file in (folder / "metadata.jsonl", *files)}
    listed = "\n".join([folder.name, *(f"{file.name} {digest}" for file, digest in digests.items())])
    return Entry(
        folder.name, metadata, tuple(images), tuple(problems), tuple(_equal_pictures(images, digests)),
        hashlib.sha256(listed.encode("utf-8", "surrogateescape")).hexdigest(),
    )  # fmt: skip


def _numbered(files: Sequence[Path], problems: list[str]) -> list[Path]:
    """The files that are named like samples, in the order of their numbers; the others become problems."""
    numbered: dict[int, Path] = {}
    for file in files:
        match = _SAMPLE.fullmatch(file.name)
        if not match:
            problems.append(f"{printable(str(file))} is not named like 0000.png and is left out.")
        elif int(match[1]) in numbered:
            problems.append(f"{file} has the number of {numbered[int(match[1])].name} and is left out.")
        else:
            numbered[int(match[1])] = file
    return [numbered[number] for number in sorted(numbered)]


def _samples(folder: Path, problems: list[str]) -> list[Path]:
    samples = folder / "samples"
    try:
        return sorted(file for file in samples.iterdir() if not is_temporary(file.name)) if samples.is_dir() else []
    except OSError as error:
        problems.append(f"{samples} cannot be read ({(error.strerror or str(error)).lower()}).")
        return []


def digest_of(file: Path) -> str:
    """SHA-256 of a file; another word where it cannot be read."""
    try:
        return hashlib.sha256(read_bytes(file)).hexdigest()
    except ImagecotError:
        return _UNREADABLE


def _equal_pictures(images: Sequence[Path], digests: Mapping[Path, str]) -> Iterator[str]:
    first: dict[str, Path] = {}
    for file in images:
        other = first.setdefault(digests[file], file)
        if other is not file and digests[file] != _UNREADABLE:
            yield f"{file} is the same picture as {other.name}, so that it counts twice."


def _is_of(entries: Sequence[Entry], benchmark: Sequence[Metadata]) -> bool:
    """Whether all that these folders ask for stands at their numbers in a benchmark."""
    asked = [(entry.number, entry.metadata.key) for entry in entries if entry.metadata is not None]
    return bool(asked) and all(k < len(benchmark) and key == benchmark[k].key for k, key in asked)


def _held_against(entry: Entry, prompts: Sequence[Metadata], folder: Path) -> Entry:
    """The entry, without its requirement where it is not the one that it should hold."""
    if entry.metadata is None:
        return entry
    if entry.number >= len(prompts):
        problem = f"{folder / entry.name} is beyond the {len(prompts)} prompts of --prompts and is left out."
    elif entry.metadata.key != prompts[entry.number].key:
        problem = f"{folder / entry.name} does not hold prompt {entry.number + 1} of --prompts and is left out."
    else:
        return entry
    return replace(entry, metadata=None, problems=(*entry.problems, problem))


def without_repetitions(entries: Sequence[Entry], folder: Path) -> list[Entry]:
    """The entries; a prompt that an earlier one asks for too would count twice, so it loses its requirement."""
    first: dict[str, str] = {}
    kept = []
    for entry in entries:
        name = first.setdefault(entry.metadata.key, entry.name) if entry.metadata else entry.name
        if name != entry.name:
            problem = f"{folder / entry.name} repeats the prompt of {name} and is left out, so that none weighs double."
            entry = replace(entry, metadata=None, problems=(*entry.problems, problem))
        kept.append(entry)
    return kept


def _gaps(folder: Path, numbers: Sequence[int], count: int) -> list[str]:
    """Say which numbers of folders are missing below `count`, or below the highest there is."""
    ends = [-1, *sorted(numbers)]
    if count > ends[-1] + 1:
        ends.append(count)
    missing = [(a + 1, b - 1) for a, b in pairwise(ends) if b - a > 1]
    if not missing:
        return []
    told = [f"{a:05d}" if a == b else f"{a:05d} to {b:05d}" for a, b in missing]
    more = f" and {len(told) - 10} more gaps" if len(told) > 10 else ""
    prompts = sum(b - a + 1 for a, b in missing)
    return [f"{folder} has no folder {', '.join(told[:10])}{more}: {prompts} prompt(s) are not in the score."]


def _missing_tasks(folder: Path, entries: Sequence[Entry]) -> list[str]:
    there = {entry.metadata.tag for entry in entries if entry.metadata is not None and entry.images}
    missing = [task for task in TASKS if task not in there]
    if not there or not missing:
        return []
    return [
        f"{folder} has nothing of {', '.join(missing)}, so the overall score is the mean of the other tasks; where "
        "that is meant, name the set's metadata file with --prompts."
    ]


def read_image(file: Path) -> Tensor:
    """Read an image as (3, H, W) float in [0, 1], as `open_picture` opens it; ImagecotError if it is unreadable."""
    return from_picture(open_picture(file))


def write_entry(folder: Path, metadata: Metadata, images: Tensor) -> list[str]:
    """Write a prompt's requirement and images (B, 3, H, W) in [0, 1]; return the images' paths."""
    make_own_folder(folder)
    samples = make_own_folder(folder / "samples")
    write_whole(folder / "metadata.jsonl", (metadata.text + "\n").encode())
    files = []
    for k, image in enumerate(images):
        files.append(samples / f"{k:04d}.png")
        write_whole(files[-1], png(image))
    return [str(file) for file in files]
