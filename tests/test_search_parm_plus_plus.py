"""parm++: what is told to the generator, when the rounds end, who wins, and that a resumed run is the same."""

import json
from dataclasses import dataclass, field

import pytest
import torch

from imagecot.contracts.correction import Correction
from imagecot.contracts.randomness import fork_seeds, path_seeds
from imagecot.contracts.reflection import Reflection
from imagecot.contracts.search import Candidate, Verdict
from imagecot.contracts.verifier import Usage
from imagecot.errors import ImagecotError, UsageError
from imagecot.images import from_picture
from imagecot.strategies.parm import Parm
from imagecot.strategies.parm_plus_plus import correct
from imagecot.strategies.request import Request
from imagecot.strategies.run import Run
from imagecot.strategies.search import search
from imagecot.strategies.trace import Trace, shown
from plain_decoder import tiny_generator
from test_search_parm import Scripted

PROMPT = "a photo of a red apple by night"  # says more than GenEval's templates, so that reasons are written

torch.set_num_threads(1)
STEPS = 3
WRONG = Reflection("no, there is no apple.", 0.2)
FINE = Reflection("yes", 0.9)


@dataclass
class Reflecting(Scripted):
    """Never finds a preview clear; says of images what it was given, in order."""

    clear_above: float = 2.0
    says: list[Reflection] = field(default_factory=list)
    seen: list[torch.Tensor] = field(default_factory=list)
    stop_after: int = 99

    def reflect(self, images, prompts) -> list[Reflection]:
        if len(self.seen) == self.stop_after:
            raise KeyboardInterrupt
        self.seen += list(images)
        self.usage += Usage(judge_calls=len(images), tokens_judged=11)
        return [self.says.pop(0)]


def run(verifier, n: int = 5, **more) -> Trace:
    return search(
        PROMPT, generator=tiny_generator(steps=STEPS), verifier=verifier, strategy="parm++", n=n, seed=3, **more
    )


def drawn_by_hand(seeds, history=None):
    generator = tiny_generator(steps=STEPS)
    paths = generator.correct([PROMPT], seeds, history) if history else generator.start([PROMPT], seeds)
    while not paths.finished:
        paths = generator.advance(paths)
    return paths, generator.preview(paths).mean((1, 2, 3)).tolist()


def test_rounds_by_hand():
    """Two rounds redone outside the search: seeds, what is told, the winner of each round, and the cost."""
    n = 10
    first, levels = drawn_by_hand(path_seeds(3, n))
    winner = max(range(n), key=levels.__getitem__)
    history = [Correction(first.codes[winner], "there is no apple.")]
    second, again = drawn_by_hand(fork_seeds(first.seeds[winner : winner + 1], 2), history)
    best = max(range(2), key=again.__getitem__)
    history = [Correction(second.codes[best], "we see two.")]
    _, third = drawn_by_hand(fork_seeds(second.seeds[best : best + 1], 2), history)
    verifier = Reflecting(says=[WRONG, Reflection("No: we see two.", 0.0), FINE])
    trace = run(verifier, n)
    scores = [candidate.score for candidate in trace.candidates]
    assert scores == pytest.approx([*levels, *again, *third], abs=2e-4)
    assert trace.chosen == max(range(14), key=scores.__getitem__)
    last = 12 + max(range(2), key=third.__getitem__)
    assert [(r.candidate, r.drawn) for r in trace.rounds] == [(winner, [10, 11]), (10 + best, [12, 13]), (last, [])]
    assert [r.reflection for r in trace.rounds] == [WRONG, Reflection("No: we see two.", 0.0), FINE]
    assert [c.round for c in trace.candidates] == [0] * 10 + [1, 1, 2, 2]
    for image, found in zip(verifier.seen, trace.rounds, strict=True):
        assert torch.equal(image, from_picture(trace.candidates[found.candidate].image))
    assert trace.candidates[winner].verdicts[-1] == Verdict(STEPS, "reflection", 0.2)
    assert trace.cost.generator_rows == 2 * STEPS * 14
    assert trace.cost.judge_calls == n * (STEPS - 1) + 14 + 3
    assert trace.cost.tokens_judged == 33


def test_a_yes_ends_it_at_once():
    trace = run(Reflecting(says=[FINE]))
    assert len(trace.candidates) == 5
    assert [(r.candidate, r.drawn) for r in trace.rounds] == [(trace.chosen, [])]


