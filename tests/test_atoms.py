"""Judging by atoms: what is asked of whom, and what becomes of the answers, by hand."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from imagecot import registry
from imagecot.checks import check_verifier
from imagecot.checks.toys import ToyVerifier
from imagecot.contracts.questions import CLARITY, ORM, POTENTIAL, PRM, REFLECTION, Question
from imagecot.contracts.reflection import Reflector
from imagecot.contracts.verifier import Advised, Conversation, Usage, Verifier
from imagecot.errors import ImagecotError, UsageError
from imagecot.reflection.discrepancies import Discrepancy, parse
from imagecot.strategies.search import search
from imagecot.verifiers.atoms import Atoms, Mean, mean_of
from imagecot.verifiers.splitting import Splitter
from plain_decoder import tiny_generator

torch.set_num_threads(1)

FOX = "a fox that sleeps in the snow"
SPLITTER = Splitter({FOX: ["a fox", "a fox that sleeps", "snow"]})
CUP_AND_DOG = {
    "a photo of a cup": 0.9,
    "a photo of a red cup": 0.4,
    "a photo of a dog": 0.8,
    "a photo of a blue dog": 0.5,
}


@dataclass
class Scripted:
    """Answers as `says` has it, times the brightness of the image; what was asked is kept, call by call.

    cost  tokens of an answer
    """

    says: Mapping[str, float] = field(default_factory=dict)
    cost: int = 5
    usage: Usage = field(default_factory=Usage)
    calls: list[tuple[str, list[str], list[float]]] = field(default_factory=list)
    settings = {"scripted": True}  # noqa: RUF012

    def ask(self, images: Tensor, prompts: list[str], question: Question, after: Conversation | None = None) -> Tensor:
        assert after is None
        bright = images.double().mean((1, 2, 3))
        texts = prompts * (len(images) // len(prompts))
        self.calls.append((question.name, texts, [round(b, 6) for b in bright.tolist()]))
        self.usage += Usage(judge_calls=len(images), tokens_judged=self.cost * len(images))
        return torch.tensor([self.says.get(text, 0.25) for text in texts]).double() * bright

    def begin(self, images: Tensor, prompts: list[str], question: Question) -> tuple[Tensor, Conversation]:
        raise AssertionError("nothing of the inner verifier's conversations is kept")


class Advising(Scripted):
    advice = {"parm": {"keep": 0.4}}  # noqa: RUF012


class Choosy(Scripted):
    """Answers the ORM question alone."""

    def check_question(self, question: Question) -> None:
        if question != ORM:
            raise UsageError(f"it does not answer {question.name}; ask orm.")


def pictures(*levels: float) -> Tensor:
    return torch.tensor(levels)[:, None, None, None].expand(-1, 3, 4, 4).contiguous()


def atoms(says: Mapping[str, float] = CUP_AND_DOG, mean: Mean = Mean.geometric) -> tuple[Atoms, Scripted]:
    inner = Scripted(says)
    return Atoms(inner, SPLITTER, mean), inner


def test_means_by_hand():
    prompt = "a photo of a red cup and a blue dog"
    for mean, expected in ((Mean.arithmetic, (0.9 + 0.4 + 0.8 + 0.5) / 4), (Mean.geometric, 0.144**0.25)):
        judge, inner = atoms(mean=mean)
        (found,) = judge.ask(pictures(1.0), [prompt], ORM).tolist()
        assert found == pytest.approx(expected, abs=1e-6)
        assert inner.calls == [("orm", [*CUP_AND_DOG], [1.0] * 4)]
        assert judge.usage == Usage(judge_calls=4, tokens_judged=20)
    (dim,) = atoms(mean=Mean.geometric)[0].ask(pictures(0.4), [prompt], ORM).tolist()
    assert dim == pytest.approx(0.144**0.25 * 0.4, abs=1e-6)


@pytest.mark.parametrize(
    ("prompt", "texts"),
    [
        ("a photo of a cup", ["a photo of a cup"]),
        ("there is an orange", ["a photo of an orange"]),
        ("a photo of three cups", ["a photo of a cup", "a photo of three cups"]),
        ("12 red cups", ["a photo of a cup", "a photo of 12 cups", "a photo of a red cup"]),
        ("a photo of an orange car", ["a photo of a car", "a photo of an orange car"]),
        ("a picture of a cup and a dog", ["a photo of a cup", "a photo of a dog"]),
        (
            "a cup to the left of a dog",
            ["a photo of a dog", "a photo of a cup", "a photo of a cup left of a dog"],
        ),
        ("a photo of a red cup and a blue dog", [*CUP_AND_DOG]),
        (FOX, ["a fox", "a fox that sleeps", "snow"]),
        (f"  {FOX.upper()} ", ["a fox", "a fox that sleeps", "snow"]),
    ],
)
def test_the_parts_of_a_prompt(prompt: str, texts: list[str]):
    judge, inner = atoms()
    judge.check_prompt(prompt)
    judge.ask(pictures(1.0), [prompt], PRM)
    assert inner.calls == [("prm", texts, [1.0] * len(texts))]


def test_all_images_are_asked_about_at_once_and_each_text_once():
    judge, inner = atoms({"a photo of a cup": 0.9, "a photo of a dog": 0.4, "a photo of a red cup": 0.1})
    prompts = ["a cup and a dog", "a red cup", "a cup and a dog"]
    found = judge.ask(pictures(1.0, 0.8, 0.4), prompts, ORM)
    assert inner.calls == [
        (
            "orm",
            [f"a photo of {words}" for words in ("a cup", "a dog", "a cup", "a red cup", "a cup", "a dog")],
            [1.0, 1.0, 0.8, 0.8, 0.4, 0.4],
        )
    ]
    assert found.tolist() == pytest.approx([0.6, math.sqrt(0.09) * 0.8, 0.24], abs=1e-6)
    one = pictures(1.0).expand(3, -1, -1, -1)  # one image, so what two prompts share is asked once
    assert judge.ask(one, prompts, ORM).tolist() == pytest.approx([0.6, 0.3, 0.6], abs=1e-6)
    assert inner.calls[1][1] == ["a photo of a cup", "a photo of a dog", "a photo of a red cup"]


def test_a_large_batch_is_asked_in_parts(monkeypatch):
    monkeypatch.setattr("imagecot.verifiers.atoms._BYTES", 3 * 4 * 4 * 4 * 5)  # five pictures of float32
    judge, inner = atoms()
    levels = [k / 15 for k in range(1, 8)]  # levels that 8 bits hold
    found = judge.ask(pictures(*levels), ["a cup and a dog"], ORM)
    assert [len(texts) for _, texts, _ in inner.calls] == [5, 5, 4]
    assert found.tolist() == pytest.approx([math.sqrt(0.72) * level for level in levels], abs=1e-6)


def test_clarity_is_asked_about_the_whole_and_potential_about_the_parts():
    judge, inner = atoms(
        {"a cup and a dog": 0.7, "a photo of a cup": 0.9, "a photo of a dog": 0.4, "a photo of a bus": 0.5}
    )
    prompts = ["a cup and a dog", "a bus", "a cup and a dog"]
    clear, turn = judge.begin(pictures(1.0, 0.8, 0.6), prompts, CLARITY)
    assert inner.calls == [("clarity", prompts, [1.0, 0.8, 0.6])]
    assert clear.tolist() == pytest.approx([0.7, 0.2, 0.42], abs=1e-6)
    nothing = torch.zeros(2, 3, 1, 1)  # not looked at
    potential = judge.ask(nothing, prompts[1:], POTENTIAL, turn.select(torch.tensor([2, 1])))
    assert potential.tolist() == pytest.approx([0.36, 0.4], abs=1e-6)
    assert inner.calls[1] == (
        "orm",
        ["a photo of a cup", "a photo of a dog", "a photo of a bus"],
        [0.6, 0.6, 0.8],
    )
    scratch = judge.ask(pictures(0.6, 0.8), ["a cup and a dog", "a bus"], POTENTIAL)
    assert scratch.tolist() == potential.tolist()


def test_a_follow_up_of_anything_else_is_refused():
    judge, _ = atoms()
    with pytest.raises(UsageError, match="potential is no follow-up of orm"):
        judge.ask(pictures(1.0), ["a cup"], POTENTIAL, judge.begin(pictures(1.0), ["a cup"], ORM)[1])
    with pytest.raises(UsageError, match="another verifier's"):
        judge.ask(pictures(1.0), ["a cup"], POTENTIAL, ToyVerifier().begin(pictures(1.0), ["a cup"], CLARITY)[1])
    with pytest.raises(UsageError, match="3 prompts"):
        judge.ask(pictures(1.0, 1.0), ["a cup"] * 3, ORM)


def test_no_image_gets_no_answer():
    judge, inner = atoms()
    assert judge.ask(torch.zeros(0, 3, 4, 4), ["a cup and a dog"], ORM).shape == (0,)
    assert inner.calls == []


def test_what_it_says_of_itself():
    judge, _ = atoms(mean=Mean.arithmetic)
    assert judge.settings == {"mean": "arithmetic", "parts": SPLITTER.settings, "of": {"scripted": True}}
    assert isinstance(judge, Verifier) and isinstance(judge, Reflector) and isinstance(judge, Advised)
    assert judge.advice == {}
    assert Atoms(Advising(), Splitter()).advice == {"parm": {"keep": 0.4}}
    assert Splitter().settings == {}
    assert Splitter({FOX: ["a fox"]}).settings != SPLITTER.settings


def test_answers_that_are_none_name_the_inner_verifier():
    with pytest.raises(ImagecotError, match=r"Scripted\.ask is not a probability"):
        atoms({"a photo of a cup": 1.5})[0].ask(pictures(1.0), ["a cup"], ORM)


def test_questions_that_the_inner_verifier_cannot_answer_are_refused():
    inner = Choosy()
    judge = Atoms(inner, SPLITTER)
    judge.check_question(ORM)
    assert judge.ask(pictures(1.0), ["a cup"], ORM).tolist() == [0.25]
    for question in (PRM, CLARITY, POTENTIAL, REFLECTION):
        with pytest.raises(UsageError, match="does not answer"):
            judge.check_question(question)
        with pytest.raises(UsageError, match="does not answer"):
            judge.ask(pictures(1.0), ["a cup"], question)
    assert len(inner.calls) == 1


def test_a_prompt_that_cannot_be_split_says_what_to_do():
    judge, inner = atoms()
    for call in (lambda: judge.check_prompt("a happy dog"), lambda: judge.ask(pictures(1.0), ["a happy dog"], ORM)):
        with pytest.raises(UsageError, match=r"'a happy dog' cannot be read into parts.*atoms\[chat=.*atoms\[parts="):
            call()
    assert inner.calls == []


def test_reasons_of_a_prompt_that_is_read_are_found_by_asking():
    says = {"a photo of a dog": 0.9, "a photo of a red dog": 0.1, "a photo of a blue dog": 0.8}
    judge, _ = atoms(says)
    yes, no = judge.reflect(pictures(1.0, 0.8), ["a blue dog", "a red dog"])
    assert yes.accepted and yes.text == "yes"
    assert no.p_yes == pytest.approx(0.08, abs=1e-6)
    assert parse(no.reasons) == [Discrepancy("color", "dog", "red", "blue")]


def test_reasons_of_another_prompt_are_the_parts_that_are_not_there():
    judge, inner = atoms({"a fox": 0.9, "a fox that sleeps": 0.2, "snow": 0.3})
    (found,) = judge.reflect(pictures(1.0), [FOX])
    assert found.text == "no, the image does not show a fox that sleeps. the image does not show snow."
    assert found.p_yes == pytest.approx(0.2, abs=1e-6)
    assert [name for name, *_ in inner.calls] == [REFLECTION.name]
    (fine,) = atoms({"a fox": 0.9, "a fox that sleeps": 0.5, "snow": 0.6})[0].reflect(pictures(1.0), [FOX])
    assert fine.text == "yes" and fine.p_yes == 0.5
    least = atoms({"a fox": 0.9, "a fox that sleeps": 0.2, "snow": 0.3}, Mean.arithmetic)[0]
    assert least.ask(pictures(1.0), [FOX], REFLECTION).tolist() == pytest.approx([0.2], abs=1e-6)


probabilities = st.lists(st.floats(0, 1), min_size=1, max_size=8)


@given(probabilities, st.sampled_from(Mean), st.randoms())
def test_a_mean_lies_between_its_answers_and_heeds_no_order(answers, mean, rng):
    found = mean_of(answers, mean)
    assert min(answers) <= found <= max(answers)
    mixed = rng.sample(answers, len(answers))
    assert mean_of(mixed, mean) == pytest.approx(found, rel=1e-12, abs=1e-300)


@given(probabilities, st.integers(0, 7), st.floats(0, 1))
def test_a_surer_answer_never_lowers_a_mean(answers, place, other):
    raised = list(answers)
    place %= len(answers)
    raised[place] = max(other, answers[place])
    for mean in Mean:
        assert mean_of(raised, mean) >= mean_of(answers, mean) * (1 - 1e-12)


@given(probabilities)
def test_the_geometric_mean_is_the_stricter_one(answers):
    strict, mild = mean_of(answers, Mean.geometric), mean_of(answers, Mean.arithmetic)
    assert strict <= mild * (1 + 1e-12)
    assert (strict == 0) == (min(answers) == 0)
    assert mean_of(answers[:1], Mean.geometric) == mean_of(answers[:1], Mean.arithmetic) == answers[0]


def test_a_shipped_verifier_by_atoms_keeps_all_rules():
    found = check_verifier(registry.load("verifier", "atoms:tiny-parm"))
    assert [one for one in found if one.state not in ("kept", "skipped")] == []


def test_searches_use_it_by_its_name():
    generator, judge = tiny_generator(), registry.load("verifier", "atoms:tiny-parm")
    trace = search("a photo of two cups", generator=generator, verifier=judge, strategy="best-of-n", n=2, seed=0)
    inner = registry.load("verifier", "tiny-parm")
    images = torch.stack([torch.tensor(list(c.image.get_flattened_data())) for c in trace.candidates]).float() / 255
    images = images.view(2, *reversed(trace.image.size), 3).permute(0, 3, 1, 2)
    texts = ["a photo of a cup", "a photo of two cups"]
    expected = [
        math.sqrt(math.prod(inner.ask(image[None].expand(2, -1, -1, -1), texts, ORM).tolist())) for image in images
    ]
    assert [candidate.score for candidate in trace.candidates] == pytest.approx(expected, abs=1e-2)
    assert trace.cost.judge_calls == 4
    stopped = search("a photo of two cups", generator=generator, verifier=judge, strategy="parm", n=2, seed=0)
    asked = {verdict.question for candidate in stopped.candidates for verdict in candidate.verdicts}
    assert {"clarity", "orm"} <= asked
