"""Training prompts in GenEval's six templates over any vocabulary, never a test prompt (paper, section 2.2)."""

import json
import random
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from imagecot.errors import UsageError
from imagecot.files import clear_write_errors, write_whole
from imagecot.geneval.prompts import COLORS, TASKS, make_prompts, normalise

Metadata = dict[str, Any]


def everyday_objects() -> list[str]:
    """200 countable everyday objects, the vocabulary of the real size (the paper had GPT-4 name them)."""
    text = (resources.files("imagecot.curation") / "objects.txt").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line]


def training_prompts(
    names: Sequence[str], per_task: int, seed: int, held_out: Iterable[str], colors: Sequence[str] = COLORS
) -> list[Metadata]:
    """Up to `per_task` prompts of each task in a random order, without those of `held_out`.

    A vocabulary has only so many prompts of a task; there are fewer where it is used up. UsageError where nothing
    is left, or for a vocabulary that is too small.
    """
    if per_task < 1:
        raise UsageError(f"a set needs at least 1 prompt a task, not {per_task}.")
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
    """Training prompts of the drawn world, each in a wording that is not held out."""
    from imagecot.pictograms.captions import caption, random_requirement

    rng = random.Random(seed)
    prompts: list[Metadata] = []
    for task in TASKS:
        found: dict[str, Metadata] = {}
        for _ in range(20 * per_task):
            metadata = random_requirement(rng, task)
            text = caption(metadata, rng)
            found.setdefault(text, {**metadata, "prompt": text})
            if len(found) == per_task:
                break
        prompts += found.values()
    rng.shuffle(prompts)
    return prompts


def write_prompts(prompts: Sequence[Metadata], file: Path) -> None:
    """Write a requirement a line, as `evaluate geneval --prompts` and the other curations read them."""
    with clear_write_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, "".join(json.dumps(metadata) + "\n" for metadata in prompts).encode())
