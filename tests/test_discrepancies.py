"""What is wrong with an image: from the scorer's reasons, into words and back."""

import random

import pytest

from imagecot.contracts.reflection import without_answer
from imagecot.geneval import prompts as wording
from imagecot.geneval.prompts import OBJECT_NAMES
from imagecot.geneval.rules import judge_detections
from imagecot.reflection.discrepancies import Discrepancy, from_reason, parse, to_text
from imagecot.worlds.drawn.scenes import KINDS

LEFT, RIGHT = [4, 20, 24, 40, 0.95], [40, 20, 60, 40, 0.95]


def wrong(metadata, boxes, colors=None):
    verdict = judge_detections(metadata, boxes, colors or {name: ["red"] * len(b) for name, b in boxes.items()})
    return from_reason(metadata, verdict.reason)


def test_findings_by_hand():
    two = wording.two_object_metadata("cup", "apple")
    assert wrong(two, {"cup": [LEFT]}) == [Discrepancy("missing", "apple")]
    assert wrong(two, {"cup": [LEFT], "apple": [RIGHT]}) == []
    assert wrong(two, {}) == [Discrepancy("missing", "cup"), Discrepancy("missing", "apple")]
    three = wording.counting_metadata("bird", 3)
    boxes = [[8.0 * k, 8.0, 8.0 * k + 8, 16.0, 0.95] for k in range(5)]
    assert wrong(three, {"bird": boxes[:2]}) == [Discrepancy("count", "bird", "3", "2")]
    assert wrong(three, {"bird": boxes}) == [Discrepancy("count", "bird", "3", "5")]
    assert wrong(three, {"bird": []}) == [Discrepancy("missing", "bird")]
    tinted = wording.color_attr_metadata("cup", "red", "dining table", "green")
    seen = {"cup": [LEFT], "dining table": [RIGHT]}
    assert wrong(tinted, seen, {"cup": ["green"], "dining table": ["black"]}) == [
        Discrepancy("color", "cup", "red", "green"),
        Discrepancy("color", "dining table", "green", "black"),
    ]
    place = wording.position_metadata("cup", "left of", "apple")
    assert wrong(place, {"cup": [RIGHT], "apple": [LEFT]}) == [
        Discrepancy("position", "cup", "left of", "right of", "apple")
    ]
    assert wrong(place, {"cup": [LEFT], "apple": [LEFT]}) == [Discrepancy("position", "cup", "left of", "", "apple")]
    # The relation to what is not there follows from its absence.
    assert wrong(place, {"cup": [RIGHT]}) == [Discrepancy("missing", "apple")]
    none = {"tag": "two_object", "prompt": "x", "include": [], "exclude": [{"class": "dog", "count": 1}]}
    assert wrong(none, {"dog": [LEFT]}) == [Discrepancy("extra", "dog")]


def every_kind(name: str, other: str) -> list[Discrepancy]:
    return [
        Discrepancy("missing", name),
        Discrepancy("extra", name),
        Discrepancy("count", name, "3", "1"),
        Discrepancy("count", name, "2", "4"),
        Discrepancy("count", name, "2", "16"),
        Discrepancy("color", name, "red", "orange"),
        Discrepancy("color", name, "red", ""),
        Discrepancy("position", name, "left of", "above", other),
        Discrepancy("position", name, "below", "", other),
    ]


@pytest.mark.parametrize("names", [KINDS, OBJECT_NAMES], ids=["tiny", "coco"])
def test_words_say_what_was_found(names):
    rng = random.Random(0)
    for k, name in enumerate(names):
        for discrepancy in every_kind(name, names[k - 1]):
            for _ in range(6):
                assert parse(to_text([discrepancy], rng)) == [discrepancy]
    pair = [Discrepancy("color", "cup", "red", "green"), Discrepancy("missing", "apple")]
    assert parse("No, " + to_text(pair, rng)) == pair
    assert to_text([], rng) == ""


def test_the_words_vary():
    rng = random.Random(0)
    for discrepancy in every_kind("cup", "bird")[:6]:
        assert len({to_text([discrepancy], rng) for _ in range(30)}) > 1


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("", []),
        ("no", []),
        ("yes", []),
        ("No.", []),
        ("no, no apple.", [Discrepancy("missing", "apple")]),
        ("No: The apple is missing; the cup is GREEN, not red", [
            Discrepancy("missing", "apple"), Discrepancy("color", "cup", "red", "green")]),
        ("no, the cup is red, not green. the cup is blue, not green.", [Discrepancy("color", "cup", "green", "red")]),
        ("no, there are two cups, not two.", []),
        ("no, the the the " * 400, []),
        ("<|im_end|>\x00 \ud7ff (((", []),
        ("the image is blurry and looks odd", []),
    ],
)  # fmt: skip
def test_any_text_can_be_read(text, meant):
    assert parse(text) == meant


def test_the_answer_before_the_reasons():
    assert without_answer("no, there is no cup.") == "there is no cup."
    assert without_answer("Yes") == ""
    assert without_answer("no apple is there") == "no apple is there"
    assert without_answer(" No: bad") == "bad"


def test_plurals_are_undone():
    rng = random.Random(1)
    for name in OBJECT_NAMES:
        assert parse(to_text([Discrepancy("count", name, "1", "2")], rng))[0].object == name
