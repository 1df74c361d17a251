"""Reasons by asking about the parts of a prompt: what is read from prompts, and what is found wrong, by hand."""

import random
from typing import ClassVar

import pytest
import torch

from imagecot.contracts.metadata import Need
from imagecot.contracts.questions import ORM, REFLECTION
from imagecot.contracts.verifier import Conversation, Usage
from imagecot.geneval.prompts import load_benchmark_prompts
from imagecot.geneval.reading import read_prompt
from imagecot.reflection.by_asking import examine, examined
from imagecot.reflection.discrepancies import Discrepancy, understood
from imagecot.strategies.search import search
from imagecot.worlds.drawn.captions import caption, held_out_texts, random_requirement
from plain_decoder import tiny_generator

torch.set_num_threads(1)


def include(prompt: str) -> list[Need]:
    requirement = read_prompt(prompt)
    assert requirement is not None, prompt
    assert requirement.prompt == prompt
    return list(requirement.include)


def test_every_benchmark_prompt_is_read_as_its_own_requirement():
    for metadata in load_benchmark_prompts():
        assert include(metadata.prompt) == list(metadata.include), metadata.prompt


def test_the_drawn_world_is_read_in_its_freer_wordings():
    rng = random.Random(0)
    for _ in range(400):
        metadata = random_requirement(rng)
        assert include(caption(metadata, rng, plain=0.2)) == list(metadata.include)
    assert all(read_prompt(text) for text in held_out_texts())


@pytest.mark.parametrize(
    "prompt",
    ["a happy dog", "a cat sitting on a red chair", "a photo of a dragon", "two cats and a dragon", "", "a photo of"],
)
def test_what_is_not_of_the_templates_is_not_read(prompt):
    assert read_prompt(prompt) is None


def test_case_and_a_full_stop_play_no_part():
    assert include("A Photo of a RED apple.") == [Need("apple", color="red")]
    assert include("there are 3 white sheeps") == [Need("sheep", 3, "white")]
    assert include("a cup to the left of a red car") == [
        Need("car", color="red"),
        Need("cup", relation="left of", target=0),
    ]


def answers(**yes: float):
    """Answers no, but what is given: the words behind "a photo of", blanks as underscores."""
    asked: list[str] = []

    def ask(texts: list[str]) -> list[float]:
        asked.extend(texts)
        return [yes.get(text.removeprefix("a photo of ").replace(" ", "_"), 0.1) for text in texts]

    return ask, asked


@pytest.mark.parametrize(
    ("prompt", "yes", "wrong"),
    [
        ("a red apple", {}, [Discrepancy("missing", "apple")]),
        ("a red apple", {"an_apple": 0.9, "a_red_apple": 0.3, "a_blue_apple": 0.4},
         [Discrepancy("color", "apple", "red", "blue")]),
        # Nothing is below the mark: the weakest point, of which nothing else is seen.
        ("a red apple", {"an_apple": 0.9, "a_red_apple": 0.8}, [Discrepancy("color", "apple", "red")]),
        ("an apple and a cup", {"a_cup": 0.6}, [Discrepancy("missing", "apple")]),
        ("an apple and a cup", {"a_cup": 0.6, "an_apple": 0.7}, [Discrepancy("missing", "cup")]),
        ("a red apple and a blue cup", {"a_cup": 0.7, "an_apple": 0.9, "a_blue_apple": 0.8, "a_red_cup": 0.9},
         [Discrepancy("color", "apple", "red", "blue"), Discrepancy("color", "cup", "blue", "red")]),
        ("three cups", {"a_cup": 0.9, "two_cups": 0.5, "three_cups": 0.4}, [Discrepancy("count", "cup", "3", "2")]),
        ("three cups", {"a_cup": 0.9}, [Discrepancy("count", "cup", "3", "1")]),  # no number is likely: there is one
        ("six cups", {"a_cup": 0.9, "seven_cups": 0.6}, [Discrepancy("count", "cup", "6", "7")]),
        ("a cup above a car", {"a_cup": 0.9, "a_car": 0.9, "a_cup_below_a_car": 0.6},
         [Discrepancy("position", "cup", "above", "below", "car")]),
        # Where an object is not there, its place is not what is wrong.
        ("a cup above a car", {"a_cup": 0.9, "a_cup_below_a_car": 0.6}, [Discrepancy("missing", "car")]),
    ],
)  # fmt: skip
def test_what_is_wrong_by_hand(prompt, yes, wrong):
    ask, asked = answers(**yes)
    assert examine(ask, read_prompt(prompt)) == wrong
    assert len(asked) == len(set(asked))  # nothing is asked twice


class Seeing:
    """Sees nothing but cups, and notes what it is asked."""

    settings: ClassVar[dict[str, object]] = {}

    def __init__(self, p_yes: float) -> None:
        self.p_yes, self.usage = p_yes, Usage()
        self.asked: list[tuple[str, int]] = []

    def check_prompt(self, prompt: str) -> None:
        """Reads all of them."""

    def ask(self, images, prompts, question, after=None):
        prompts = prompts * len(images) if len(prompts) == 1 else prompts
        assert len(prompts) == len(images)
        self.usage += Usage(judge_calls=len(images))
        self.asked.append((question.name, len(images)))
        if question is REFLECTION:
            return torch.full((len(images),), self.p_yes)
        return torch.tensor([0.9 if "cup" in prompt and "apple" not in prompt else 0.1 for prompt in prompts])

    def begin(self, images, prompts, question):
        raise AssertionError("not asked in this test")

    def reflect(self, images, prompts):
        raise AssertionError("written, although the prompt can be read")


def test_a_reflection_that_was_examined_reads_like_one_that_was_written():
    prompt, image = "a photo of a cup and an apple", torch.zeros(1, 3, 16, 16)
    seeing = Seeing(0.2)
    reflection = examined(seeing, image, prompt, read_prompt(prompt), 5)
    assert not reflection.accepted
    assert understood(reflection) == [Discrepancy("missing", "apple")]
    assert reflection.problem is None
    assert seeing.asked == [("reflection", 1), ("orm", 2)]
    content = Seeing(0.7)
    assert examined(content, image, prompt, read_prompt(prompt), 5).accepted
    assert content.asked == [("reflection", 1)]


def test_a_search_counts_what_an_examination_asks():
    seeing = Seeing(0.2)
    seeing.begin = lambda images, prompts, question: (  # nothing is clear
        torch.full((len(images),), 0.1),
        Conversation(question),
    )
    trace = search(
        "a photo of a cup and an apple", generator=tiny_generator(steps=3), verifier=seeing, strategy="parm++", n=4
    )
    said = [candidate.reflection for candidate in trace.candidates if candidate.reflection]
    assert [understood(reflection) for reflection in said] == [[Discrepancy("missing", "apple")]] * 3
    # Four final images; in each of three rounds one reflection, two parts, and the one image that is drawn again.
    assert trace.cost.judge_calls == 4 + 3 * (1 + 2 + 1)
    assert ORM.name in {name for name, _ in seeing.asked}
