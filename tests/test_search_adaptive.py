"""adaptive and beam: how many paths are drawn, what is replayed, and that one beam is stepwise."""

from dataclasses import dataclass, field, replace
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from imagecot.contracts.randomness import fork_seeds, path_seeds
from imagecot.contracts.search import PathRecord
from imagecot.contracts.verifier import Conversation, Usage
from imagecot.errors import UsageError
from imagecot.strategies.adaptive import Adaptive, AdaptiveSettings, rounds
from imagecot.strategies.lines import as_line
from imagecot.strategies.many import search_many
from imagecot.strategies.resume import Partial
from imagecot.strategies.search import search
from imagecot.strategies.trace import Trace
from plain_decoder import tiny_generator

torch.set_num_threads(1)
PROMPT, STEPS, SEED = "a photo of a red apple", 4, 5


@dataclass
class Listed:
    """Gives its answers one after another, and notes how many were asked for at once."""

    answers: list[float]
    usage: Usage = field(default_factory=Usage)
    asked: list[int] = field(default_factory=list)
    settings: ClassVar[dict[str, object]] = {}

    def ask(self, images: Tensor, prompts, question, after: Conversation | None = None) -> Tensor:
        first = self.usage.judge_calls
        self.asked.append(len(images))
        self.usage += Usage(judge_calls=len(images))
        return torch.tensor(self.answers[first : first + len(images)])

    def begin(self, images: Tensor, prompts, question) -> tuple[Tensor, Conversation]:
        return self.ask(images, prompts, question), Conversation(question)


@dataclass
class Bright(Listed):
    """Likes bright images."""

    answers: list[float] = field(default_factory=list)

    def ask(self, images: Tensor, prompts, question, after: Conversation | None = None) -> Tensor:
        self.usage += Usage(judge_calls=len(images))
        return images.mean((1, 2, 3))


def run(strategy: str, n: int, verifier: Listed, **more) -> Trace:
    return search(
        PROMPT, generator=tiny_generator(steps=STEPS), verifier=verifier, strategy=strategy, n=n, seed=SEED, **more
    )


def test_rounds_take_all_paths_once_in_their_order():
    assert [*rounds(20, 0.25)] == [range(0, 5), range(5, 10), range(10, 15), range(15, 20)]
    assert [*rounds(7, 0.5)] == [range(0, 4), range(4, 7)]
    assert [*rounds(3, 0.01)] == [range(0, 1), range(1, 2), range(2, 3)]
    assert next(rounds(100, 0.07)) == range(0, 7)  # 0.07 * 100 is a little more than 7
    assert [*rounds(1, 1.0)] == [range(0, 1)]


def test_no_round_is_drawn_behind_one_that_is_good_enough():
    verifier = Listed([0.2, 0.3, 0.8, 0.95, 0.1, 0.99])
    trace = run("adaptive", 6, verifier, threshold=0.9, share=1 / 3)
    assert verifier.asked == [2, 2]
    assert [c.score for c in trace.candidates] == pytest.approx([0.2, 0.3, 0.8, 0.95])
    assert (trace.chosen, trace.n) == (3, 6)
    assert [c.seed for c in trace.candidates] == path_seeds(SEED, 6)[:4].tolist()
    assert trace.cost.generator_rows == 2 * 4 * STEPS
    assert trace.cost.previews == trace.cost.judge_calls == 4
    assert "drew this prompt 4 times" in _said(trace)


def _said(trace: Trace) -> str:
    from imagecot.strategies.picture import _explanation

    return _explanation(trace)


def test_where_nothing_is_good_enough_it_is_best_of_n():
    answers = [0.2, 0.3, 0.8, 0.1, 0.1]
    sure, best = run("adaptive", 5, Listed(answers), threshold=1.0), run("best-of-n", 5, Listed(answers))
    assert [as_line(one) for one in sure.candidates] == [as_line(one) for one in best.candidates]
    assert sure.chosen == best.chosen == 2
    assert replace(sure.cost, seconds=0, judge_seconds=0) == replace(best.cost, seconds=0, judge_seconds=0)
    assert sure.image.tobytes() == best.image.tobytes()


@pytest.mark.parametrize(
    ("scores", "taken"),
    [
        ([0.1, 0.95, 0.99, 0.99], 1),  # the second is good enough
        ([0.95, 0.96, 0.99, 0.99], 1),  # the best of the first round, not the first that is good enough
        ([0.1, 0.2, 0.3, 0.2], 2),
        ([None, 0.2, 0.91, 0.99], 3),
        ([0.5], 0),
    ],
)
def test_replayed_it_takes_the_best_of_the_rounds_that_are_drawn(scores, taken):
    found = Adaptive().replay([PathRecord(score) for score in scores], AdaptiveSettings(share=0.5))
    assert found.index == taken


