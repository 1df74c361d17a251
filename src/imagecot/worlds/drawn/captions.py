"""Prompts of the drawn world: GenEval's six tasks in GenEval's wording and in freer wordings, and the test set.

Training captions never equal a test prompt: `caption` draws another wording for a scene whose GenEval
wording is held out.
"""

import random
from dataclasses import replace
from functools import lru_cache

from imagecot.bounds import check_seed, check_whole
from imagecot.contracts.metadata import Metadata, Need
from imagecot.geneval import prompts as wording
from imagecot.geneval.prompts import (
    COLORS,
    MOST_PER_TASK,
    NUMBER_WORDS,
    RELATIONS,
    TASKS,
    plural,
    sample_prompts,
    with_article,
)
from imagecot.worlds.drawn.scenes import KINDS, SIZE, Scene

TEST_SEED = 43
TEST_SIZE = 60
_IN_VAIN = 1_000_000  # draws without a new prompt after which a task is used up
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
TEST_OPENINGS = ("a drawing of ", "we see ", "a picture of ", "here is ")
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
    needs = metadata.include
    if metadata.tag == "counting":
        need = needs[0]
        return " ".join(filter(None, (NUMBER_WORDS[need.count], need.color, plural(need.name))))
    names = [with_article(" ".join(filter(None, (need.color, need.name)))) for need in needs]
    if metadata.tag == "position":
        target, subject = names
        return f"{subject} {rng.choice(RELATION_WORDS[needs[1].relation])} {target}"
    if len(names) == 2 and rng.random() < 0.3:
        return f"{names[0]} with {names[1]}"
    return " and ".join(names)


def caption(metadata: Metadata, rng: random.Random, plain: float = 0.5) -> str:
    """A training caption: GenEval's wording with probability `plain` unless that is a test prompt, else a freer one."""
    held_out = held_out_texts()
    if rng.random() < plain and metadata.prompt not in held_out:
        return metadata.prompt
    while True:
        text = rng.choice(OPENINGS) + phrase(metadata, rng)
        if text not in held_out:
            return text


def placed(scene: Scene, rng: random.Random) -> str:
    """A caption that names every object of a scene with its colour and the third of the picture it stands in."""
    objects = [f"{with_article(f'{item.color} {item.kind}')} at the {_third(item.x, item.y)}" for item in scene.items]
    return rng.choice(OPENINGS) + " and ".join(objects)


def _third(x: float, y: float) -> str:
    """Which of nine parts of a picture a place in pixels is in."""
    row, column = (min(int(3 * value / SIZE), 2) for value in (y, x))
    words = (("top", "", "bottom")[row], ("left", "", "right")[column])
    return " ".join(word for word in words if word) or "middle"


def with_colors(metadata: Metadata, scene: Scene) -> Metadata:
    """The requirement that also asks for the colours that the scene happens to have, where a kind has one colour."""

    def filled(need: Need) -> Need:
        colors = {item.color for item in scene.items if item.kind == need.name}
        return replace(need, color=colors.pop()) if len(colors) == 1 else need

    return Metadata(metadata.tag, metadata.prompt, tuple(map(filled, metadata.include)), metadata.exclude)


def training_prompts(per_task: int, seed: int) -> list[Metadata]:
    """At most `per_task` prompts of each task, each in a wording that is not held out, in a random order.

    UsageError for a number out of bounds.
    """
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
            found.setdefault(text, metadata.worded(text))
            if len(found) == per_task or in_vain == _IN_VAIN:
                break
        prompts += found.values()
    rng.shuffle(prompts)
    return prompts


@lru_cache(maxsize=1)
def _held_out() -> tuple[Metadata, ...]:
    sampled = sample_prompts(seed=TEST_SEED, n=3 * TEST_SIZE, names=KINDS, colors=COLORS)
    prompts: list[Metadata] = []
    for task in TASKS:
        own = [m for m in sampled if m.tag == task]
        # 12 kinds give 12 single objects and 36 counts in GenEval's wording: further openings make up the number.
        reworded = [m.worded(m.prompt.replace(OPENINGS[0], opening)) for opening in TEST_OPENINGS for m in own]
        prompts += [*own, *reworded][:TEST_SIZE]
    return tuple(prompts)


def held_out_prompts(per_task: int = TEST_SIZE) -> list[Metadata]:
    """The first `per_task` (at most 60) held-out prompts of each task: GenEval's own sampling with seed 43."""
    tasks = [[m for m in _held_out() if m.tag == task] for task in TASKS]
    return [m for task in tasks for m in task[:per_task]]


@lru_cache(maxsize=1)
def held_out_texts() -> frozenset[str]:
    """The texts of the held-out prompts."""
    return frozenset(m.prompt for m in _held_out())
