"""parm and stepwise: who is asked what and when, who stops, what that saves, and who wins."""

from dataclasses import dataclass, field
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from imagecot.contracts.paths import Paths
from imagecot.contracts.questions import CLARITY, ORM, POTENTIAL, PRM
from imagecot.contracts.randomness import fork_seeds, path_seeds
from imagecot.contracts.verifier import Conversation, Usage, recorded
from imagecot.errors import UsageError
from imagecot.images import as_saved
from imagecot.strategies.parm import without_potential
from imagecot.strategies.resume import Partial
from imagecot.strategies.search import search
from plain_decoder import tiny_generator

torch.set_num_threads(1)
PROMPT = "a photo of a red apple"
STEPS = 6


@dataclass
class Scripted:
    """Answers by rules on the brightness of what it sees, and notes all that it is asked."""

    clear_above: float = 0.0
    hopeful_above: float = 0.0
    usage: Usage = field(default_factory=Usage)
    asked: list[tuple[str, int]] = field(default_factory=list)
    settings: ClassVar[dict[str, object]] = {}

    def check_prompt(self, prompt: str) -> None:
        """Reads all of them."""

    def ask(self, images: Tensor, prompts, question, after: Conversation | None = None) -> Tensor:
        self.asked.append((question.name, len(images)))
        self.usage += Usage(judge_calls=len(images))
        if question.name == "potential":
            assert after is not None
            # The conversation brings what the first turn saw.
            seen = after.own
            torch.testing.assert_close(seen, images.mean((1, 2, 3)))
            return torch.where(seen >= self.hopeful_above, 0.75, 0.25) + seen / 8
        bright = images.mean((1, 2, 3))
        if question.name == "clarity":
            return torch.where(bright >= self.clear_above, 0.75, 0.25)
        return bright

    def begin(self, images: Tensor, prompts, question) -> tuple[Tensor, Conversation]:
        answers = self.ask(images, prompts, question)
        return answers, Conversation(question, images.mean((1, 2, 3)))


def brightness(n: int, seed: int) -> list[list[float]]:
    """The brightness of each path's preview after each step, drawn alone."""
    generator = tiny_generator(steps=STEPS)
    table = []
    for path_seed in path_seeds(seed, n):
        paths = generator.start([PROMPT], path_seed[None])
        levels = []
        while not paths.finished:
            paths = generator.advance(paths)
            levels.append(float(as_saved(generator.preview(paths)).mean()))
        table.append(levels)
    return table


def run(strategy: str, verifier: Scripted, n: int, seed: int = 3, **more):
    return search(
        PROMPT, generator=tiny_generator(steps=STEPS), verifier=verifier, strategy=strategy, n=n, seed=seed, **more
    )


@pytest.mark.parametrize(("keep", "stopped"), [(0.25, 6), (0.3, 5), (0.5, 4), (0.8, 1), (1.0, 0)])
@pytest.mark.parametrize("hopeful_above", [-1.0, 9.0])
def test_the_best_share_of_the_paths_runs_on_whatever_is_said_of_them(keep, stopped, hopeful_above):
    """All are clear at once; whether the verifier says yes or no to all of them, the least potential stops."""
    levels = [levels[2] for levels in brightness(8, 3)]
    trace = run("parm", Scripted(-1.0, hopeful_above), 8, first_step=3, keep=keep)
    gone = sorted(range(8), key=levels.__getitem__)[:stopped]
    assert [k for k, c in enumerate(trace.candidates) if c.truncated_at == 3] == sorted(gone)
    assert all(c.truncated_at in (None, 3) for c in trace.candidates)
    # A path that runs on is not asked again: clarity and potential once, the final image of each.
    assert trace.cost.judge_calls == 8 + 8 + (8 - stopped)
    assert trace.settings.get("keep", 0.0) == keep


