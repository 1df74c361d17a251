"""Yes/no questions and descriptions of a scene of the drawn world; the scene itself decides what is true.

A question is GenEval metadata (what a prompt asks for), so its truth is GenEval's: objects that nobody asked
for do no harm, except where they are counted.
"""

import random
from collections import Counter

import numpy as np

from imagecot.contracts.metadata import Metadata
from imagecot.geneval import prompts as wording
from imagecot.geneval.prompts import COLORS, NUMBER_WORDS, RELATIONS, TASKS
from imagecot.geneval.rules import relations
from imagecot.worlds.drawn.scenes import KINDS, SIZE, Item, Scene

# Relations are what a small model learns last, then counts: they are asked more often.
QUESTION_WEIGHTS: dict[str, float] = {
    "single_object": 0.6,
    "two_object": 1.2,
    "counting": 3.0,
    "colors": 1.0,
    "position": 5.0,
    "color_attr": 2.0,
}
_OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


def holds(metadata: Metadata, scene: Scene) -> bool:
    """Whether a scene shows what a prompt asks for, by GenEval's rules.

    Where a kind stands in several colours or places, any of its objects may serve; `draw_question` avoids
    the cases where GenEval would look at the first one only.
    """
    groups: list[list[int]] = []
    for need in metadata.include:
        found = [i for i, item in enumerate(scene.items) if item.kind == need.name]
        if need.color:
            found = [i for i in found if scene.items[i].color == need.color]
        if need.relation:
            found = [i for i in found if any(need.relation in _relations(scene, i, j) for j in groups[need.target])]
        if len(found) < need.count:
            return False
        groups.append(found)
    counts = Counter(item.kind for item in scene.items)
    return all(counts[limit.name] < limit.count for limit in metadata.exclude)


def draw_question(scene: Scene, task: str, answer: bool, rng: random.Random) -> Metadata | None:
    """A random question of a task with this answer, None where the scene has none.

    A no is a near miss: one colour, kind, number or relation differs from what is there.
    """
    for _ in range(8):
        metadata = (_true if answer else _false)(scene, task, rng)
        if metadata is not None and holds(metadata, scene) == answer and not _ambiguous(metadata, scene):
            return metadata
    return None


def draw_questions(scene: Scene, count: int, rng: random.Random) -> list[tuple[Metadata, bool]]:
    """`count` questions about a scene with their answers, half of them yes where a yes is possible."""
    drawn: list[tuple[Metadata, bool]] = []
    possible = [task for task in TASKS if _possible(scene, task)]
    impossible = [task for task in TASKS if task not in possible]
    while len(drawn) < count:
        tasks = impossible if impossible and rng.random() < 0.12 else possible
        task = rng.choices(tasks, [QUESTION_WEIGHTS[t] for t in tasks])[0]
        answer = tasks is possible and rng.random() < 0.5
        metadata = draw_question(scene, task, answer, rng)
        if metadata is not None:
            drawn.append((metadata, answer))
    return drawn


def describe(scene: Scene, rng: random.Random) -> str:
    """What a scene shows: counts, how two objects lie to each other, then each object with column and row.

    Columns count from the left and rows from the top, zero to seven.

    Counts and relations come before the places, so that they are read off the picture and not off the text.
    """
    counts = Counter(item.kind for item in scene.items)
    text = " and ".join(
        f"{NUMBER_WORDS[n]} {wording.plural(kind) if n > 1 else kind}" for kind, n in sorted(counts.items())
    )
    if len(counts) == 2 == len(scene.items):
        i = rng.randrange(2)
        seen = _relations(scene, i, 1 - i)
        text += f", {scene.items[i].kind} {' and '.join(seen)} {scene.items[1 - i].kind}"
    places = [
        f"{item.color} {item.kind} {NUMBER_WORDS[_cell(item.x)]} {NUMBER_WORDS[_cell(item.y)]}"
        for item in sorted(scene.items, key=lambda item: item.x)
    ]
    return f"{text}: {', '.join(places)}"


def _cell(v: float) -> int:
    return min(max(int(v * 8 / SIZE), 0), 7)


def _relations(scene: Scene, i: int, j: int) -> list[str]:
    boxes = scene.boxes
    return relations(np.asarray(boxes[i], np.float32), np.asarray(boxes[j], np.float32))


