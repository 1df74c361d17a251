"""Harder prompts of the drawn world: what they ask for, that it can be shown, and how their atoms are judged."""

import random
from collections import Counter

import pytest

from imagecot.contracts.detector import Detections
from imagecot.contracts.metadata import Metadata, Need
from imagecot.errors import UsageError
from imagecot.geneval.atoms import atoms_of, share_of_atoms
from imagecot.geneval.prompts import normalise, refuse_overlap
from imagecot.geneval.reading import read_prompt
from imagecot.images import from_picture
from imagecot.worlds import find
from imagecot.worlds.drawn.captions import held_out_texts
from imagecot.worlds.drawn.detector import load_detector
from imagecot.worlds.drawn.harder import ATOMS, PER_SIZE, composed, harder_prompts
from imagecot.worlds.drawn.scenes import compose, draw
from imagecot.worlds.drawn.text import known_words

COLORED = composed([Need("cup", 2, "red"), Need("boat", 1, "blue"), Need("car")], "left of")


def test_a_prompt_says_what_it_asks_for():
    assert COLORED.prompt == "a photo of two red cups left of a blue boat and a car"
    assert COLORED.include == (Need("boat", 1, "blue"), Need("cup", 2, "red", "left of", 0), Need("car"))
    assert COLORED.exclude == (Need("cup", 3),)
    assert COLORED.tag == "7 atoms"
    assert Metadata.of(COLORED.as_json()) == COLORED


def test_its_atoms_are_asked_by_themselves():
    asked = [(atom.tag, atom.include, atom.exclude) for atom in atoms_of(COLORED)]
    assert asked == [
        ("single_object", (Need("boat"),), ()),
        ("colors", (Need("boat", 1, "blue"),), ()),
        ("single_object", (Need("cup"),), ()),
        ("counting", (Need("cup", 2),), (Need("cup", 3),)),
        ("colors", (Need("cup", 2, "red"),), ()),
        ("position", (Need("boat"), Need("cup", 1, "", "left of", 0)), ()),
        ("single_object", (Need("car"),), ()),
    ]


@pytest.mark.parametrize(
    ("boxes", "colors", "right"),
    [
        ({}, {}, 0),
        ({"car": [[0, 0, 9, 9, 0.9]]}, {"car": ["red"]}, 1),
        # One red cup to the left of a green boat: both are there, and where they should be.
        ({"cup": [[0, 0, 9, 9, 0.95]], "boat": [[40, 0, 49, 9, 0.9]]}, {"cup": ["red"], "boat": ["green"]}, 3),
        # Two red cups, the second not sure enough to count, as in GenEval's counting.
        ({"cup": [[0, 0, 9, 9, 0.95], [0, 20, 9, 29, 0.5]]}, {"cup": ["red", "red"]}, 2),
        ({"cup": [[0, 0, 9, 9, 0.95], [0, 20, 9, 29, 0.95]]}, {"cup": ["red", "red"]}, 3),
        ({"cup": [[0, 9 * k, 9, 9 * k + 8, 0.95] for k in range(3)]}, {"cup": ["red"] * 3}, 2),
    ],
)
def test_the_share_of_its_atoms_that_an_image_shows(boxes, colors, right):
    assert share_of_atoms(COLORED, Detections(boxes, colors)) == right / 7


def test_there_are_forty_of_each_number_of_atoms():
    prompts = harder_prompts()
    assert Counter(metadata.tag for metadata in prompts) == {f"{size} atoms": PER_SIZE for size in ATOMS}
    assert all(int(metadata.tag.split()[0]) == len(atoms_of(metadata)) for metadata in prompts)
    assert len({normalise(metadata.prompt) for metadata in prompts}) == 200
    assert {word for metadata in prompts for word in metadata.prompt.split()} <= {*known_words()}
    assert not {metadata.prompt for metadata in prompts} & held_out_texts()
    assert (prompts[0].prompt, prompts[-1].prompt) == (FIRST, LAST)  # the same on every day and machine


FIRST = "a photo of two brown bottles"
LAST = "a photo of a purple car above a red chair and a black bottle"


def test_each_can_be_shown_and_the_judges_see_it():
    prompts = harder_prompts()[::4]
    images = [from_picture(draw(compose(metadata, random.Random(k)))) for k, metadata in enumerate(prompts)]
    for name in ("pictograms", "pictograms-2"):
        detector = load_detector(name)
        verdicts = detector.judge(images, prompts)
        assert sum(verdict.correct for verdict in verdicts) >= 0.97 * len(prompts)
        found = detector.detect(images)
        shares = [share_of_atoms(metadata, one) for metadata, one in zip(prompts, found, strict=True)]
        assert sum(shares) / len(shares) >= 0.99
        assert not any(verdict.correct for verdict in detector.judge(images, [*prompts[1:], prompts[0]]))


def test_they_are_read_as_they_were_meant():
    for metadata in harder_prompts():
        read = read_prompt(metadata.prompt)
        assert read is not None and (read.include, read.exclude) == (metadata.include, ())


def test_no_training_sees_them():
    held_out = find.held_out_of("pictograms")
    assert len(held_out) == 560
    with pytest.raises(UsageError, match="is also a test prompt"):
        refuse_overlap([harder_prompts()[7].prompt.upper()], held_out)
    assert len(find.held_out_of("somebody/detector")) == 553


def test_its_world_is_the_drawn_one_with_other_prompts():
    harder, drawn = find.world("drawn-harder"), find.world("drawn")
    assert find.prompts_of(harder) == list(harder_prompts())
    assert (harder.classes, harder.words, harder.judges) == (drawn.classes, drawn.words, drawn.judges)
    assert find.world_of("pictograms").name == "drawn"
    assert [m.prompt for m in find.training_prompts_of(harder, 2, 5)] == [
        m.prompt for m in find.training_prompts_of(drawn, 2, 5)
    ]