def test_the_threshold_falls_from_round_to_round():
    answers = [0.2, 0.76, 0.3, 0.1, 0.1, 0.1, 0.1, 0.1]
    verifier = Listed(answers)
    trace = run("adaptive", 8, verifier, share=0.25, threshold=0.9, fall=0.6)
    assert verifier.asked == [2, 2]  # 0.9 behind the first two paths, 0.75 behind four
    assert trace.chosen == 1
    found = Adaptive().replay([PathRecord(p) for p in answers], AdaptiveSettings(share=0.25, threshold=0.9, fall=0.6))
    assert found.index == 1
    assert len(run("adaptive", 8, Listed(answers), share=0.25, threshold=0.9).candidates) == 8


def test_a_killed_run_draws_no_round_again(tmp_path, monkeypatch):
    answers, save = [0.2, 0.3, 0.4, 0.1, 0.95, 0.5], Partial.save
    whole = run("adaptive", 6, Listed(answers), share=1 / 3)

    def cut(self, unit, candidates, cost):
        save(self, unit, candidates, cost)
        if unit.startswith("paths-000002"):
            raise KeyboardInterrupt

    monkeypatch.setattr(Partial, "save", cut)
    with pytest.raises(KeyboardInterrupt):
        run("adaptive", 6, Listed(answers), share=1 / 3, folder=tmp_path)
    monkeypatch.setattr(Partial, "save", save)
    verifier = Listed(answers[4:])
    again = run("adaptive", 6, verifier, share=1 / 3, folder=tmp_path)
    assert verifier.asked == [2]
    assert again.candidates == whole.candidates
    assert (again.chosen, again.cost.generator_rows) == (4, whole.cost.generator_rows)


def test_rounds_of_several_prompts_share_a_batch():
    """Those that are done leave it, and each finds what it finds alone."""
    prompts, seeds, options = ["a photo of a red apple", "cat", "a photo of a dog"], [1, 2, 3], {"share": 0.25}
    scores = [[c.score for c in one.candidates] for one in _alone(prompts, seeds, threshold=1.0, **options)]
    options["threshold"] = sorted(score for row in scores for score in row)[-4]
    alone = _alone(prompts, seeds, **options)
    generator, batches = tiny_generator(steps=STEPS), []
    advance = generator.advance
    generator.advance = lambda paths: batches.append(len(paths)) or advance(paths)
    together = search_many(prompts, seeds, generator=generator, verifier=Bright(), strategy="adaptive", n=8, **options)
    drawn = [len(one.candidates) for one in alone]
    assert len(set(drawn)) > 1  # the case has prompts that end early and others
    assert batches == [2 * sum(n > first for n in drawn) for first in range(0, max(drawn), 2) for _ in range(STEPS)]
    for ours, theirs in zip(together, alone, strict=True):
        assert [c.seed for c in ours.candidates] == [c.seed for c in theirs.candidates]
        assert ours.chosen == theirs.chosen
        assert torch.equal(ours.choice.codes[STEPS], theirs.choice.codes[STEPS])
        assert ours.cost.generator_rows == theirs.cost.generator_rows


def test_the_worse_paths_of_a_round_stop_on_their_way():
    """The look after two of four steps keeps the first and the third path; nobody looks at the second round."""
    verifier = Listed([0.9, 0.1, 0.8, 0.2, 0.3, 0.95])
    trace = run("adaptive", 8, verifier, share=0.5, keep=0.5)
    assert verifier.asked == [4, 2]
    assert [c.truncated_at for c in trace.candidates] == [None, 2, None, 2]
    assert [c.score for c in trace.candidates] == [pytest.approx(0.3), None, pytest.approx(0.95), None]
    assert [v.step for v in trace.candidates[0].verdicts] == [2, STEPS]
    assert trace.chosen == 2
    assert trace.cost.generator_rows == 2 * (4 * 2 + 2 * 2)
    assert trace.cost.previews == trace.cost.judge_calls == 6
    assert Adaptive().replay([PathRecord(0.5)], AdaptiveSettings(keep=0.5)) is None


def test_a_round_of_which_all_run_on_is_not_looked_at():
    assert run("adaptive", 2, first := Listed([0.2, 0.3]), share=0.5, keep=0.9, first_step=1).chosen == 1
    assert first.asked == [1, 1]
    verifier = Listed([0.9, 0.1, 0.8, 0.99])
    run("adaptive", 3, verifier, share=1.0, keep=0.3, first_step=1)
    assert verifier.asked == [3, 1]


