"""GenEval's verdict on one image from its detections: what is kept, what is required, and why it fails.

The comparisons run in float32 on purpose: a score of 0.30000001 is above 0.3 in float64 only, and the
reference's detector gives float32.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from imagecot.bounds import check_whole, shown
from imagecot.contracts.metadata import Metadata, Need
from imagecot.errors import UsageError
from imagecot.geneval.prompts import COLORS

if TYPE_CHECKING:
    from imagecot.contracts.detector import ColorClassifier

Boxes = NDArray[np.float32]
_MOST = 1_000_000  # objects that a requirement may speak of
_LARGEST = 1e9  # of the options that have no other end
THRESHOLD, COUNTING_THRESHOLD = 0.3, 0.9  # of scores, which only what is above counts


@dataclass(frozen=True)
class Judgment:
    """Whether an image shows what its prompt asks for; `reason` holds a line for each thing that is wrong."""

    correct: bool
    reason: str


def judge_detections(
    metadata: Metadata | Mapping[str, object],
    detections: Mapping[str, object],
    colors: "Mapping[str, Sequence[str]] | ColorClassifier",
    *,
    threshold: float = THRESHOLD,
    counting_threshold: float = COUNTING_THRESHOLD,
    max_objects: int = 16,
    max_overlap: float = 1.0,
    position_threshold: float = 0.1,
) -> Judgment:
    """Judge the detections of one image by the rules of GenEval's `evaluate_images.py`.

    `metadata` is a prompt's record as GenEval writes it (`tag`, `prompt`, `include`, `exclude`), or a `Metadata`.
    `detections` maps a class to its
    raw detections (k, 5): x1, y1, x2, y2 in pixels (x2, y2 exclusive) and score. `colors` answers for the
    colour of an object: either one answer for each raw detection of a class, or a function that is called
    with (class, kept boxes (k, 5), their indices among the raw ones) only when a colour is required.
    `threshold` (all tags but counting), `counting_threshold`, `max_objects` (a class), `max_overlap` (IoU of
    the suppression, 1 = off) and `position_threshold` (share of the sizes taken off an offset) are the
    reference's options. Raises UsageError for malformed metadata, detections, colours or options.
    """
    _check_options(threshold, counting_threshold, max_objects, max_overlap, position_threshold)
    _check_types(metadata, detections, colors)
    asked = metadata if isinstance(metadata, Metadata) else _asked(metadata)
    least = counting_threshold if asked.tag == "counting" else threshold

    boxes: dict[str, Boxes] = {}
    kept: dict[str, list[int]] = {}
    for name in {need.name for need in (*asked.include, *asked.exclude)}:
        boxes[name] = _as_boxes(name, detections.get(name))
        kept[name] = kept_indices(boxes[name], threshold=least, max_objects=max_objects, max_overlap=max_overlap)

    reasons: list[str] = []
    groups: list[Boxes | None] = []  # objects of each requirement so far, None if it failed
    for need in asked.include:
        indices = kept[need.name][: need.count]
        found = boxes[need.name][indices]
        if len(found) < need.count:
            reason = f"expected {need.name}>={need.count}, found {len(found)}"
        else:
            reason = ""
            if need.color:
                reason = _color_reason(need, _ask_colors(colors, need.name, found, indices))
            if need.relation and not reason:
                reason = _position_reason(need, found, groups, position_threshold)
        if reason:
            reasons.append(reason)
        groups.append(None if reason else found)
    for limit in asked.exclude:
        number = len(kept[limit.name])
        if number >= limit.count:
            if number == 0:
                raise UsageError(f'"exclude" of {limit.name} needs a count of at least 1.')
            reasons.append(f"expected {limit.name}<{limit.count}, found {number}")
    return Judgment(correct=not reasons, reason="\n".join(reasons))


def kept_indices(
    boxes: Boxes, *, threshold: float = THRESHOLD, max_objects: int = 16, max_overlap: float = 1.0
) -> list[int]:
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


def _color_reason(need: Need, answers: Sequence[str]) -> str:
    color, right = need.color, answers.count(need.color)
    if right >= need.count:
        return ""
    listed = ", ".join(f"{answers.count(c)} {c}" for c in COLORS if c in answers)
    return f"expected {color} {need.name}>={need.count}, found {right} {color}; and {listed}"


def _position_reason(need: Need, found: Boxes, groups: Sequence[Boxes | None], position_threshold: float) -> str:
    try:
        group = groups[need.target]
    except IndexError:
        raise UsageError(
            f'"position" of {need.name} refers to requirement {shown(need.target)}, but only {len(groups)} come '
            "before it."
        ) from None
    if group is None:
        return f"no target for {need.name} to be {need.relation}"
    for box in found:
        for other in group:
            seen = relations(box, other, position_threshold)
            if need.relation not in seen:
                return f"expected {need.name} {need.relation} target, found {' and '.join(seen)} target"
    return ""


def _ask_colors(
    colors: "Mapping[str, Sequence[str]] | ColorClassifier", name: str, found: Boxes, indices: list[int]
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


def _answers(name: str, answers: object) -> list[str]:
    """The colours of objects as a list; UsageError where they are no colours' names."""
    if answers is None:
        return []
    if not isinstance(answers, (str, bytes)) and isinstance(answers, Iterable):
        listed = list(answers)
        if all(isinstance(answer, str) for answer in listed):
            return listed
    raise UsageError(f"The colours of {name} must be a list of names.")


