"""Every verifier that is shipped or made of our classes keeps the rules, and each wrong toy breaks just its own."""

from pathlib import Path

import pytest
import torch

from contracts.wrong_verifiers import VERIFIERS, SeesNothing
from imagecot import registry
from imagecot.checks import broken, check_verifier
from imagecot.checks.toys import AnsweringToy, ReflectingToy, ToyVerifier
from imagecot.checks.verifiers import RULES
from imagecot.contracts import Selective
from misbehaving import server
from served import stands_for
from small_models import Brightness, write_janus, write_showo, write_verifier
from test_verifier_any_vlm import write

REMARKS = {"it reads prompts and images"}  # a rule that nothing breaks


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("toy", [ToyVerifier, ReflectingToy, AnsweringToy, Brightness])
def test_toys_keep_all_rules(toy: type) -> None:
    assert broken(check_verifier(toy())) == []


def test_a_small_llava_onevision_keeps_all_rules(tmp_path: Path) -> None:
    found = check_verifier(registry.load("verifier", write_verifier(tmp_path)))
    assert [one for one in found if one.state != "kept"] == []
    assert "reflections are answers" in [one.rule for one in found]


def test_a_small_janus_keeps_all_rules(tmp_path: Path) -> None:
    found = check_verifier(registry.load("verifier", write_janus(tmp_path, max_position_embeddings=2048)))
    assert [one for one in found if one.state != "kept"] == []
    assert "reflections are answers" in [one.rule for one in found]


def test_a_small_show_o_keeps_all_rules(tmp_path: Path) -> None:
    found = check_verifier(registry.load("verifier", write_showo(tmp_path)))
    assert [one for one in found if one.state != "kept"] == []
    assert {"reflections are answers", "open answers are probabilities"} <= {one.rule for one in found}


@pytest.mark.parametrize("family", ["llava", "idefics3"])
def test_any_small_vlm_keeps_all_rules(family: str, tmp_path: Path) -> None:
    found = check_verifier(registry.load("verifier", write(family, tmp_path)))
    assert [one for one in found if one.state != "kept"] == []


def test_a_served_verifier_keeps_all_rules() -> None:
    with server(stands_for(registry.load("verifier", "tiny-orm"))) as there:
        found = check_verifier(registry.load("verifier", f"{there.url}#tiny-orm"))
    assert broken(found) == []
    kept = [one.rule for one in found if one.state == "kept"]
    assert {"reflections are answers", "open answers are probabilities"} <= {*kept}


def test_the_shipped_verifier_keeps_all_rules() -> None:
    found = check_verifier(registry.load("verifier", "tiny-parm"))
    assert [one for one in found if one.state != "kept"] == []
    assert [one.rule for one in found] == [rule.name for rule in RULES if rule.capability is not Selective]


@pytest.mark.parametrize("wrong", VERIFIERS, ids=lambda wrong: wrong.__name__)
def test_a_wrong_verifier_is_caught_by_the_rule_that_it_breaks(wrong: type) -> None:
    caught = broken(check_verifier(wrong()))
    assert [one.rule for one in caught] == [VERIFIERS[wrong]]
    assert caught[0].seen.endswith(".")


def test_there_is_a_wrong_verifier_for_every_rule() -> None:
    assert {*VERIFIERS.values()} | REMARKS == {rule.name for rule in RULES}


def test_a_verifier_that_sees_nothing_is_told_so() -> None:
    found = check_verifier(SeesNothing())
    assert broken(found) == []
    (remark,) = [one for one in found if one.state == "remark"]
    assert remark.seen == "the answer was the same for every prompt and every image that was tried."
