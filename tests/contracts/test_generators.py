"""Every generator that is shipped or made of our classes keeps the rules, and each wrong toy breaks just its own."""

from pathlib import Path

import pytest
import torch

from contracts.toys import Everything
from contracts.wrong_generators import GENERATORS
from imagecot import registry
from imagecot.checks import broken, check_generator
from imagecot.checks.generators import RULES
from imagecot.checks.toys import CorrectingToy, ToyGenerator
from imagecot.contracts.generator import Filling
from small_models import Flat, write_generator, write_janus, write_llamagen

OF_MASKED = [rule for rule in RULES if rule.capability is not Filling]
SMALL_PROMPTS = ("a photo of a red apple", "a photo of an apple")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("toy", [ToyGenerator, CorrectingToy, Everything, Flat])
def test_toys_keep_all_rules(toy: type) -> None:
    assert broken(check_generator(toy())) == []


def test_every_rule_is_tried_of_a_generator_that_can_do_everything() -> None:
    assert [(one.rule, one.state) for one in check_generator(Everything())] == [(rule.name, "kept") for rule in RULES]


def test_a_small_showo_keeps_all_rules_when_batches_are_split(tmp_path: Path) -> None:
    generator = registry.load("generator", write_generator(tmp_path)).adjusted(memory_budget=1 << 20)
    assert generator.paths_per_pass < 10
    found = check_generator(generator, SMALL_PROMPTS)
    assert [one for one in found if one.state != "kept"] == []
    assert len(found) == len(OF_MASKED)


def test_a_small_janus_keeps_all_rules_when_batches_are_split(tmp_path: Path) -> None:
    generator = registry.load("generator", write_janus(tmp_path, side=3)).adjusted(memory_budget=1 << 19)
    assert generator.paths_per_pass < 10
    found = check_generator(generator, SMALL_PROMPTS)
    assert broken(found) == []
    assert [one for one in found if one.state == "remark"] == []
    tried = {one.rule for one in found}
    assert {"settings name the fill", "gradients reach the weights", "pictures have codes"} <= tried


def test_a_small_amused_keeps_all_rules_when_batches_are_split(tmp_path: Path) -> None:
    pytest.importorskip("diffusers", reason="aMUSEd needs the extra imagecot[amused]")
    from small_amused import write_amused

    generator = registry.load("generator", write_amused(tmp_path / "amused")).adjusted(memory_budget=1 << 18)
    assert generator.paths_per_pass < 10
    found = check_generator(generator, SMALL_PROMPTS)
    assert [one for one in found if one.state != "kept"] == []
    assert len(found) == len(OF_MASKED) - 2  # it corrects nothing


def test_a_small_llamagen_keeps_all_rules_when_batches_are_split(tmp_path: Path) -> None:
    generator = registry.load("generator", write_llamagen(tmp_path, n_kv_head=2))
    generator = generator.adjusted(memory_budget=1 << 18, cfg_interval=2)
    assert generator.paths_per_pass < 20
    found = check_generator(generator, SMALL_PROMPTS)
    assert [one for one in found if one.state != "kept"] == []
    tried = {one.rule for one in found}
    assert {"settings name the fill", "gradients reach the weights", "pictures have codes"} <= tried


@pytest.mark.slow
def test_the_shipped_generator_keeps_all_rules() -> None:
    found = check_generator(registry.load("generator", "tiny"))
    assert broken(found) == []
    assert len(found) == len(OF_MASKED)


@pytest.mark.parametrize("wrong", GENERATORS, ids=lambda wrong: wrong.__name__)
def test_a_wrong_generator_is_caught_by_the_rule_that_it_breaks(wrong: type) -> None:
    caught = broken(check_generator(wrong()))
    expected = GENERATORS[wrong]
    assert [one.rule for one in caught] == ([expected] if isinstance(expected, str) else [*expected])
    for one in caught:
        assert one.seen.endswith(".")
        assert len(one.seen) > 30


def test_there_is_a_wrong_generator_for_every_rule() -> None:
    caught = {rule for rules in GENERATORS.values() for rule in ([rules] if isinstance(rules, str) else rules)}
    assert caught == {rule.name for rule in RULES}


def test_what_a_class_raises_breaks_the_rule_and_is_told() -> None:
    class Stumbles(ToyGenerator):
        def resume(self, *given: object) -> object:  # type: ignore[override]
            raise ZeroDivisionError("the cache is empty")

    (caught,) = broken(check_generator(Stumbles()))
    assert caught.rule == "paths can be resumed"
    assert caught.seen == "it raises ZeroDivisionError: the cache is empty; mend it."


def test_rules_that_need_another_are_not_tried_without_it() -> None:
    found = {one.rule: one for one in check_generator(next(iter(GENERATORS))())}
    assert found["it has everything"].seen == (
        "LacksDecode is no generator: it has no decode; imagecot.contracts.Generator says what that is."
    )
    assert found["paths can be selected"].state == "not tried"
    assert found["paths can be selected"].seen == "first mend: it has everything."


def test_a_batch_that_nobody_splits_is_a_remark() -> None:
    found = {one.rule: one for one in check_generator(ToyGenerator(paths_per_pass=100_000))}
    assert found["micro batches change nothing"].state == "remark"
    assert "100000 paths" in found["micro batches change nothing"].seen
