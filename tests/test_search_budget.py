"""A budget that searches in rounds share: who gets what is left, and that batches change nothing."""

import pytest
import torch

import imagecot.strategies.many as module
from imagecot.checks.toys import ToyGenerator, ToyVerifier
from imagecot.contracts.search import Choice
from imagecot.errors import ImagecotError, UsageError
from imagecot.evaluation.drawing import Drawing
from imagecot.geneval.prompts import single_object_metadata
from imagecot.strategies.adaptive import Adaptive
from imagecot.strategies.budget import granted
from imagecot.strategies.defaults import Named
from imagecot.strategies.lines import as_line
from imagecot.strategies.many import search_many

torch.set_num_threads(1)
PROMPTS, SEEDS = ["a cup", "two cups", "a red chair", "a dog", "a green bench"], [1, 2, 3, 4, 5]


def test_everybody_draws_a_first_round():
    assert granted([range(2), range(2), range(0)], [0.0, 0.0, 0.0], left=3, n=8) == [True, True, False]


def test_what_is_left_goes_to_the_lowest_scores():
    rounds, best = [range(2, 4)] * 4, [0.9, 0.2, 0.5, 0.2]
    # Three passes are left of 8 paths each, so that a third of 8 is rounded up: one round, and not two.
    assert granted(rounds, best, left=8, n=8) == [False, True, False, False]
    assert granted(rounds, best, left=12, n=8) == [False, True, False, True]
    assert granted(rounds, best, left=24, n=8) == [True] * 4
    assert granted(rounds, best, left=2, n=8) == [False, True, False, False]
    assert granted(rounds, best, left=1, n=8) == [False] * 4


def test_one_that_ends_leaves_its_paths_to_others():
    rounds = [range(0), range(2, 4), range(6, 8)]
    assert granted(rounds, [0.1, 0.6, 0.4], left=6, n=8) == [False, False, True]
    assert granted(rounds, [0.1, 0.6, 0.7], left=6, n=8) == [False, True, False]
    assert granted([range(0)] * 2, [0.1, 0.2], left=6, n=8) == [False, False]


def many(budget: int | None, prompts=PROMPTS, seeds=SEEDS, **options):
    said = {"threshold": 1.0, "share": 0.25, **options}
    models = {"generator": ToyGenerator(), "verifier": ToyVerifier(), "strategy": "adaptive", "n": 8}
    return search_many(prompts, seeds, **models, budget=budget, **said)


def test_a_budget_is_spent_and_not_exceeded():
    """Each gets a first round; in the end the worse prompts have more paths than the better ones."""
    whole = many(None)
    first = [max(one.score for one in trace.candidates[:2]) for trace in whole]
    for budget in (2, 3, 5, 8):
        traces = many(budget)
        counts = [len(trace.candidates) for trace in traces]
        assert sum(counts) == budget * len(PROMPTS) - budget * len(PROMPTS) % 2
        assert all(2 <= count <= 8 and count % 2 == 0 for count in counts)
        for trace, full in zip(traces, whole, strict=True):
            seen = [as_line(one) for one in full.candidates[: len(trace.candidates)]]
            assert [as_line(one) for one in trace.candidates] == seen
            scores = [one.score for one in trace.candidates]
            assert trace.chosen == scores.index(max(scores))
    counts = [len(trace.candidates) for trace in many(3)]
    assert len({*counts}) > 1
    assert counts[first.index(min(first))] == max(counts)


def test_the_rule_of_the_search_still_ends_it():
    alone = [len(trace.candidates) for trace in many(None, threshold=0.6)]
    assert len({*alone}) > 1  # the case has searches that end early
    shared = [len(trace.candidates) for trace in many(7, threshold=0.6)]
    assert all(ours <= theirs for ours, theirs in zip(shared, alone, strict=True))
    assert [len(trace.candidates) for trace in many(8, threshold=0.6)] == alone


def test_batches_change_nothing(monkeypatch):
    whole = many(4, keep=0.5)
    monkeypatch.setattr(module, "LARGEST_GROUP", 4)
    parts = many(4, keep=0.5)
    for ours, theirs in zip(whole, parts, strict=True):
        assert [as_line(one) for one in ours.candidates] == [as_line(one) for one in theirs.candidates]
        assert (ours.chosen, ours.cost.judge_calls) == (theirs.chosen, theirs.cost.judge_calls)


class Endless(Adaptive):
    """Never looks whether a round was drawn."""

    def choose(self, run):
        candidates = []
        while (among := self.next_round(run, candidates)) is not None:
            candidates += run.in_groups(among=among)
        return Choice(candidates, 0)


def test_a_search_that_goes_on_without_a_budget_is_told():
    models = {"generator": ToyGenerator(), "verifier": ToyVerifier(), "n": 8, "threshold": 1.0}
    with pytest.raises(ImagecotError, match="Endless goes on where a budget is spent"):
        search_many(PROMPTS, SEEDS, **models, strategy=Endless(), budget=3)


@pytest.mark.parametrize(
    ("budget", "options", "told"),
    [
        (1, {}, "from 2, one round, to 8"),
        (9, {}, "from 2, one round, to 8"),
        (3, {"strategy": "best-of-n"}, "no rounds"),
    ],
)
def test_budgets_that_cannot_be_are_refused(budget, options, told):
    models = {"generator": ToyGenerator(), "verifier": ToyVerifier(), "strategy": "adaptive", "n": 8}
    with pytest.raises(UsageError, match=told):
        search_many(PROMPTS, SEEDS, **{**models, **options}, budget=budget)


def test_units_that_share_a_budget_have_prompts_of_every_kind():
    prompts = [single_object_metadata(f"thing {k}") for k in range(70)]

    def numbers(search: str, budget: int | None = None) -> list[range]:
        drawing = Drawing(prompts, 1, Named(search, {"generator": "tiny"}), 8, 0, budget)
        return [piece.numbers for piece in drawing.pieces]

    assert numbers("adaptive", 3) == [range(0, 70, 3), range(1, 70, 3), range(2, 70, 3)]
    for search in ("adaptive", "best-of-n", "single"):
        assert sorted(k for unit in numbers(search) for k in unit) == [*range(70)]
    assert numbers("adaptive") == [range(0, 70, 2), range(1, 70, 2)]
    assert {len(unit) for unit in numbers("best-of-n")} == {1}


def test_a_budget_is_refused_before_anything_is_loaded(imagecot):
    call = ["evaluate", "geneval", "--generator", "tiny", "--samples", "1", "--out", "out"]
    for more, told in (
        (["--search", "best-of-n", "--budget", "4"], "best-of-n draws no rounds"),
        (["--search", "adaptive", "-n", "4", "--budget", "5"], "more than the 4 that each may take"),
    ):
        code, _, err = imagecot(*call, *more)
        assert code == 2 and told in err
    code, _, err = imagecot("evaluate", "geneval", "--images", "x", "--budget", "4")
    assert code == 2 and "budget" in err
