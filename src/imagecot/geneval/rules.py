"""GenEval's verdict on one image from its detections: what is kept, what is required, and why it fails.

The comparisons run in float32 on purpose: a score of 0.30000001 is above 0.3 in float64 only, and the
reference's detector gives float32.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagecot.bounds import check_whole, shown
from imagecot.errors import UsageError
from imagecot.geneval.prompts import COLORS

Boxes = NDArray[np.float32]
_MOST = 1_000_000  # objects that a requirement may speak of
_LARGEST = 1e9  # of the options that have no other end
# (class, boxes (k, 5), their k indices in the raw list) -> k colour names
ColorClassifier = Callable[[str, Boxes, list[int]], Sequence[str]]


@dataclass(frozen=True)
class Judgment:
    """Whether an image shows what its prompt asks for; `reason` holds a line for each thing that is wrong."""

    correct: bool
    reason: str


def judge_detections(
    metadata: Mapping[str, Any],
    detections: Mapping[str, Any],
    colors: Mapping[str, Sequence[str]] | ColorClassifier,
    *,
    threshold: float = 0.3,
    counting_threshold: float = 0.9,
    max_objects: int = 16,
    max_overlap: float = 1.0,
    position_threshold: float = 0.1,
) -> Judgment:
    """Judge the detections of one image by the rules of GenEval's `evaluate_images.py`.

    `metadata` is a prompt's record (`tag`, `prompt`, `include`, `exclude`). `detections` maps a class to its
    raw detections (k, 5): x1, y1, x2, y2 in pixels (x2, y2 exclusive) and score. `colors` answers for the
    colour of an object: either one answer for each raw detection of a class, or a function that is called
    with (class, kept boxes (k, 5), their indices among the raw ones) only when a colour is required.
    `threshold` (all tags but counting), `counting_threshold`, `max_objects` (a class), `max_overlap` (IoU of
    the suppression, 1 = off) and `position_threshold` (share of the sizes taken off an offset) are the
    reference's options. Raises UsageError for malformed metadata, detections, colours or options.
    """
    _check_options(threshold, counting_threshold, max_objects, max_overlap, position_threshold)
    _check_types(metadata, detections, colors)
    include, exclude = _requirements(metadata, "include"), _requirements(metadata, "exclude")
    least = counting_threshold if metadata["tag"] == "counting" else threshold

    boxes: dict[str, Boxes] = {}
    kept: dict[str, list[int]] = {}
    for name in {requirement["class"] for requirement in (*include, *exclude)}:
        boxes[name] = _as_boxes(name, detections.get(name))
        kept[name] = kept_indices(boxes[name], threshold=least, max_objects=max_objects, max_overlap=max_overlap)

    reasons: list[str] = []
    groups: list[Boxes | None] = []  # objects of each requirement so far, None if it failed
    for requirement in include:
        name, count = requirement["class"], requirement["count"]
        indices = kept[name][:count]
        found = boxes[name][indices]
        if len(found) < count:
            reason = f"expected {name}>={count}, found {len(found)}"
        else:
            reason = ""
            if "color" in requirement:
                answers = _ask_colors(colors, name, found, indices)
                reason = _color_reason(name, count, requirement["color"], answers)
            if "position" in requirement and not reason:
                reason = _position_reason(requirement, found, groups, position_threshold)
        if reason:
            reasons.append(reason)
        groups.append(None if reason else found)
    for requirement in exclude:
        name, count, number = requirement["class"], requirement["count"], len(kept[requirement["class"]])
        if number >= count:
            if number == 0:
                raise UsageError(f'"exclude" of {name} needs a count of at least 1.')
            reasons.append(f"expected {name}<{count}, found {number}")
    return Judgment(correct=not reasons, reason="\n".join(reasons))


def kept_indices(boxes: Boxes, *, threshold: float = 0.3, max_objects: int = 16, max_overlap: float = 1.0) -> list[int]:
    """Indices of the detections of one class that count, surest first; of equal scores the later first.

    `boxes` is (k, 5) float32. Kept are scores strictly above `threshold`, then the first `max_objects`, then
    what greedy suppression leaves: IoU below `max_overlap` with every better one, where 1 switches it off.
    """
    scores = boxes[:, 4]
    order = scores.argsort(kind="stable")[::-1]
    order = order[scores[order] > float(threshold)][:max_objects]
    if max_overlap == 1:
        return order.tolist()
    kept: list[int] = []
    for i in order.tolist():
        if all(overlap(boxes[i], boxes[j]) < max_overlap for j in kept):
            kept.append(i)
    return kept


def overlap(a: Boxes, b: Boxes) -> float:
    """Intersection over union of boxes (x1, y1, x2, y2, …), sides counted as x2 − x1 + 1; 0 if empty."""

    def area(x1: np.float32, y1: np.float32, x2: np.float32, y2: np.float32) -> float:
        # The reference leaves float32 at the + 1.
        return max(float(x2 - x1) + 1, 0.0) * max(float(y2 - y1) + 1, 0.0)

    shared = area(max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3]))
    union = area(*a[:4]) + area(*b[:4]) - shared
    return shared / union if union else 0.0


def relations(a: Boxes, b: Boxes, position_threshold: float = 0.1) -> list[str]:
    """How box `a` lies to box `b`: none, one or two (sideways first) of left of, right of, above, below.

    On each axis the offset of the centres is shortened by `position_threshold` of both sizes and divided by
    the length of the whole offset; a relation holds beyond one half. Boxes are float32 pixels, y downwards.
    """
    low_a, high_a, low_b, high_b = a[:2], a[2:4], b[:2], b[2:4]
    with np.errstate(over="ignore", invalid="ignore"):  # of boxes beyond float32 no relation holds
        offset = (low_a + high_a) / 2 - (low_b + high_b) / 2
        sizes = abs(high_a - low_a) + abs(high_b - low_b)
        shortened = np.maximum(abs(offset) - float(position_threshold) * sizes, 0) * np.sign(offset)
        if (abs(shortened) < 1e-3).all():
            return []
        dx, dy = (shortened / np.sqrt(offset.dot(offset))).tolist()
    holds = {"left of": dx < -0.5, "right of": dx > 0.5, "above": dy < -0.5, "below": dy > 0.5}
    return [relation for relation, true in holds.items() if true]


def _color_reason(name: str, count: int, color: str, answers: Sequence[str]) -> str:
    right = answers.count(color)
    if right >= count:
        return ""
    listed = ", ".join(f"{answers.count(c)} {c}" for c in COLORS if c in answers)
    return f"expected {color} {name}>={count}, found {right} {color}; and {listed}"


def _position_reason(
    requirement: Mapping[str, Any], found: Boxes, groups: Sequence[Boxes | None], position_threshold: float
) -> str:
    name = requirement["class"]
    try:
        relation, target = requirement["position"]
        if not isinstance(relation, str) or isinstance(target, bool):
            raise TypeError
        group = groups[target]
    except (TypeError, ValueError):
        raise UsageError(f'"position" of {name} must be [relation, index of an earlier requirement].') from None
    except IndexError:
        raise UsageError(
            f'"position" of {name} refers to requirement {shown(target)}, but only {len(groups)} come before it.'
        ) from None
    if group is None:
        return f"no target for {name} to be {relation}"
    for box in found:
        for other in group:
            seen = relations(box, other, position_threshold)
            if relation not in seen:
                return f"expected {name} {relation} target, found {' and '.join(seen)} target"
    return ""


def _ask_colors(
    colors: Mapping[str, Sequence[str]] | ColorClassifier, name: str, found: Boxes, indices: list[int]
) -> list[str]:
    if not indices:
        return []
    if callable(colors):
        answers = _answers(name, colors(name, found, indices))
        if len(answers) != len(indices):
            raise UsageError(f"The colour classifier gave {len(answers)} answers for {len(indices)} of {name}.")
        return answers
    given = _answers(name, colors.get(name))
    if len(given) <= max(indices):
        raise UsageError(f"The colours of {name} must hold one answer for each of its detections.")
    return [given[i] for i in indices]


def _answers(name: str, answers: Any) -> list[str]:
    """The colours of objects as a list; UsageError where they are no colours' names."""
    if answers is None:
        return []
    if not isinstance(answers, (str, bytes)) and isinstance(answers, Iterable):
        listed = list(answers)
        if all(isinstance(answer, str) for answer in listed):
            return listed
    raise UsageError(f"The colours of {name} must be a list of names.")