def test_paths_are_compared_with_those_that_became_clear_after_the_same_step():
    assert without_potential([0.4, 0.6, 0.1, 0.9], 0.0) == [0, 2]
    assert without_potential([0.4, 0.6, 0.1, 0.9], 0.5) == [2, 0]
    assert without_potential([0.5, 0.5, 0.5], 0.3) == [2, 1]  # of equals the first
    assert without_potential([0.1], 0.3) == []  # alone, so the best of its step
    table = brightness(8, 3)
    clear_above = sorted(levels[1] for levels in table)[4]
    trace = run("parm", Scripted(clear_above, 9.0), 8, keep=0.5)
    by_step: dict[int, list[int]] = {}
    for k, levels in enumerate(table):
        step = next((t + 1 for t, level in enumerate(levels[:-1]) if level >= clear_above), None)
        assert trace.candidates[k].first_clear == step
        by_step.setdefault(step, []).append(k)
    assert len(by_step) > 1
    for step, paths in by_step.items():
        running = [k for k in paths if trace.candidates[k].truncated_at is None]
        assert len(running) == (len(paths) + 1) // 2 or step is None


def test_shares_that_are_none_are_refused():
    for keep, told in ((-0.1, "greater than or equal to 0"), (1.5, "less than or equal to 1"), ("x", "a valid number")):
        with pytest.raises(UsageError, match=f"the options of parm cannot be: keep: .*{told}, not"):
            run("parm", Scripted(), 2, keep=keep)
    with pytest.raises(UsageError, match="stepwise has no option 'keep'; it has none"):
        run("stepwise", Scripted(), 2, keep=0.5)


def test_parm_follows_the_paper_path_by_path():
    """First clear step, potential there only, a stop at once, ORM among the rest: replayed from single paths."""
    n = 8
    table = brightness(n, 3)
    clear_above = sorted(levels[1] for levels in table)[4]
    hopeful_above = clear_above + 0.01
    trace = run("parm", Scripted(clear_above, hopeful_above), n)
    rows = previews = calls = 0
    scores = {}
    for k, (levels, candidate) in enumerate(zip(table, trace.candidates, strict=True)):
        first = next((t + 1 for t, level in enumerate(levels[:-1]) if level >= clear_above), None)
        stopped = first if first is not None and levels[first - 1] < hopeful_above else None
        assert (candidate.first_clear, candidate.truncated_at) == (first, stopped)
        asked = [(v.step, v.question) for v in candidate.verdicts]
        expected = [(t, "clarity") for t in range(1, (first or STEPS - 1) + 1)]
        expected += [(first, "potential")] if first else []
        if stopped is None:
            expected += [(STEPS, "orm")]
            scores[k] = levels[-1]
        assert asked == expected
        assert (candidate.image is None) == (stopped is not None)
        rows += 2 * (stopped or STEPS)
        previews += (first or STEPS - 1) + (stopped is None)
        calls += len(expected)
    assert 0 < trace.kept < n  # the case holds both kinds
    assert trace.chosen == max(scores, key=scores.__getitem__)
    assert trace.cost.generator_rows == rows
    assert trace.cost.previews == previews
    assert trace.cost.judge_calls == calls


def test_a_stopped_path_costs_nothing_more():
    """All clear after one step and half without potential: the batch of every later step is the other half."""
    n = 8
    first = sorted(levels[0] for levels in brightness(n, 3))
    middle = (first[3] + first[4]) / 2
    generator = tiny_generator(steps=STEPS)
    batches = []
    advance = type(generator).advance

    def counted(self, paths: Paths) -> Paths:
        batches.append(len(paths))
        return advance(self, paths)

    type(generator).advance = counted
    try:
        trace = search(PROMPT, generator=generator, verifier=Scripted(0.0, middle), strategy="parm", n=n, seed=3)
    finally:
        type(generator).advance = advance
    assert batches == [8, 4, 4, 4, 4, 4]
    assert trace.cost.generator_rows == 2 * (8 + 5 * 4)
    assert trace.cost.previews == 8 + 4


