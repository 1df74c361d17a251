"""What verifiers see and what is recorded of them: pictures in 8 bits, and P(yes) in digits that all ways share."""

import pytest
import torch

from imagecot import guard
from imagecot.contracts.questions import ORM
from imagecot.contracts.reflection import Reflection
from imagecot.contracts.verifier import Conversation, Usage, recorded
from imagecot.images import as_saved, from_png, png
from imagecot.verifiers.answers import p_yes


class Notes:
    """A verifier that keeps what it was shown."""

    settings, usage = {}, Usage()

    def ask(self, images, prompts, question, after=None):
        self.seen = images
        return torch.full((len(images),), 0.5)

    def begin(self, images, prompts, question):
        return self.ask(images, prompts, question), Conversation(question)

    def reflect(self, images, prompts):
        self.seen = images
        return [Reflection("yes", 0.9)]

    def answer_probability(self, images, questions, answers):
        self.seen = images
        return torch.full((len(questions),), 0.5)


ASKS = {
    "ask": lambda judge, images: guard.ask(judge, images, ["a cup"], ORM),
    "begin": lambda judge, images: guard.begin(judge, images, ["a cup"], ORM),
    "reflect": lambda judge, images: guard.reflect(judge, images, "a cup"),
    "answer": lambda judge, images: guard.answer_probability(judge, images, ["Is it red?"], [["yes"]]),
}


@pytest.mark.parametrize("how", ASKS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_verifier_sees_the_picture_that_is_saved(how, dtype):
    images, judge = torch.rand(1, 3, 16, 16).to(dtype), Notes()
    ASKS[how](judge, images)
    assert judge.seen.dtype == torch.float32
    assert torch.equal(judge.seen[0], from_png(png(images[0])))
    ASKS[how](judge, judge.seen)
    assert torch.equal(judge.seen[0], from_png(png(images[0])))


def test_an_image_that_was_expanded_is_rounded_once():
    found = as_saved(torch.rand(1, 3, 8, 8).expand(5, -1, -1, -1))
    assert found.shape == (5, 3, 8, 8) and found.stride(0) == 0


def test_a_follow_up_is_given_the_picture_that_is_saved():
    judge = Notes()
    guard.ask(judge, torch.full((1, 3, 4, 4), 0.123), ["a cup"], ORM, Conversation(ORM))
    assert float(judge.seen.max()) == pytest.approx(round(0.123 * 255) / 255)


@pytest.mark.parametrize(
    ("p", "found"),
    [
        (0.0, 0.0),
        (1.0, 1.0),
        (0.5, 0.5),
        (0.93421789, 0.9342),
        (0.01234567, 0.0123),
        (0.00123456, 0.00123),
        (0.99957123, 0.999571),
        (1.23456e-9, 1.23e-9),
        (1 - 1.23456e-9, 1 - 1.23e-9),
        (5e-324, 5e-324),
    ],
)
def test_digits_that_are_recorded(p, found):
    assert recorded(p) == pytest.approx(found, rel=1e-12, abs=0)
    assert recorded(recorded(p)) == recorded(p)


def test_order_is_kept_but_for_what_float32_cannot_tell():
    ps = torch.linspace(-20, 20, 2001, dtype=torch.float64).sigmoid().tolist()
    kept = [recorded(p) for p in ps]
    assert kept == sorted(kept) and len(set(kept)) == len(kept)


def test_p_yes_near_one_is_told_apart():
    yes, no = torch.tensor([[20.0], [21.0], [22.0]]), torch.zeros(3, 1)
    answers = p_yes(yes, no)
    assert answers.dtype == torch.float64 and len(set(answers.tolist())) == 3
    assert answers.tolist() == pytest.approx([1 - 2.06e-9, 1 - 7.58e-10, 1 - 2.79e-10], abs=1e-11)
