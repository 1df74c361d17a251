"""Every search keeps the rules, on toys that stop and correct paths; each wrong one breaks just its own rule."""

import pytest

from contracts.wrong_searches import SEARCHES
from imagecot import registry
from imagecot.checks import broken, check_search
from imagecot.checks.searches import RULES, Subject, _records

OURS = registry.ROLES["search"].classes


@pytest.mark.parametrize("name", OURS)
def test_our_searches_keep_all_rules(name: str) -> None:
    strategy = registry.load("search", name)
    found = check_search(strategy)
    assert [one for one in found if one.state != "kept"] == []
    assert len(found) == len(RULES)


def test_the_toys_give_a_search_something_to_decide() -> None:
    trial = Subject(registry.load("search", "parm++")).run()
    assert any(candidate.truncated_at is not None for candidate in trial.candidates)
    assert any(candidate.round for candidate in trial.candidates)
    assert len({candidate.score for candidate in trial.candidates if candidate.score is not None}) > 2
    parm = Subject(registry.load("search", "parm")).run()
    records = _records(parm, [candidate.seed for candidate in parm.candidates])
    assert {record.stopped is None for record in records} == {True, False}
    assert len({record.score for record in records}) > 4


@pytest.mark.parametrize("wrong", SEARCHES, ids=lambda wrong: wrong.__name__)
def test_a_wrong_search_is_caught_by_the_rule_that_it_breaks(wrong: type) -> None:
    caught = broken(check_search(wrong()))
    assert [one.rule for one in caught] == [SEARCHES[wrong]]
    assert caught[0].seen.endswith(".")


def test_there_is_a_wrong_search_for_every_rule() -> None:
    assert {*SEARCHES.values()} == {rule.name for rule in RULES}
