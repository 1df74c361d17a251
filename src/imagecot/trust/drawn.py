"""Labelled pictures that need no files: pictograms of the drawn world, drawn here from fixed seeds."""

import random
from collections import Counter

from imagecot.contracts.metadata import Metadata
from imagecot.geneval import prompts as wording
from imagecot.geneval.prompts import COLORS, RELATIONS, TASKS
from imagecot.images import from_picture
from imagecot.trust.material import ABSENT, COLOR, NUMBER, OTHER, PATHS, PLACE, TRUE, Case, Group, Material
from imagecot.worlds.drawn.captions import random_requirement
from imagecot.worlds.drawn.questions import holds
from imagecot.worlds.drawn.scenes import KINDS, Scene, compose, draw

_PER_TASK = 8
_CHOICES = ("two_object", "colors", "color_attr")  # what all shipped judges can tell


def drawn_material() -> Material:
    """48 pictures, 8 of each task of GenEval, with about six prompts each, and three choices among 20 pictures."""
    asked, scenes = [], []
    for task in TASKS:
        for number in range(_PER_TASK):
            rng = random.Random(f"trust:{task}:{number}")
            asked.append(random_requirement(rng, task))
            scenes.append(compose(asked[-1], rng))
    cases: list[Case] = [Case(k, metadata.prompt, TRUE) for k, metadata in enumerate(asked)]
    for k, scene in enumerate(scenes):
        rng = random.Random(f"trust:false:{k}")
        cases += [Case(k, false.prompt, kind) for kind, false in _false(scene, rng)]
        turns = ((k + 7 * turn) % len(asked) for turn in range(1, len(asked)))
        owner = next(other for other in turns if not holds(asked[other], scene))
        cases.append(Case(k, asked[owner].prompt, OTHER, owner))
    groups = []
    for task in _CHOICES:
        prompt, more = _paths(task)
        groups.append(Group(prompt, tuple(range(len(scenes), len(scenes) + len(more)))))
        scenes += more
    return Material(
        f"{len(asked)} drawn pictograms",
        tuple(from_picture(draw(scene)) for scene in scenes),
        tuple(cases),
        tuple(groups),
        tuple(f"picture {case.picture}" for case in cases),
    )


def _false(scene: Scene, rng: random.Random) -> list[tuple[str, Metadata]]:
    """Prompts that are not true of a scene, each wrong in one thing."""
    there = Counter(item.kind for item in scene.items)
    item = rng.choice(scene.items)
    absent = rng.choice([kind for kind in KINDS if kind not in there])
    own = {other.color for other in scene.items if other.kind == item.kind}
    color = rng.choice([color for color in COLORS if color not in own])
    count = rng.choice([number for number in (2, 3, 4) if number != there[item.kind]])
    found = [
        (ABSENT, wording.single_object_metadata(absent)),
        (COLOR, wording.colors_metadata(item.kind, color)),
        (NUMBER, wording.counting_metadata(item.kind, count)),
    ]
    if len(there) == len(scene.items) == 2:
        a, b = there
        for k, relation in enumerate(RELATIONS):  # opposites stand side by side
            opposite = RELATIONS[k ^ 1]
            wrong = wording.position_metadata(a, opposite, b)
            if holds(wording.position_metadata(a, relation, b), scene) and not holds(wrong, scene):
                found.append((PLACE, wrong))
                break
    return found


def _paths(task: str) -> tuple[str, list[Scene]]:
    """A prompt and pictures as a generator may draw them: every second one fulfils it, the others nearly do."""
    rng = random.Random(f"trust:paths:{task}")
    asked = random_requirement(rng, task)
    scenes: list[Scene] = []
    while len(scenes) < PATHS:
        scene = compose(asked if len(scenes) % 2 == 0 else _nearly(asked, rng), rng)
        if scene not in scenes and holds(asked, scene) == (len(scenes) % 2 == 0):
            scenes.append(scene)
    return asked.prompt, scenes


def _nearly(asked: Metadata, rng: random.Random) -> Metadata:
    """Another requirement of the same task that shares an object with it."""
    names = {need.name for need in asked.include}
    while True:
        other = random_requirement(rng, asked.tag)
        if names & {need.name for need in other.include} and other.include != asked.include:
            return other