def test_where_none_is_left_the_least_refused_is_finished():
    table = brightness(5, 3)
    trace = run("parm", Scripted(0.0, 2.0), 5)
    best = max(range(5), key=lambda k: recorded(0.25 + table[k][0] / 8))
    assert trace.chosen == best
    assert trace.kept == 1
    assert trace.choice.resumed_at == 1
    assert trace.choice.truncated_at is None
    assert trace.choice.score == pytest.approx(table[best][-1], abs=2e-4)
    assert trace.cost.generator_rows == 2 * (5 + STEPS - 1)
    assert [c.truncated_at for k, c in enumerate(trace.candidates) if k != best] == [1] * 4


def test_never_clear_means_best_of_n():
    parm, best = run("parm", Scripted(2.0), 4), run("best-of-n", Scripted(), 4)
    assert parm.chosen == best.chosen
    assert [c.score for c in parm.candidates] == pytest.approx([c.score for c in best.candidates], abs=2e-4)
    assert all(c.first_clear is None for c in parm.candidates)


def test_the_state_of_stopped_paths_survives_an_interruption(tmp_path):
    """Candidates read back from the parts resume like those in memory."""
    whole = run("parm", Scripted(0.0, 2.0), 3)
    partial = Partial(tmp_path, {})
    partial.save("unit", whole.candidates, whole.cost)
    back, cost = partial.load("unit")
    assert cost == whole.cost
    for a, b in zip(whole.candidates, back, strict=True):
        assert (a.state is None) == (b.state is None)
        assert a.resumed_at == b.resumed_at
        if a.state is not None:
            assert torch.equal(a.state, b.state)


def test_stepwise_keeps_the_brightest_continuation_of_each_step():
    """A greedy walk redone by hand, one continuation at a time."""
    n, seed = 4, 9
    generator = tiny_generator(steps=STEPS)
    kept = generator.start([PROMPT], path_seeds(seed, 1))
    calls = []
    while not kept.finished:
        options = []
        for fork in fork_seeds(kept.seeds, n):
            paths = generator.advance(kept.select([0], seeds=fork[None]))
            options.append((float(generator.preview(paths).mean()), paths))
        best = max(range(n), key=lambda k: options[k][0])
        calls.append([level for level, _ in options])
        kept = options[best][1]
    trace = run("stepwise", Scripted(), n, seed)
    assert trace.chosen == best
    assert trace.choice.seed == int(kept.seeds)
    for k, candidate in enumerate(trace.candidates):
        assert [v.p_yes for v in candidate.verdicts] == pytest.approx([step[k] for step in calls], abs=2e-4)
        assert {v.question for v in candidate.verdicts} == {PRM.name}
    assert trace.cost.generator_rows == 2 * n * STEPS
    assert trace.cost.judge_calls == trace.cost.previews == n * STEPS


def test_stepwise_in_groups_is_the_same(monkeypatch):
    import imagecot.strategies.run as module

    whole = run("stepwise", Scripted(), 5)
    monkeypatch.setattr(module, "LARGEST_GROUP", 2)
    parts = run("stepwise", Scripted(), 5)
    assert (whole.chosen, whole.choice.seed) == (parts.chosen, parts.choice.seed)


def test_a_fork_with_its_own_seed_continues_the_original():
    generator = tiny_generator(steps=STEPS)
    paths = generator.advance(generator.start([PROMPT], path_seeds(1, 2)))
    forks = paths.select([1, 1], seeds=torch.stack([paths.seeds[1], fork_seeds(paths.seeds[1:], 1)[0]]))
    while not paths.finished:
        paths, forks = generator.advance(paths), generator.advance(forks)
    assert torch.equal(forks.codes[0], paths.codes[1])
    assert not torch.equal(forks.codes[1], paths.codes[1])


def test_questions_of_the_searches():
    assert POTENTIAL.follows is CLARITY
    assert {q.name for q in (ORM, PRM, CLARITY, POTENTIAL)} == {"orm", "prm", "clarity", "potential"}
