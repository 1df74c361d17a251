"""Many searches in common batches find what each finds alone, at the same cost; and the first step of judging."""

import json
from dataclasses import replace

import pytest
import torch

from imagecot.checks.toys import ToyGenerator, ToyVerifier
from imagecot.contracts.paths import finish, states
from imagecot.errors import UsageError
from imagecot.strategies.lines import as_line
from imagecot.strategies.many import search_many
from imagecot.strategies.search import search
from plain_decoder import tiny_generator
from small_models import write_generator, write_verifier
from test_search_parm import PROMPT, STEPS, Scripted, brightness

torch.set_num_threads(1)
PROMPTS, SEEDS = ["a photo of a red apple", "cat", "cat"], [3, 4, 5]


def middle() -> tuple[float, float]:
    """Thresholds between which paths of every kind fall: never clear, stopped and kept."""
    levels = sorted(level for path in brightness(4, 3) for level in path)
    return levels[len(levels) // 3], levels[2 * len(levels) // 3]


@pytest.mark.parametrize("strategy", ["single", "best-of-n", "stepwise", "parm"])
def test_many_searches_equal_one_after_the_other(strategy: str) -> None:
    thresholds = middle()
    models = {"generator": tiny_generator(steps=STEPS), "verifier": Scripted(*thresholds), "strategy": strategy, "n": 4}
    together = search_many(PROMPTS, SEEDS, **models)
    alone = [search(prompt, seed=seed, **models) for prompt, seed in zip(PROMPTS, SEEDS, strict=True)]
    for a, b in zip(together, alone, strict=True):
        assert a.identity == b.identity
        assert a.chosen == b.chosen
        assert a.image.tobytes() == b.image.tobytes()
        costs = [(t.cost.generator_rows, t.cost.previews, t.cost.judge_calls) for t in (a, b)]
        assert costs[0] == costs[1]
        assert a.cost.seconds > 0
        for x, y in zip(a.candidates, b.candidates, strict=True):
            assert (x.seed, x.truncated_at, x.first_clear, x.resumed_at) == (
                y.seed,
                y.truncated_at,
                y.first_clear,
                y.resumed_at,
            )
            assert [v.p_yes for v in x.verdicts] == pytest.approx([v.p_yes for v in y.verdicts], abs=2e-4)
            assert x.codes.keys() == y.codes.keys()
    if strategy == "parm":
        assert any(c.truncated_at for t in together for c in t.candidates)


def test_survivors_of_all_prompts_share_the_batch() -> None:
    generator, batches = tiny_generator(steps=STEPS), []
    advance = generator.advance
    generator.advance = lambda paths: batches.append(len(paths)) or advance(paths)  # type: ignore[method-assign]
    traces = search_many(PROMPTS, SEEDS, generator=generator, verifier=Scripted(*middle()), strategy="parm", n=4)
    stopped = [c.truncated_at or c.resumed_at or STEPS for t in traces for c in t.candidates]
    assert batches[:STEPS] == [sum(at >= step for at in stopped) for step in range(1, STEPS + 1)]
    assert batches[0] == 12 > batches[STEPS - 1]


class Counting(ToyGenerator):
    """Notes how many paths each step has; `batches` are those of first steps."""

    def start(self, prompts, seeds):
        vars(self).setdefault("batches", []).append(len(seeds))
        return super().start(prompts, seeds)


def test_batches_stay_full_until_no_prompt_waits() -> None:
    """A place that an easy prompt leaves is taken by the first round of the next, whatever rounds others are in."""
    prompts, seeds = [f"{k} cups" for k in range(2, 32)], [*range(30)]
    models = {"verifier": ToyVerifier(), "strategy": "adaptive", "n": 8, "share": 0.25, "threshold": 0.6}
    alone = [
        search(prompt, seed=seed, generator=ToyGenerator(), **models)
        for prompt, seed in zip(prompts, seeds, strict=True)
    ]
    drawn = [len(one.candidates) for one in alone]
    assert {*drawn} == {2, 4, 6, 8}  # the case has prompts of all kinds
    generator = Counting(paths_per_pass=10)
    together = search_many(prompts, seeds, generator=generator, **models)
    assert sum(generator.batches) == sum(drawn)
    full = sum(size == 10 for size in generator.batches)
    assert generator.batches[:full] == [10] * full
    assert len(generator.batches) - full < 4  # the rounds that the last to begin still have, one behind the other
    for ours, theirs in zip(together, alone, strict=True):
        assert [as_line(one) for one in ours.candidates] == [as_line(one) for one in theirs.candidates]
        assert (ours.chosen, ours.image.tobytes()) == (theirs.chosen, theirs.image.tobytes())
        counts = [replace(one.cost, seconds=0, judge_seconds=0) for one in (ours, theirs)]
        assert counts[0] == counts[1]


def test_a_batch_is_no_larger_than_a_pass() -> None:
    generator = Counting(paths_per_pass=9)
    search_many(PROMPTS, SEEDS, generator=generator, verifier=ToyVerifier(), n=4)
    assert generator.batches == [8, 4]
    generator = Counting(paths_per_pass=2)
    search_many(PROMPTS, SEEDS, generator=generator, verifier=ToyVerifier(), n=4)
    assert generator.batches == [4, 4, 4]  # a search that may compare its paths is not taken apart


def test_seconds_of_a_batch_are_those_of_its_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt pays for the batches that it is in, by its rows: not for those that others need after it."""
    import imagecot.strategies.many as module

    generator, passes = Counting(paths_per_pass=8), [0]
    advance = generator.advance

    def counted(paths):
        passes[0] += 1
        return advance(paths)

    generator.advance = counted  # type: ignore[method-assign]
    monkeypatch.setattr(module.time, "perf_counter", lambda: float(passes[0]))
    models = {"generator": generator, "verifier": ToyVerifier(), "strategy": "adaptive", "n": 8, "share": 0.25}
    traces = search_many(["a cup", "two cups"], [1, 2], threshold=0.65, **models)
    few, many = sorted(traces, key=lambda trace: len(trace.candidates))
    rounds = len(many.candidates) // 2
    assert len(few.candidates) == 2 < len(many.candidates)  # the case has one that ends at once
    assert few.cost.seconds == generator.steps / 2
    assert many.cost.seconds == generator.steps / 2 + generator.steps * (rounds - 1)


def test_batches_of_a_few_prompts_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    import imagecot.strategies.many as module

    models = {"generator": tiny_generator(steps=STEPS), "verifier": Scripted(), "n": 2}
    whole = search_many(PROMPTS, SEEDS, **models)
    monkeypatch.setattr(module, "LARGEST_GROUP", 4)
    parts = search_many(PROMPTS, SEEDS, **models)
    assert [t.choice.seed for t in whole] == [t.choice.seed for t in parts]


def test_nothing_is_judged_before_the_first_step() -> None:
    n, first = 4, 3
    models = {"generator": tiny_generator(steps=STEPS), "strategy": "parm", "n": n, "seed": 3}
    verifier = Scripted(0.0, 0.0)
    late = search(PROMPT, verifier=verifier, first_step=first, **models)
    assert {c.first_clear for c in late.candidates} == {first}
    assert late.settings["first_step"] == first
    assert late.cost.judge_calls == n * 3  # clarity and potential once, then the final question
    assert late.cost.previews == n * 2
    usual = search(PROMPT, verifier=Scripted(0.0, 0.0), **models)
    assert {c.first_clear for c in usual.candidates} == {1}
    assert "first_step" not in usual.settings


def test_wrong_requests() -> None:
    models = {"generator": tiny_generator(steps=STEPS), "verifier": Scripted()}
    with pytest.raises(UsageError, match="first_step: it must be from 1 to 5, not 6"):
        search(PROMPT, strategy="parm", first_step=6, **models)
    with pytest.raises(UsageError, match="best-of-n has no option 'first_step'"):
        search(PROMPT, first_step=2, **models)
    with pytest.raises(UsageError, match="2 prompts do not go with 1 seeds"):
        search_many(["cat", "dog"], [1], **models)


def test_states_and_their_end() -> None:
    generator = tiny_generator(steps=3)
    start = generator.start(["cat"], torch.tensor([5]))
    every = list(states(generator, start))
    assert [paths.step for paths in every] == [1, 2, 3]
    assert torch.equal(finish(generator, every[0]).codes, every[-1].codes)
    assert finish(generator, every[-1]) is every[-1]


def test_the_command_line_takes_a_first_step(imagecot, tmp_path) -> None:
    folder, judge = write_generator(tmp_path / "generator"), write_verifier(tmp_path / "verifier")
    call = ("generate", "a photo of a red apple", "--generator", str(folder), "--verifier", str(judge), "--out", "run")
    more = (*call, "--search", "parm", "-n", "2", "--first-step", "3")
    assert imagecot(*more)[0] == 0
    header = json.loads((tmp_path / "run" / "trace.jsonl").read_text().splitlines()[0])
    assert header["settings"]["first_step"] == 3
    assert "finished before" in imagecot(*more)[1]
    code, _, told = imagecot(*call, "--search", "parm", "-n", "2")
    assert code == 2
    assert "first_step 3, not 1" in told
    plain = ("other", "--search", "best-of-n", "-n", "2", "--first-step", "2")
    assert imagecot(*call[:-1], *plain)[0] == 2