def _as_boxes(name: str, raw: object) -> Boxes:
    if raw is None:
        return np.empty((0, 5), np.float32)
    try:
        if not isinstance(raw, Sized):
            raise TypeError
        if len(raw) == 0:
            return np.empty((0, 5), np.float32)
        with np.errstate(over="ignore"):
            boxes = np.asarray(raw, np.float32)
    except (TypeError, ValueError, OverflowError):
        boxes = np.empty(0, np.float32)
    if boxes.ndim != 2 or boxes.shape[1] != 5 or not np.isfinite(boxes).all():
        raise UsageError(f"Each detection of {name} must be five finite numbers: x1, y1, x2, y2, score.")
    return boxes


def _check_types(metadata: object, detections: object, colors: object) -> None:
    for what, value in (("metadata", metadata), ("detections", detections), ("colors", colors)):
        other = Metadata if what == "metadata" else Callable if what == "colors" else Mapping
        if not isinstance(value, Mapping | other):
            raise UsageError(f"The {what} of an image must be a mapping, not {type(value).__name__}.")


def _asked(metadata: Mapping[str, object]) -> Metadata:
    """Metadata as GenEval writes them; UsageError for what no image can be judged by."""
    told: list[str] = []
    for key in ("tag", "prompt"):
        if key not in metadata:
            raise UsageError(f'The metadata of an image needs the key "{key}".')
        text = metadata[key]
        if not isinstance(text, str):
            raise UsageError(f'The "{key}" in the metadata must be text, not {type(text).__name__}.')
        told.append(text)
    needs: list[tuple[Need, ...]] = []
    for key in ("include", "exclude"):
        listed = metadata.get(key, [])
        if not isinstance(listed, (list, tuple)):
            raise UsageError(f'"{key}" in the metadata must be a list of requirements.')
        needs.append(tuple(_need(values, key) for values in listed))
    return Metadata(told[0], told[1], needs[0], needs[1])


def _need(values: object, key: str) -> Need:
    """One requirement of `include` or `exclude`."""
    name = values.get("class") if isinstance(values, Mapping) else None
    if not isinstance(values, Mapping) or not isinstance(name, str):
        raise UsageError(f'Each requirement of "{key}" must name its "class".')
    count = check_whole(values.get("count"), f'the "count" of {name} in "{key}"', 0, _MOST)
    color = values.get("color", "")
    if not isinstance(color, str) or ("color" in values and not color):
        raise UsageError(f'"color" of {name} must be a colour\'s name.')
    if "position" not in values:
        return Need(name, count, color)
    match values["position"]:
        case [str(), bool()]:
            pass
        case [str(relation), Integral() as target] if relation and abs(int(target)) <= _MOST:
            return Need(name, count, color, relation, int(target))
    raise UsageError(f'"position" of {name} must be [relation, index of an earlier requirement].')


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
