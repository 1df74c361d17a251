"""Images that there are, for the prompts of GenEval 2: a folder for each prompt, or the reference's file of paths."""

import hashlib
from collections import Counter
from pathlib import Path

from imagecot.contracts.values import JSON
from imagecot.errors import ImagecotError, UsageError
from imagecot.evaluation.folder import Entry, ImageSet, digest_of, read_entries, without_repetitions
from imagecot.geneval2.data import Benchmark
from imagecot.naming import printable
from imagecot.reading import parse_object, read_text


def read_images(place: Path, benchmark: Benchmark, samples: int) -> ImageSet:
    """Look through the images of the prompts of a benchmark; by its prompt each belongs to a row.

    place    an image set as `read_folder` takes it, or a JSON file {prompt: path}, with an image a prompt
    samples  images that each prompt should have

    What cannot be scored, and what has no image, is a problem and stops nothing else; UsageError where there are no
    images at all.
    """
    if place.is_file():
        entries, problems = _listed(place, benchmark, samples)
    else:
        found, problems = read_entries(place, samples, benchmark.named_by)
        entries = without_repetitions(found, place)
    there = {entry.metadata.prompt for entry in entries if entry.metadata is not None and entry.images}
    missing = [prompt for prompt in benchmark.rows if prompt not in there]
    if missing:
        problems.append(
            f"{len(missing)} of {len(benchmark.rows)} prompts of {benchmark.file} have no image in {place}, such as "
            f"{missing[0][:60]!r}; they are not in the score."
        )
    return ImageSet(tuple(entries), tuple(problems))


def _listed(file: Path, benchmark: Benchmark, samples: int) -> tuple[list[Entry], list[str]]:
    """The images that a JSON file names, in the order of the benchmark; prompts that it does not have are problems."""
    advice = "give a folder of images, or a JSON file {prompt: path of an image}"
    listed = parse_object(
        read_text(file, failure=UsageError, advice=advice), str(file), failure=UsageError, advice=advice
    )
    if samples != 1:
        raise UsageError(f"{file} names one image a prompt; leave --samples out.")
    problems = []
    for prompt in listed:
        try:
            benchmark.of_prompt(prompt, str(file))
        except ImagecotError as error:
            problems.append(printable(str(error)))
    entries = [
        _entry(number, prompt, listed[prompt], benchmark, file)
        for number, prompt in enumerate(benchmark.rows)
        if prompt in listed
    ]
    paths = Counter(entry.images[0] for entry in entries)
    twice = [path for path, count in paths.items() if count > 1]
    if twice:
        problems.append(f"{file} names {twice[0]} for {paths[twice[0]]} prompts; an image is drawn for one.")
    return entries, problems


def _entry(number: int, prompt: str, path: JSON, benchmark: Benchmark, file: Path) -> Entry:
    if not isinstance(path, str) or not path.strip():
        raise UsageError(f"{file}: the path of {prompt[:60]!r} is {str(path)[:60]!r}; give the path of an image.")
    metadata = benchmark.metadata[prompt]
    digest = hashlib.sha256(f"{metadata.text}\n{path} {digest_of(Path(path))}".encode("utf-8", "surrogateescape"))
    return Entry(f"{number:05d}", metadata, (Path(path),), digest=digest.hexdigest())
