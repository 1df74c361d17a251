"""hierarchical, resample and rewind: who goes on, under which seeds, what that costs, and what a trace says of it."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from imagecot.contracts.paths import UNDECIDED, finish
from imagecot.contracts.randomness import Stream, fork_seeds, path_seeds, uniforms
from imagecot.contracts.verifier import Conversation, Usage
from imagecot.errors import ImagecotError, UsageError
from imagecot.strategies.hierarchical import HierarchicalSettings, width
from imagecot.strategies.resample import systematic
from imagecot.strategies.resume import Partial
from imagecot.strategies.search import search
from imagecot.strategies.trace import Trace
from masked import logits_of
from plain_decoder import tiny_generator
from small_models import Flat

torch.set_num_threads(1)
PROMPT, STEPS, SEED = "a photo of a red apple", 6, 3


@dataclass
class Bright:
    """Likes bright images, whatever it is asked; notes how many."""

    usage: Usage = field(default_factory=Usage)
    asked: list[tuple[str, int]] = field(default_factory=list)
    settings: ClassVar[dict[str, object]] = {}

    def ask(self, images: Tensor, prompts, question, after: Conversation | None = None) -> Tensor:
        self.asked.append((question.name, len(images)))
        self.usage += Usage(judge_calls=len(images))
        return images.mean((1, 2, 3))

    def begin(self, images: Tensor, prompts, question) -> tuple[Tensor, Conversation]:
        return self.ask(images, prompts, question), Conversation(question, torch.zeros(len(images)))


@dataclass
class Refusing(Bright):
    """Says no to what is darker than a level."""

    least: float = 1.0

    def ask(self, images: Tensor, prompts, question, after: Conversation | None = None) -> Tensor:
        return torch.where(super().ask(images, prompts, question, after) >= self.least, 0.9, 0.1)


def run(strategy: str, n: int, verifier: Bright | None = None, **more) -> Trace:
    return search(
        PROMPT,
        generator=tiny_generator(steps=STEPS),
        verifier=verifier or Bright(),
        strategy=strategy,
        n=n,
        seed=SEED,
        **more,
    )


def levels(seeds: Tensor) -> list[list[float]]:
    """The brightness of the preview of each path after each step."""
    generator = tiny_generator(steps=STEPS)
    paths, table = generator.start([PROMPT], seeds), []
    while not paths.finished:
        paths = generator.advance(paths)
        table.append(generator.preview(paths).mean((1, 2, 3)).tolist())
    return [[step[k] for step in table] for k in range(len(seeds))]


# --- hierarchical


def test_the_width_is_that_of_the_formula():
    settings = HierarchicalSettings(decay=2.0, least=3)
    assert [width(20, settings, step) for step in range(5)] == [20, 10, 5, 3, 3]
    assert width(2, settings, 0) == 2


def test_without_forks_the_best_of_fewer_paths_go_on():
    """Every choice redone by hand: who is darkest at a step stops there, and is asked and drawn no more."""
    n, first, settings = 8, 2, {"decay": 2.0, "least": 1}
    table = levels(path_seeds(SEED, n))
    trace = run("hierarchical", n, first_step=first, **settings)
    alive, rows, asked = list(range(n)), 2 * n * first, 0
    for step in range(first, STEPS):
        wide = max(n // 2 ** (step - first), 1)
        if wide < len(alive):
            asked += len(alive)
            alive = sorted(sorted(alive, key=lambda k: -table[k][step - 1])[:wide])
        for k, candidate in enumerate(trace.candidates):
            assert (candidate.truncated_at is not None and candidate.truncated_at <= step) == (k not in alive)
        rows += 2 * len(alive)
    assert (trace.cost.generator_rows, len(trace.candidates)) == (rows, n)
    assert trace.cost.judge_calls == trace.cost.previews == asked + len(alive)
    assert trace.chosen == alive[0]
    assert trace.choice.score == pytest.approx(table[alive[0]][-1], abs=2e-4)


def test_survivors_are_forked_so_that_the_width_is_used():
    n, first = 6, 3
    trace = run("hierarchical", n, first_step=first, decay=1.0, forks=2)
    drawn, forks = trace.candidates[:n], trace.candidates[n:]
    assert all(candidate.forks is None for candidate in drawn)
    assert len(forks) == 3 * (STEPS - first)  # half of the width is new at each of these steps
    seeds = [candidate.seed for candidate in trace.candidates]
    assert len(set(seeds)) == len(seeds)
    for candidate in forks:
        parent = trace.candidates[candidate.forks]
        assert first <= candidate.forked_at < STEPS
        assert candidate.seed in fork_seeds(torch.tensor([parent.seed]), STEPS).tolist()
        assert all(verdict.step > candidate.forked_at for verdict in candidate.verdicts)
    assert trace.cost.generator_rows == 2 * n * STEPS


def test_a_fork_is_its_parent_until_it_leaves_and_its_seed_from_there():
    n, first = 4, 3
    trace = run("hierarchical", n, first_step=first, decay=1.0, forks=4)
    generator = tiny_generator(steps=STEPS)
    fork = next(candidate for candidate in trace.candidates if candidate.forked_at == first)
    parent = trace.candidates[fork.forks]
    assert torch.equal(fork.codes[first], parent.codes[first])
    paths = generator.start([PROMPT], torch.tensor([parent.seed]))
    for step in range(1, fork.truncated_at or STEPS + 1):
        paths = generator.advance(paths)
        assert torch.equal(generator.predicted(paths)[0].int(), fork.codes[step].int())
        if step == first:
            paths = paths.select([0], torch.tensor([fork.seed]))


def test_steps_that_a_path_does_not_have_are_refused():
    with pytest.raises(UsageError, match=r"first_step: .*it must be from 1 to 5"):
        run("hierarchical", 2, first_step=STEPS)
    assert run("resample", 2, first_step=STEPS - 1).kept == 2


# --- resample


def test_systematic_draws_are_in_proportion():
    assert systematic([1, 1, 1, 1], 4, 0.5) == [0, 1, 2, 3]
    assert systematic([0, 3, 1], 4, 0.1) == [1, 1, 1, 2]
    assert systematic([0, 0, 1], 3, 0.0) == [2, 2, 2]
    counts = Counter(index for k in range(100) for index in systematic([0.5, 0.3, 0.2], 10, k / 100))
    assert counts == {0: 500, 1: 300, 2: 200}


def test_paths_are_drawn_again_by_their_weights():
    n, step, sharpness = 6, 3, 30.0
    seeds = path_seeds(SEED, n)
    said = [row[step - 1] for row in levels(seeds)]
    weights = torch.tensor([sharpness * p for p in said], dtype=torch.float64).softmax(0)
    points = (float(uniforms(seeds[:1], step, Stream.CHOICES, 1)) + torch.arange(n)) / n
    wanted = torch.searchsorted(weights.cumsum(0), points.double(), right=True).tolist()
    trace = run("resample", n, first_step=step, times=1, sharpness=sharpness)
    assert len(set(wanted)) < n  # the case draws some twice
    for k in range(n):
        forks = [c for c in trace.candidates if c.forks == k]
        assert (trace.candidates[k].truncated_at is None) == (k in wanted)
        assert len(forks) == max(wanted.count(k) - 1, 0)
    assert trace.kept == n
    assert trace.cost.generator_rows == 2 * n * STEPS
    assert trace.cost.judge_calls == 2 * n


def test_equal_weights_draw_every_path_once_and_a_share_draws_fewer():
    flat = run("resample", 6, sharpness=0.0)
    assert [c.truncated_at for c in flat.candidates] == [None] * 6
    assert flat.cost.judge_calls == 3 * 6
    half = run("resample", 6, first_step=2, times=2, keep=0.5)
    # Six until step 2, three until step 4, two from there.
    assert half.cost.generator_rows == 2 * (6 * 2 + 3 * 2 + 2 * 2)
    assert half.kept == 2


# --- rewind


def test_what_is_refused_goes_back_and_its_doubtful_codes_alone_are_drawn_anew():
    n, middle, back = 6, 3, 0.4
    seeds = path_seeds(SEED, n)
    table = levels(seeds)
    least = sum(sorted(row[middle - 1] for row in table)[2:4]) / 2
    generator, verifier = tiny_generator(steps=STEPS), Refusing(least=least)
    trace = run("rewind", n, verifier, first_step=middle, back=back)
    refused = [k for k in range(n) if table[k][middle - 1] < least]
    assert [k for k in range(n) if trace.candidates[k].truncated_at == middle] == refused
    again = trace.candidates[n:]
    assert [candidate.forks for candidate in again] == refused
    paths = generator.start([PROMPT], seeds)
    for _ in range(middle):
        paths = generator.advance(paths)
    sure = generator.confidence(paths)
    for candidate in again:
        row = candidate.forks
        drawn = [k for k in range(16) if paths.codes[row, k] != UNDECIDED]
        lost = sorted(drawn, key=lambda k: float(sure[row, k]))[: -int(-back * len(drawn) // 1)]
        assert candidate.forked_at < middle
        assert candidate.seed == int(fork_seeds(seeds[[row]], 1))
        final, kept = candidate.codes[STEPS].tolist(), set(drawn) - set(lost)
        assert all(final[k] == int(paths.codes[row, k]) for k in kept)
    assert any(candidate.codes[STEPS].tolist() != paths.codes[candidate.forks].tolist() for candidate in again)
    anew = sum(STEPS - candidate.forked_at for candidate in again)
    rows = n * middle + (n - len(refused)) * (STEPS - middle) + anew + 2 * len(refused)
    assert trace.cost.generator_rows == 2 * rows
    assert trace.cost.judge_calls == n + n  # every path once on its way, and every image that was finished


def test_paths_go_back_as_often_as_is_said():
    trace = run("rewind", 3, Refusing(least=2.0), first_step=3, tries=3)
    assert len(trace.candidates) == 3 * 4
    assert [c.truncated_at is None for c in trace.candidates] == [False] * 9 + [True] * 3
    assert [c.forks for c in trace.candidates[3:]] == list(range(9))
    assert trace.chosen >= 9


def test_a_path_may_go_back_to_its_beginning(tmp_path):
    trace = run("rewind", 2, Refusing(least=2.0), back=1.0, folder=tmp_path / "out")
    assert [c.forked_at for c in Trace.load(tmp_path / "out").candidates[2:]] == [0, 0]
    assert trace.kept == 2


def test_nobody_goes_back_where_everybody_is_liked():
    trace = run("rewind", 4, Refusing(least=-1.0))
    assert (len(trace.candidates), trace.kept) == (4, 4)
    assert trace.cost.generator_rows == 2 * 4 * STEPS


def test_a_generator_that_cannot_go_back_is_refused_in_a_sentence():
    with pytest.raises(UsageError, match="rewind takes codes back and draws them anew, which this generator cannot"):
        search(PROMPT, generator=Flat(steps=3), verifier=Bright(), strategy="rewind", n=2)


def test_confidence_is_the_probability_given_the_codes_that_are_seen():
    """Of a path of which nothing is hidden but one half at a time; and it depends on the path alone."""
    generator = tiny_generator(steps=STEPS)
    paths = generator.start([PROMPT], path_seeds(1, 3))
    assert torch.equal(generator.confidence(paths), torch.zeros(3, 16))
    done = finish(generator, paths)
    found = generator.confidence(done)
    half = uniforms(done.seeds, done.step, Stream.POSITIONS, 16) < 0.5
    for hidden in (half, ~half):
        codes = done.codes.masked_fill(hidden, UNDECIDED)
        logits = logits_of(generator, codes, done.prompt_index, done.shared)
        wanted = logits.softmax(1).gather(1, done.codes[hidden][:, None])[:, 0]
        torch.testing.assert_close(found[hidden], wanted, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(generator.confidence(done.select([1])), found[1:2], atol=1e-5, rtol=1e-4)


# --- traces, groups and interruptions


SEARCHES = [
    ("hierarchical", {"first_step": 2, "forks": 2}),
    ("resample", {"first_step": 2, "sharpness": 400.0}),
    ("rewind", {"first_step": 3, "tries": 2}),
]


@pytest.mark.parametrize(("strategy", "options"), SEARCHES)
def test_a_trace_keeps_where_forks_come_from_and_shows_them(strategy, options, tmp_path):
    trace = run(strategy, 5, Refusing(least=2.0) if strategy == "rewind" else None, folder=tmp_path / "out", **options)
    back = Trace.load(tmp_path / "out")
    assert [(c.forks, c.forked_at) for c in back.candidates] == [(c.forks, c.forked_at) for c in trace.candidates]
    assert any(candidate.forks is not None for candidate in back.candidates)
    assert back.choice.image is not None
    forks = [candidate for candidate in trace.candidates if candidate.forks is not None]
    assert all(set(range(1, candidate.forked_at + 1)) <= {*candidate.codes} for candidate in forks)


class _Cut(Exception):
    """Ends a run."""


@pytest.mark.parametrize(("strategy", "options"), SEARCHES)
def test_a_killed_run_goes_on_behind_its_last_stretch(strategy, options, tmp_path: Path, monkeypatch):
    """Killed behind each unit in turn; what was drawn before is not drawn again."""
    whole = run(strategy, 5, Refusing(least=2.0) if strategy == "rewind" else None, **options)
    save, rows = Partial.save, []
    for after in (1, 2, 3):
        left = [after]

        def killing(self, unit, candidates, cost, left=left):
            save(self, unit, candidates, cost)
            left[0] -= 1
            if left[0] == 0:
                raise _Cut

        verifier = Refusing(least=2.0) if strategy == "rewind" else Bright()
        folder = tmp_path / str(after)
        monkeypatch.setattr(Partial, "save", killing)
        with pytest.raises((_Cut, ImagecotError)):
            run(strategy, 5, verifier, folder=folder, **options)
        monkeypatch.setattr(Partial, "save", save)
        verifier.usage = Usage()
        found = run(strategy, 5, verifier, folder=folder, **options)
        assert found.candidates == whole.candidates
        assert found.chosen == whole.chosen
        assert found.cost.generator_rows == whole.cost.generator_rows
        assert found.cost.judge_calls == whole.cost.judge_calls
        rows.append(verifier.usage.judge_calls)
    assert whole.cost.judge_calls > rows[0] > rows[1] > rows[2]


def test_large_numbers_of_paths_are_several_populations(monkeypatch):
    import imagecot.strategies.run as module

    monkeypatch.setattr(module, "LARGEST_GROUP", 3)
    trace = run("resample", 6, first_step=2, sharpness=400.0)
    own = [k for k, candidate in enumerate(trace.candidates) if candidate.forks is None]
    second = own[3]
    assert [trace.candidates[k].seed for k in own] == path_seeds(SEED, 6).tolist()
    assert all(c.forks is None or (c.forks < second) == (k < second) for k, c in enumerate(trace.candidates))
    assert trace.kept == 6


def test_a_search_that_keeps_nobody_is_named():
    class Nobody:
        from imagecot.strategies.options import NoSettings as Settings

        needs = frozenset({"verifier"})

        def paths(self, n):
            return n

        def choose(self, run):
            return run.population(lambda run, paths, candidates: [], [1])

        def replay(self, recorded, settings):
            return None

    with pytest.raises(ImagecotError, match=r"Nobody.select returns .*let it return a list of rows that go on"):
        search(PROMPT, generator=tiny_generator(steps=STEPS), verifier=Bright(), strategy=Nobody(), n=2)