def test_thinned_out_rounds_of_several_prompts_share_a_batch():
    prompts, seeds = ["a photo of a red apple", "cat", "a photo of a dog"], [1, 2, 3]
    options = {"share": 0.5, "keep": 0.5, "first_step": 3, "threshold": 1.0}
    models = {"generator": tiny_generator(steps=STEPS), "verifier": Bright(), "strategy": "adaptive", "n": 8}
    together = search_many(prompts, seeds, **models, **options)
    for ours, theirs in zip(together, _alone(prompts, seeds, **options), strict=True):
        assert [c.truncated_at for c in ours.candidates] == [c.truncated_at for c in theirs.candidates]
        assert ours.chosen == theirs.chosen
        assert ours.cost.generator_rows == theirs.cost.generator_rows == 2 * (8 * 3 + 4)


def _alone(prompts: list[str], seeds: list[int], **options) -> list[Trace]:
    models = {"generator": tiny_generator(steps=STEPS), "verifier": Bright(), "strategy": "adaptive", "n": 8}
    return [search(prompt, seed=seed, **models, **options) for prompt, seed in zip(prompts, seeds, strict=True)]


def test_settings_that_are_none_are_refused():
    for options, told in (({"threshold": 1.1}, "threshold"), ({"share": 0.0}, "share"), ({"rounds": 3}, "no option")):
        with pytest.raises(UsageError, match=told):
            run("adaptive", 2, Bright(), **options)


# --- beam


def test_a_beam_keeps_the_best_of_all_continuations():
    """A walk redone by hand: of the continuations of all kept paths the brightest are kept, whoever they are of."""
    n, beams = 6, 2
    generator = tiny_generator(steps=STEPS)
    kept = [generator.start([PROMPT], path_seeds(SEED, 1).new_tensor([seed])) for seed in path_seeds(SEED, beams)]
    said = []
    while not kept[0].finished:
        options = []
        for one in kept:
            for fork in fork_seeds(one.seeds, n // beams):
                paths = generator.advance(one.select([0], seeds=fork[None]))
                options.append((float(generator.preview(paths).mean()), paths))
        said.append([level for level, _ in options])
        best = sorted(range(n), key=lambda k: -options[k][0])[:beams]
        # Continuations are numbered by the kept paths in the order of their goodness.
        kept = [options[k][1] for k in best]
    trace = run("beam", n, Bright(), beams=beams)
    for k, candidate in enumerate(trace.candidates):
        assert [verdict.p_yes for verdict in candidate.verdicts] == pytest.approx([step[k] for step in said], abs=2e-4)
    assert trace.chosen == best[0]
    assert trace.choice.seed == int(kept[0].seeds)
    assert trace.cost.generator_rows == 2 * n * STEPS
    assert trace.cost.judge_calls == trace.cost.previews == n * STEPS


@pytest.mark.parametrize("n", [1, 2, 5])
def test_one_beam_is_stepwise(n):
    one, stepwise = run("beam", n, Bright(), beams=1), run("stepwise", n, Bright())
    assert [as_line(c) for c in one.candidates] == [as_line(c) for c in stepwise.candidates]
    assert one.chosen == stepwise.chosen
    assert one.image.tobytes() == stepwise.image.tobytes()
    assert "beams" not in stepwise.settings


def test_more_beams_than_paths_are_paths_by_themselves():
    """Nothing is forked where each kept path goes on once: the best of independent paths."""
    beam, best = run("beam", 3, Bright(), beams=8), run("best-of-n", 3, Bright())
    assert sorted(c.seed for c in beam.candidates) == sorted(c.seed for c in best.candidates)
    assert beam.choice.seed == best.choice.seed
    assert beam.choice.score == pytest.approx(best.choice.score, abs=2e-4)


def test_continuations_that_are_no_multiple_are_shared_out():
    trace = run("beam", 7, Bright(), beams=3)
    assert len(trace.candidates) == 7
    assert trace.cost.generator_rows == 2 * 7 * STEPS
    assert len({candidate.seed for candidate in trace.candidates}) == 7


def test_a_beam_in_groups_is_the_same(monkeypatch):
    import imagecot.strategies.run as module

    whole = run("beam", 6, Bright(), beams=2)
    monkeypatch.setattr(module, "LARGEST_GROUP", 4)
    parts = run("beam", 6, Bright(), beams=2)
    assert parts.choice.score == pytest.approx(whole.choice.score, abs=2e-4)
