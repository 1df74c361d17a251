"""Questions about scenes of the drawn world: their truth, by hand and by GenEval's own rules."""

import random
from collections import Counter

import pytest

from imagecot.geneval import prompts as wording
from imagecot.geneval.rules import judge_detections
from imagecot.worlds.drawn.dataset import example
from imagecot.worlds.drawn.questions import describe, draw_question, draw_questions, holds
from imagecot.worlds.drawn.scenes import Item, Scene


def item(kind: str, color: str, x: float, y: float, side: float = 16) -> Item:
    return Item(kind, color, x, y, side, 1)


PAIR = Scene((item("apple", "red", 12, 32), item("cup", "green", 50, 34)), "sky")
CUPS = Scene((item("cup", "blue", 12, 12), item("cup", "blue", 50, 12), item("cup", "blue", 30, 50)), "sand")


@pytest.mark.parametrize(
    ("metadata", "truth"),
    [
        (wording.single_object_metadata("cup"), True),
        (wording.single_object_metadata("car"), False),
        (wording.two_object_metadata("cup", "apple"), True),
        (wording.two_object_metadata("cup", "car"), False),
        (wording.colors_metadata("apple", "red"), True),
        (wording.colors_metadata("apple", "green"), False),
        (wording.color_attr_metadata("apple", "red", "cup", "green"), True),
        (wording.color_attr_metadata("apple", "green", "cup", "red"), False),
        (wording.position_metadata("apple", "left of", "cup"), True),
        (wording.position_metadata("cup", "right of", "apple"), True),
        (wording.position_metadata("apple", "right of", "cup"), False),
        (wording.position_metadata("cup", "left of", "apple"), False),
        (wording.position_metadata("apple", "above", "cup"), False),
        (wording.position_metadata("apple", "left of", "car"), False),
        (wording.counting_metadata("apple", 2), False),
    ],
)
def test_truth_of_two_objects_side_by_side(metadata: dict, truth: bool) -> None:
    assert holds(metadata, PAIR) is truth


@pytest.mark.parametrize(("count", "truth"), [(2, False), (3, True), (4, False)])
def test_a_count_is_exact(count: int, truth: bool) -> None:
    assert holds(wording.counting_metadata("cup", count), CUPS) is truth


def test_more_than_asked_does_no_harm_but_in_counting() -> None:
    assert holds(wording.single_object_metadata("cup"), CUPS)
    assert holds(wording.colors_metadata("cup", "blue"), CUPS)


def test_truth_equals_genevals_rules_on_perfect_detections() -> None:
    for index in range(150):
        scene = example(7, index).scene
        detections: dict[str, list] = {}
        colors: dict[str, list[str]] = {}
        for thing, box in zip(scene.items, scene.boxes, strict=True):
            detections.setdefault(thing.kind, []).append([*box, 0.99])
            colors.setdefault(thing.kind, []).append(thing.color)
        for metadata, answer in draw_questions(scene, 8, random.Random(index)):
            assert judge_detections(metadata, detections, colors).correct is answer
            assert holds(metadata, scene) is answer


def test_each_task_is_asked_both_ways_about_half_the_time() -> None:
    rng = random.Random(0)
    asked: Counter = Counter()
    for index in range(300):
        scene = example(3, index).scene
        asked.update((m.tag, answer) for m, answer in draw_questions(scene, 8, rng))
    for task in wording.TASKS:
        yes, no = asked[task, True], asked[task, False]
        assert yes > 50
        assert no > 50
    total = sum(asked.values())
    assert 0.35 < sum(n for (_, answer), n in asked.items() if answer) / total < 0.5
    assert sum(asked["position", a] for a in (True, False)) / total > 0.25


def test_what_a_scene_cannot_answer_is_not_asked() -> None:
    rng = random.Random(0)
    assert draw_question(CUPS, "position", True, rng) is None
    assert draw_question(PAIR, "counting", True, rng) is None
    mixed = Scene((item("cup", "blue", 12, 12), item("cup", "red", 50, 12)), "sand")
    # GenEval would look at one of the two cups: whether a red cup is there depends on which.
    assert draw_question(mixed, "colors", True, rng) is None


def test_descriptions_say_count_relation_colour_and_place() -> None:
    texts = {describe(PAIR, random.Random(seed)) for seed in range(8)}
    places = "red apple one four, green cup six four"
    assert texts == {
        f"one apple and one cup, apple left of cup: {places}",
        f"one apple and one cup, cup right of apple: {places}",
    }
    assert describe(CUPS, random.Random(0)) == "three cups: blue cup one one, blue cup three six, blue cup six one"
