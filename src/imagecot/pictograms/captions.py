"""Prompts of the drawn world: GenEval's six tasks in GenEval's wording and in freer wordings, and the test set.

Training captions never equal a test prompt: `caption` draws another wording for a scene whose GenEval
wording is held out.
"""

import random
from functools import lru_cache
from typing import Any

from imagecot.geneval import prompts as wording
from imagecot.geneval.prompts import (
    COLORS,
    NUMBER_WORDS,
    RELATIONS,
    TASKS,
    make_prompts,
    plural,
    with_article,
)
from imagecot.pictograms.scenes import KINDS

Metadata = dict[str, Any]

TEST_SEED = 43
TEST_SIZE = 40
OPENINGS = (
    "a photo of ",
    "a picture of ",
    "a drawing of ",
    "an image of ",
    "there is ",
    "here is ",
    "we see ",
    "",
)
RELATION_WORDS = {
    "left of": ("left of", "to the left of", "on the left of"),
    "right of": ("right of", "to the right of", "on the right of"),
    "above": ("above", "over", "higher than"),
    "below": ("below", "under", "lower than"),
}


def random_requirement(rng: random.Random, task: str | None = None) -> Metadata:
    """GenEval metadata for a random prompt of the drawn world (of one task, or of any)."""
    task = task or rng.choice(TASKS)
    a, b = rng.sample(KINDS, 2)
    c, d = rng.sample(COLORS, 2)
    if task == "single_object":
        return wording.single_object_metadata(a)
    if task == "two_object":
        return wording.two_object_metadata(a, b)
    if task == "counting":
        return wording.counting_metadata(a, rng.randint(2, 4))
    if task == "colors":
        return wording.colors_metadata(a, c)
    if task == "position":
        return wording.position_metadata(a, rng.choice(RELATIONS), b)
    return wording.color_attr_metadata(a, c, b, d)


def phrase(metadata: Metadata, rng: random.Random) -> str:
    """A noun phrase for what a requirement asks, without an opening: 'two cups', 'a red apple and a cup'."""
    needs = metadata["include"]
    if metadata["tag"] == "counting":
        need = needs[0]
        return f"{NUMBER_WORDS[need['count']]} {plural(need['class'])}"
    names = [with_article(" ".join(filter(None, (need.get("color"), need["class"])))) for need in needs]
    if metadata["tag"] == "position":
        target, subject = names
        return f"{subject} {rng.choice(RELATION_WORDS[needs[1]['position'][0]])} {target}"
    if len(names) == 2 and rng.random() < 0.3:
        return f"{names[0]} with {names[1]}"
    return " and ".join(names)


def caption(metadata: Metadata, rng: random.Random, plain: float = 0.5) -> str:
    """A training caption: GenEval's wording with probability `plain` unless that is a test prompt, else a freer one."""
    held_out = held_out_texts()
    if rng.random() < plain and metadata["prompt"] not in held_out:
        return str(metadata["prompt"])
    while True:
        text = rng.choice(OPENINGS) + phrase(metadata, rng)
        if text not in held_out:
            return text


@lru_cache(maxsize=1)
def _held_out() -> tuple[Metadata, ...]:
    sampled = make_prompts(seed=TEST_SEED, n=3 * TEST_SIZE, names=KINDS, colors=COLORS)
    singles = []
    # 12 kinds give only 12 prompts of GenEval's wording: two held-out wordings more make the task's 36.
    for opening in ("a photo of ", "a drawing of ", "we see "):
        for need in (m for m in sampled if m["tag"] == "single_object"):
            singles.append({**need, "prompt": opening + with_article(need["include"][0]["class"])})
    others = [[m for m in sampled if m["tag"] == task][:TEST_SIZE] for task in TASKS[1:]]
    return (*singles, *(m for task in others for m in task))


def held_out_prompts() -> list[Metadata]:
    """The held-out prompts of the drawn world: about 40 a task, GenEval's own sampling with seed 43."""
    return [dict(m) for m in _held_out()]


@lru_cache(maxsize=1)
def held_out_texts() -> frozenset[str]:
    """The texts of the held-out prompts."""
    return frozenset(m["prompt"] for m in _held_out())
