"""Scenes put right: what a detector saw in a picture, and the least change that makes a scene fulfil a requirement.

Self-correction learns from a rejected and an accepted image that differ only in what is wrong. Two paths drawn from one
prompt never do; in the drawn world a scene can be edited.
"""

import random
from dataclasses import replace

import numpy as np
from torch import Tensor

from imagecot.contracts.detector import Detections
from imagecot.contracts.metadata import Metadata
from imagecot.geneval.prompts import COLORS
from imagecot.worlds.drawn.scenes import (
    BACKGROUNDS,
    SIDES,
    Item,
    Scene,
    apart,
    compose,
    extent,
    fulfils_relation,
    grid_place,
    place,
)

_TRIES = 200
_GUESSED = 0.1  # GenEval sees an object from .3 on; below that is what became no object, and where
_ALL_SIDES = tuple(sorted({side for sides in SIDES.values() for side in sides}))


def seen_scene(image: Tensor, found: Detections) -> Scene:
    """Return the scene that a picture (3, 64, 64) in [0, 1] seems to show: its objects, on the grid, and its ground."""
    assert not callable(found.colors)
    items = []
    for kind, boxes in found.boxes.items():
        width, height = extent(kind)
        for (x0, y0, x1, y1, score), color in zip(boxes, found.colors[kind], strict=True):
            if score > _GUESSED:
                side = ((x1 - x0) / width + (y1 - y0) / height) / 2
                items.append(_fitting(Item(kind, color, (x0 + x1) / 2, (y0 + y1) / 2, side, 1), _ALL_SIDES))
    wall = np.median(image[:, :4].flatten(1).numpy(), 1) * 255  # the first rows: objects seldom cover them
    ground = min(BACKGROUNDS, key=lambda name: float(np.abs(np.array(BACKGROUNDS[name][0]) - wall).sum()))
    return Scene(tuple(items), ground)


def repaired(scene: Scene, metadata: Metadata, rng: random.Random) -> Scene:
    """Return the scene changed as little as will do for a requirement (GenEval's `include`).

    Objects that are asked for stay where they are, in the colour asked for. One that lacks takes the place and, if
    free, the colour of an object that nobody asked for, or else is placed at random; what is too many goes; of a
    wrong relation the subject moves. Where that does not fit, more of the others go or move, in the end all.
    """
    kept, free, others = _wanted(scene, metadata, rng)
    relation = next((need.relation for need in metadata.include if need.relation), None)
    slots: list[Item | None] = [*kept]
    if relation and kept[0] and kept[1] and not fulfils_relation([kept[0], kept[1]], relation):
        slots[1] = None
    while True:
        count = len(slots) + len(others)
        sides = SIDES[min(count, max(SIDES))]
        fixed = [item and _fitting(item, sides) for item in slots]
        around = [_fitting(item, sides) for item in others]
        for _ in range(_TRIES):
            items = [item or place(*look, rng.choice(sides), rng) for item, look in zip(fixed, free, strict=True)]
            if apart([*items, *around]) and (not relation or fulfils_relation(items[:2], relation)):
                order = [*items, *around]
                rng.shuffle(order)
                return Scene(tuple(order), scene.background)
            if None not in fixed:
                break
        if others:
            others.pop(rng.randrange(len(others)))
        elif any(slots):
            slots[rng.choice([k for k, item in enumerate(slots) if item])] = None
        else:
            return replace(compose(metadata, rng), background=scene.background)


def lack_of_room(metadata: Metadata) -> str | None:
    """Why no scene of the drawn world can fulfil a requirement: half a sentence; None where one can."""
    needs = metadata.include
    count, most = sum(need.count for need in needs), max(SIDES)
    if not 1 <= count <= most:
        return f"it asks for {count} objects, and a scene has 1 to {most}"
    related = any(need.relation for need in needs)
    if related and (len(needs) != 2 or count != 2 or needs[0].relation or needs[1].target != 0):
        return "it relates other objects than the second of two to the first"
    kinds = [need.name for need in needs]
    if len(set(kinds)) < len(kinds):
        return "it asks for one kind of object twice"
    return None


def _fitting(item: Item, sides: tuple[int, ...]) -> Item:
    """The object in the nearest of these sizes."""
    return grid_place(replace(item, side=min(sides, key=lambda side: abs(side - item.side))))


def _wanted(
    scene: Scene, metadata: Metadata, rng: random.Random
) -> tuple[list[Item | None], list[tuple[str, str]], list[Item]]:
    """For each object asked for, what the scene has for it, and its kind and colour; then what nobody asked for."""
    kept: list[Item | None] = []
    looks: list[tuple[str, str]] = []
    kinds = {need.name for need in metadata.include}
    others = [item for item in scene.items if item.kind not in kinds]
    for need in metadata.include:
        kind, color = need.name, need.color
        own = sorted((item for item in scene.items if item.kind == kind), key=lambda item: item.color != color)
        own = own[: need.count]
        while len(own) < need.count and others:
            own.append(others.pop(rng.randrange(len(others))))
        for k in range(need.count):
            item = replace(own[k], kind=kind, color=color or own[k].color) if k < len(own) else None
            kept.append(item)
            looks.append((kind, item.color if item else color or (own[0].color if own else rng.choice(COLORS))))
    return kept, looks, others
