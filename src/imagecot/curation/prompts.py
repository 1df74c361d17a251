"""Training prompts in GenEval's six templates over any vocabulary, never a test prompt (paper, section 2.2)."""

import json
import random
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from imagecot.bounds import MAX_SEED, check_seed, check_whole
from imagecot.errors import UsageError
from imagecot.files import make_folder, write_text
from imagecot.geneval.prompts import COLORS, TASKS, make_prompts, normalise
from imagecot.reading import read_lines

Metadata = dict[str, Any]
MOST_PER_TASK = 100_000
MOST_NAMES = 10_000
LONGEST_NAME = 100
_IN_VAIN = 1_000_000  # draws without a new prompt after which a task is used up


def everyday_objects() -> list[str]:
    """200 countable everyday objects, the vocabulary of the real size (the paper had GPT-4 name them)."""
    text = (resources.files("imagecot.curation") / "objects.txt").read_text(encoding="utf-8")
    return [line for line in text.split("\n") if line]


def read_names(file: Path) -> list[str]:
    """Read a vocabulary with a name a line; UsageError naming the line that is none, or is there twice."""
    advice = "give tiny, everyday or a file with a name a line"
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


def training_prompts(
    names: Sequence[str], per_task: int, seed: int, held_out: Iterable[str], colors: Sequence[str] = COLORS
) -> list[Metadata]:
    """Up to `per_task` prompts of each task in a random order, without those of `held_out`.

    A vocabulary has only so many prompts of a task; there are fewer where it is used up. UsageError where nothing
    is left, or for a vocabulary that is too small.
    """
    check_whole(per_task, "per_task", 1, MOST_PER_TASK)
    check_whole(seed, "the seed of prompts", 0, MAX_SEED)
    normal = {normalise(prompt) for prompt in held_out}
    # Repeated draws and held-out prompts fall out, so more are sampled than asked.
    sampled = make_prompts(seed=seed, n=4 * per_task, names=names, colors=colors)
    kept = [m for m in sampled if normalise(m["prompt"]) not in normal]
    prompts = [m for task in TASKS for m in [k for k in kept if k["tag"] == task][:per_task]]
    if not prompts:
        raise UsageError("every prompt of this vocabulary is a test prompt; use more object names.")
    random.Random(seed).shuffle(prompts)
    return prompts


def pictogram_prompts(per_task: int, seed: int) -> list[Metadata]:
    """Training prompts of the drawn world, each in a wording that is not held out; UsageError as of the others."""
    from imagecot.worlds.drawn.captions import caption, random_requirement

    check_whole(per_task, "per_task", 1, MOST_PER_TASK)
    check_seed(seed)
    rng = random.Random(seed)
    prompts: list[Metadata] = []
    for task in TASKS:
        found: dict[str, Metadata] = {}
        in_vain = 0  # a task has only so many captions
        for _ in range(20 * per_task):
            metadata = random_requirement(rng, task)
            text = caption(metadata, rng)
            in_vain = in_vain + 1 if text in found else 0
            found.setdefault(text, {**metadata, "prompt": text})
            if len(found) == per_task or in_vain == _IN_VAIN:
                break
        prompts += found.values()
    rng.shuffle(prompts)
    return prompts


def write_prompts(prompts: Sequence[Metadata], file: Path) -> None:
    """Write a requirement a line, as `evaluate geneval --prompts` and the other curations read them."""
    make_folder(file.parent)
    write_text(file, "".join(json.dumps(metadata) + "\n" for metadata in prompts))
