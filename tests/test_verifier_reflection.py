"""Reflection as text: written greedily behind a cache as without one, bounded, and read whatever it says."""

import json

import pytest
import torch

from imagecot.contracts.questions import REFLECTION
from imagecot.contracts.reflection import Reflection
from imagecot.errors import UsageError
from imagecot.reflection.discrepancies import Discrepancy, described, understood
from imagecot.strategies.lines import ReflectionLine
from imagecot.verifiers import load_verifier
from imagecot.verifiers import turns as module
from imagecot.verifiers.chat import ANSWER_TOKENS
from small_models import write_verifier

torch.set_num_threads(1)
IMAGES = torch.rand(3, 3, 28, 28, generator=torch.Generator().manual_seed(2))
PROMPTS = ["a photo of a cat", "a photo of four red apples and a chair", "two dogs"]


@pytest.fixture(scope="module")
def verifier(tmp_path_factory):
    return load_verifier(write_verifier(tmp_path_factory.mktemp("reflecting") / "verifier"))


@torch.no_grad()
def by_hand(verifier, image, prompt: str, most: int) -> tuple[list[int], bool]:
    """The surest token again and again, the whole conversation read anew each time; and whether it ended."""
    text, written = verifier.text(REFLECTION, prompt), []
    while True:
        ids, mask = verifier.layout([text + written])
        state = verifier.state(verifier.embed(image[None], ids), mask)
        token = int(verifier.model.lm_head(state)[0, : len(verifier.tokenizer)].argmax())
        if token in verifier._ends:
            return written, True
        if len(written) == most:
            return written, False
        written.append(token)


def test_batched_and_cached_is_one_at_a_time_by_hand(verifier, monkeypatch):
    monkeypatch.setattr(module, "ANSWER_TOKENS", 10)
    found = verifier.reflect(IMAGES, PROMPTS)
    answers = verifier.ask(IMAGES, PROMPTS, REFLECTION)
    assert len({answer.text for answer in found}) > 1
    for image, prompt, answer, p in zip(IMAGES, PROMPTS, found, answers, strict=True):
        written, ended = by_hand(verifier, image, prompt, 10)
        assert answer.text == verifier.tokenizer.decode(written, skip_special_tokens=True)
        assert answer.complete == ended
        assert answer.p_yes == pytest.approx(float(p), abs=1e-5)


def test_an_answer_that_ends_early_ends_alone(verifier, monkeypatch):
    """The second token of one row is made the chat's mark: that row ends, the others go on."""
    monkeypatch.setattr(module, "ANSWER_TOKENS", 6)
    whole = [by_hand(verifier, image, prompt, 6)[0] for image, prompt in zip(IMAGES, PROMPTS, strict=True)]
    mark = whole[0][1]
    monkeypatch.setattr(verifier, "_ends", [mark])
    before = verifier.usage
    found = verifier.reflect(IMAGES, PROMPTS)
    expected = [row[: row.index(mark)] if mark in row else row for row in whole]
    assert [answer.text for answer in found] == verifier.tokenizer.batch_decode(expected, skip_special_tokens=True)
    assert [answer.complete for answer in found] == [mark in row for row in whole]
    assert found[0].complete
    asked = sum(int(verifier.layout([verifier.text(REFLECTION, p)])[1].sum()) for p in PROMPTS)
    assert (verifier.usage - before).tokens_judged == asked + sum(map(len, expected))


def test_an_endless_answer_is_cut(verifier, monkeypatch):
    monkeypatch.setattr(verifier, "_ends", [])
    (answer,) = verifier.reflect(IMAGES[:1], PROMPTS[:1])
    assert not answer.complete
    assert answer.problem == "endless"
    assert len(by_hand(verifier, IMAGES[0], PROMPTS[0], ANSWER_TOKENS)[0]) == ANSWER_TOKENS


def test_requests_of_the_wrong_shape_are_refused(verifier):
    with pytest.raises(UsageError, match="takes images"):
        verifier.reflect(IMAGES, PROMPTS[:2])


@pytest.mark.parametrize(
    ("text", "p", "complete", "accepted", "reasons", "problem"),
    [
        ("yes", 0.9, True, True, "", None),
        ("no, there is no cup.", 0.1, True, False, "there is no cup.", None),
        ("no", 0.1, True, False, "", "empty"),
        ("", 0.1, True, False, "", "empty"),
        ("", 0.9, True, True, "", None),
        ("yes, but no cup", 0.2, True, False, "", "contradicts itself"),
        ("no, there is no cup", 0.8, True, True, "", "contradicts itself"),
        ("no, no no no no", 0.2, False, False, "no no no no", "endless"),
    ],
)
def test_what_an_answer_means(text, p, complete, accepted, reasons, problem):
    answer = Reflection(text, p, complete)
    assert (answer.accepted, answer.reasons, answer.problem) == (accepted, reasons, problem)
    assert ReflectionLine.model_validate_json(json.dumps(described(answer))).reflection() == answer


def test_reasons_are_understood_where_they_can_be():
    answer = Reflection("no, there is no cup. what a mess. the car is red, not blue.", 0.2)
    assert understood(answer) == [Discrepancy("missing", "cup"), Discrepancy("color", "car", "blue", "red")]
    assert [d["kind"] for d in described(answer)["discrepancies"]] == ["missing", "color"]