def test_another_generator_may_correct():
    corrector = tiny_generator(steps=STEPS, guidance_scale=0)
    trace = run(Reflecting(says=[WRONG, FINE]), corrector=corrector, names={"corrector": "c"})
    own = run(Reflecting(says=[WRONG, FINE]))
    assert [c.score for c in trace.candidates[:5]] == [c.score for c in own.candidates[:5]]
    assert trace.candidates[5].score != own.candidates[5].score
    rejected = trace.candidates[trace.rounds[0].candidate]
    history = [Correction(rejected.codes[STEPS], WRONG.reasons)]
    paths = corrector.correct([PROMPT], fork_seeds(torch.tensor([rejected.seed]), 1), history)
    while not paths.finished:
        paths = corrector.advance(paths)
    assert torch.equal(trace.candidates[5].codes[STEPS].long(), paths.codes[0])
    assert trace.settings["corrector"] == "c"
    assert trace.cost.generator_rows == 2 * STEPS * 5 + STEPS  # without guidance a path is one row
    with pytest.raises(UsageError, match="takes 2 steps and the generator 3"):
        run(Reflecting(), corrector=tiny_generator(steps=2))
    with pytest.raises(UsageError, match="parm corrects nothing"):
        search(PROMPT, generator=corrector, verifier=Reflecting(), strategy="parm", n=2, corrector=corrector)


def test_three_rounds_at_most_and_one_path_at_least():
    trace = run(Reflecting(says=[WRONG] * 9), n=1)
    assert len(trace.rounds) == 3
    assert [c.corrects for c in trace.candidates] == [None, 0, 1, 2]


@pytest.mark.parametrize(
    ("odd", "told", "problem"),
    [
        (Reflection("", 0.1), "", "empty"),
        (Reflection("no", 0.1), "", "empty"),
        (Reflection("no, " + "no apple. " * 300, 0.1, False), "no apple. " * 299 + "no apple.", "endless"),
        (Reflection("yes, it is right", 0.1), "", "contradicts itself"),
        (Reflection("no, the apple is red, not green. the apple is green, not red.", 0.1),
         "the apple is red, not green. the apple is green, not red.", None),
        (Reflection("\x00\ufffd \ud7ff {}", 0.1), "\x00\ufffd \ud7ff {}", None),
    ],
)  # fmt: skip
def test_odd_reflections_do_no_harm_and_are_noted(odd, told, problem, tmp_path):
    trace = run(Reflecting(says=[odd, FINE]), folder=tmp_path)
    again = Trace.load(tmp_path)
    assert [found.reflection for found in again.rounds] == [odd, FINE]
    lines = [json.loads(line) for line in (tmp_path / "trace.jsonl").read_text().splitlines()]
    (line, *_) = [line["reflection"] for line in lines if line.get("reflection", {}).get("p_yes") == 0.1]
    assert line["problem"] == problem
    first = trace.candidates[trace.rounds[0].candidate]
    seeds = fork_seeds(torch.tensor([first.seed]), 1)
    _, level = drawn_by_hand(seeds, [Correction(first.codes[STEPS], told)])
    assert trace.candidates[5].score == pytest.approx(level[0], abs=2e-4)


@pytest.mark.parametrize("stop_after", [0, 1, 2])
def test_an_interrupted_search_ends_as_an_undisturbed_one(stop_after, tmp_path):
    says = [WRONG, WRONG, FINE]
    whole = run(Reflecting(says=list(says)), folder=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(Reflecting(says=list(says), stop_after=stop_after), folder=tmp_path / "cut")
    verifier = Reflecting(says=says[stop_after:])
    resumed = run(verifier, folder=tmp_path / "cut")
    assert len(verifier.seen) == 3 - stop_after
    assert resumed.candidates == whole.candidates
    assert resumed.rounds == whole.rounds
    assert (resumed.cost.generator_rows, resumed.cost.judge_calls) == (
        whole.cost.generator_rows,
        whole.cost.judge_calls,
    )
    for name in ("image.png", "steps.png"):
        if name == "image.png":
            assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert Trace.load(tmp_path / "cut").rounds == whole.rounds


def test_less_can_be_told():
    told = []

    def nothing(codes, reflection):
        told.append((codes, reflection))
        return Correction(None)

    verifier = Reflecting(says=[WRONG] * 3)
    working = Run(Request(PROMPT, tiny_generator(steps=STEPS), verifier, "parm++", 4, 3))
    first = Parm().choose(working)
    candidates, best = [*first.candidates], first.index
    correct(working, candidates, best, nothing)
    assert [c.reflection for c in candidates if c.reflection] == [WRONG] * 3
    assert [reflection for _, reflection in told] == [WRONG] * 3
    _, level = drawn_by_hand(fork_seeds(torch.tensor([candidates[best].seed]), 1))
    assert candidates[4].score == pytest.approx(level[0], abs=2e-4)


def test_a_damaged_answer_is_said():
    with pytest.raises(ImagecotError, match="not a probability"):
        run(Reflecting(says=[Reflection("no", float("nan"))]))


def test_the_picture_shows_the_best_of_every_round():
    drawn = [Candidate(k, score=k / 10) for k in range(9)]
    stopped = [Candidate(k, truncated_at=2) for k in (20, 21)]
    corrected = [Candidate(30 + k, score=0.5 + k / 10, round=1 + k // 3, corrects=8) for k in range(6)]
    assert shown(drawn + stopped) == [8, 7, 6, 5, 4, 3, 9, 10]
    assert shown(drawn + stopped + corrected) == [8, 7, 9, 10, 13, 12, 16, 15]