def _possible(scene: Scene, task: str) -> bool:
    counts = Counter(item.kind for item in scene.items)
    if task in ("single_object", "colors"):
        return True
    if task == "counting":
        return max(counts.values()) > 1
    return len(counts) > 1


def _ambiguous(metadata: Metadata, scene: Scene) -> bool:
    counts = Counter(item.kind for item in scene.items)
    for need in metadata.include:
        colors = {item.color for item in scene.items if item.kind == need.name}
        if need.color and len(colors) > 1 and need.color in colors:
            return True
        if metadata.tag == "position" and counts[need.name] > 1:
            return True
    return False


def _pair(scene: Scene, rng: random.Random) -> tuple[Item, Item] | None:
    """Two objects of different kinds."""
    a = rng.choice(scene.items)
    others = [item for item in scene.items if item.kind != a.kind]
    return (a, rng.choice(others)) if others else None


def _true(scene: Scene, task: str, rng: random.Random) -> Metadata | None:
    a = rng.choice(scene.items)
    if task == "single_object":
        return wording.single_object_metadata(a.kind)
    if task == "colors":
        return wording.colors_metadata(a.kind, a.color)
    if task == "counting":
        count = sum(item.kind == a.kind for item in scene.items)
        return wording.counting_metadata(a.kind, count) if count > 1 else None
    pair = _pair(scene, rng)
    if pair is None:
        return None
    a, b = pair
    if task == "two_object":
        return wording.two_object_metadata(a.kind, b.kind)
    if task == "color_attr":
        return wording.color_attr_metadata(a.kind, a.color, b.kind, b.color)
    seen = _relations(scene, scene.items.index(a), scene.items.index(b))
    return wording.position_metadata(a.kind, rng.choice(seen), b.kind) if seen else None


def _false(scene: Scene, task: str, rng: random.Random) -> Metadata | None:
    absent = rng.sample([kind for kind in KINDS if all(item.kind != kind for item in scene.items)], 2)
    a = rng.choice(scene.items)
    other_color = rng.choice([color for color in COLORS if color != a.color])
    if rng.random() < 0.4:  # a colour that is in the picture, on another object
        other_color = rng.choice([item.color for item in scene.items])
    if task == "single_object":
        return wording.single_object_metadata(absent[0])
    if task == "colors":
        if rng.random() < 0.3:
            return wording.colors_metadata(absent[0], a.color)
        return wording.colors_metadata(a.kind, other_color)
    if task == "counting":
        count = sum(item.kind == a.kind for item in scene.items)
        if count > 1 and rng.random() < 0.2:
            return wording.counting_metadata(absent[0], count)
        return wording.counting_metadata(a.kind, rng.choice([n for n in (2, 3, 4) if n != count]))
    pair = _pair(scene, rng)
    if pair is None or rng.random() < 0.08:
        # A picture without the second object, or with neither.
        first, second = (a.kind, absent[0]) if rng.random() < 0.7 else (absent[0], absent[1])
        c, d = a.color, rng.choice([color for color in COLORS if color != a.color])
        return _two(task, first, second, c, d, rng)
    a, b = pair
    chance = rng.random()
    if task == "two_object" or chance < (0.1 if task == "position" else 0.3):
        return _two(task, a.kind, absent[0], a.color, b.color, rng)
    if task == "color_attr":
        if chance < 0.65:
            return wording.color_attr_metadata(a.kind, b.color, b.kind, a.color)
        wrong = rng.choice([color for color in COLORS if color != a.color])
        colors = [(a.kind, wrong), (b.kind, b.color)]
        rng.shuffle(colors)
        return wording.color_attr_metadata(*colors[0], *colors[1])
    seen = _relations(scene, scene.items.index(a), scene.items.index(b))
    if not seen:
        return None
    relation = rng.choice(seen)
    if chance < 0.85:
        return wording.position_metadata(a.kind, _OPPOSITE[relation], b.kind)
    return wording.position_metadata(a.kind, rng.choice(RELATIONS), b.kind)


def _two(task: str, first: str, second: str, c: str, d: str, rng: random.Random) -> Metadata:
    """A prompt of two objects, in either order."""
    if rng.random() < 0.5:
        first, second, c, d = second, first, d, c
    if task == "two_object":
        return wording.two_object_metadata(first, second)
    if task == "color_attr":
        return wording.color_attr_metadata(first, c, second, d)
    return wording.position_metadata(first, rng.choice(RELATIONS), second)