def _as_boxes(name: str, raw: Any) -> Boxes:
    if raw is None:
        return np.empty((0, 5), np.float32)
    try:
        if len(raw) == 0:
            return np.empty((0, 5), np.float32)
        with np.errstate(over="ignore"):
            boxes = np.asarray(raw, np.float32)
    except (TypeError, ValueError, OverflowError):
        boxes = np.empty(0, np.float32)
    if boxes.ndim != 2 or boxes.shape[1] != 5 or not np.isfinite(boxes).all():
        raise UsageError(f"Each detection of {name} must be five finite numbers: x1, y1, x2, y2, score.")
    return boxes


def _check_types(metadata: Any, detections: Any, colors: Any) -> None:
    for what, value in (("metadata", metadata), ("detections", detections), ("colors", colors)):
        if not isinstance(value, Mapping) and not (what == "colors" and callable(value)):
            raise UsageError(f"The {what} of an image must be a mapping, not {type(value).__name__}.")
    for key in ("tag", "prompt"):
        if key not in metadata:
            raise UsageError(f'The metadata of an image needs the key "{key}".')
        if not isinstance(metadata[key], str):
            raise UsageError(f'The "{key}" in the metadata must be text, not {type(metadata[key]).__name__}.')


def _requirements(metadata: Mapping[str, Any], key: str) -> Sequence[Mapping[str, Any]]:
    requirements = metadata.get(key, [])
    if not isinstance(requirements, (list, tuple)):
        raise UsageError(f'"{key}" in the metadata must be a list of requirements.')
    for requirement in requirements:
        if not isinstance(requirement, Mapping) or not isinstance(requirement.get("class"), str):
            raise UsageError(f'Each requirement of "{key}" must name its "class".')
        count = requirement.get("count")
        check_whole(count, f'the "count" of {requirement["class"]} in "{key}"', 0, _MOST)
        if not isinstance(requirement.get("color", ""), str):
            raise UsageError(f'"color" of {requirement["class"]} must be a colour\'s name.')
    return requirements


def _check_options(
    threshold: float,
    counting_threshold: float,
    max_objects: int,
    max_overlap: float,
    position_threshold: float,
) -> None:
    for name, value, most in (
        ("threshold", threshold, 1.0),
        ("counting_threshold", counting_threshold, 1.0),
        ("max_overlap", max_overlap, _LARGEST),
        ("position_threshold", position_threshold, _LARGEST),
    ):
        if not isinstance(value, Real) or isinstance(value, bool) or not 0 <= value <= most:
            upto = "of 0 or more" if most == _LARGEST else "from 0 to 1"
            raise UsageError(f"{name} must be a number {upto}, got {shown(value)}.")
    if not isinstance(max_objects, Integral) or isinstance(max_objects, bool) or max_objects < 0:
        raise UsageError(f"max_objects must be a whole number of 0 or more, got {shown(max_objects)}.")
