"""Training prompts of a world, or in GenEval's templates over any vocabulary; no test prompts (paper, section 2.2)."""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from imagecot.contracts.metadata import Metadata
from imagecot.errors import UsageError
from imagecot.files import make_folder, write_text
from imagecot.geneval.prompts import load_benchmark_prompts, training_prompts
from imagecot.reading import read_lines
from imagecot.worlds import find

EVERYDAY = "everyday"
MOST_NAMES = 10_000
LONGEST_NAME = 100


def everyday_objects() -> list[str]:
    """200 countable everyday objects, the vocabulary of the real size (the paper had GPT-4 name them)."""
    text = (resources.files("imagecot.curation") / "objects.txt").read_text(encoding="utf-8")
    return [line for line in text.split("\n") if line]


def read_names(file: Path) -> list[str]:
    """Read a vocabulary with a name a line; UsageError naming the line that is none, or is there twice."""
    advice = "give the name of a world, everyday or a file with a name a line"
    names: list[str] = []
    found: dict[str, int] = {}
    for number, line in read_lines(file, failure=UsageError, advice=advice):
        name = line.strip()
        if len(name) > LONGEST_NAME or not name.isprintable() or not any(map(str.isalnum, name)):
            raise UsageError(f"line {number} of {file} is no name of up to {LONGEST_NAME} characters; correct it.")
        if found.setdefault(name.casefold(), number) != number:
            raise UsageError(f"line {number} of {file} has the name of line {found[name.casefold()]}; leave one out.")
        names.append(name)
    if not 2 <= len(names) <= MOST_NAMES:
        raise UsageError(f"{file} holds {len(names)} names, not 2 to {MOST_NAMES:,}; {advice}.")
    return names


def prompts_of(world: str, per_task: int, seed: int) -> list[Metadata]:
    """Training prompts, at most `per_task` of each task, in a random order.

    world  the name of a world; `everyday`, for photos of 200 everyday objects; or a file with a name a line

    UsageError for a name that is none of these, a number out of bounds, or a vocabulary of which nothing is left.
    """
    if find.is_world(world):
        return find.training_prompts_of(find.world(world), per_task, seed, world)
    names = everyday_objects() if world == EVERYDAY else read_names(Path(world))
    return training_prompts(names, per_task, seed, [m.prompt for m in load_benchmark_prompts()])


def write_prompts(prompts: Sequence[Metadata], file: Path) -> None:
    """Write a requirement a line, as `evaluate geneval --prompts` and the other curations read them."""
    make_folder(file.parent)
    write_text(file, "".join(metadata.text + "\n" for metadata in prompts))
