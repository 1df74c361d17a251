"""`imagecot calibrate`: replays beside real searches, hand-worked pools, the rule, the advice, and what is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from imagecot.calibration.advice import write_advice
from imagecot.calibration.choice import checked, chosen, frontier
from imagecot.calibration.compare import ALONE, CALLS, PREVIEWS, ROWS, TOGETHER, Compared, Comparing, Tried, compare
from imagecot.calibration.costs import Cost, Costs, _line
from imagecot.calibration.pools import PoolRow, Said
from imagecot.checks.toys import ToyGenerator, ToyVerifier
from imagecot.contracts.questions import CLARITY, ORM, POTENTIAL
from imagecot.contracts.randomness import path_seeds
from imagecot.errors import UsageError
from imagecot.search_config import search_defaults
from imagecot.strategies.options import validated
from imagecot.strategies.replay import NotRecordedError, Recorded, Spent, replay
from imagecot.strategies.search import search
from imagecot.study.audit import answers_about
from imagecot.study.searches import strategy_named

torch.set_num_threads(1)
PROMPT, SEED, N, STEPS = "a cup", 3, 6, 4
JUDGE = "imagecot.checks.toys:ToyVerifier"
TOYS = ("--generator", "imagecot.checks.toys:ToyGenerator", "--verifier", JUDGE)


def recorded() -> Recorded:
    """What the toy verifier says of the toy generator's paths after every step."""
    generator, verifier, seen = ToyGenerator(), ToyVerifier(), {}
    paths = generator.start([PROMPT], path_seeds(SEED, N))
    while not paths.finished:
        paths = generator.advance(paths)
        said = answers_about(verifier, generator.preview(paths), PROMPT, [q.name for q in (ORM, CLARITY, POTENTIAL)])
        seen |= {(paths.step, name): answers for name, answers in said.items()}
    return Recorded(STEPS, seen.pop((STEPS, "orm")), seen)


def settings(name: str, **said):
    found = validated(strategy_named(name), said, {"steps": STEPS})
    assert not isinstance(found, ValueError), found
    return found


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("best-of-n", {}),
        ("single", {}),
        ("adaptive", {"threshold": 0.6, "share": 0.34}),
        ("adaptive", {"threshold": 1.0, "share": 0.5, "keep": 0.4, "first_step": 3}),
        ("hierarchical", {"first_step": 1, "decay": 1.5}),
        ("parm", {}),
        ("parm", {"first_step": 2, "keep": 0.5}),
    ],
)
def test_a_replay_finds_and_counts_what_the_search_does(name, said):
    n = 1 if name == "single" else N
    trace = search(PROMPT, generator=ToyGenerator(), verifier=ToyVerifier(), strategy=name, n=n, seed=SEED, **said)
    taken, spent = replay(strategy_named(name), settings(name, **said), recorded(), range(n))
    assert path_seeds(SEED, N)[taken] == trace.choice.seed
    assert spent.items["step"] == trace.cost.generator_rows
    assert spent.items["preview"] + spent.items["decode"] == trace.cost.previews
    asked = sum(spent.items[question] for question in ("orm", "clarity", "potential"))
    assert asked == trace.cost.judge_calls


@pytest.mark.parametrize(
    ("name", "said", "told"),
    [
        ("hierarchical", {"first_step": 1, "decay": 1.5, "forks": 2}, "forks paths"),
        ("resample", {"sharpness": 1000.0}, "forks paths"),
        ("parm++", {}, "draws paths of its own"),
        ("stepwise", {}, "forks paths"),
    ],
)
def test_what_no_record_holds_is_not_replayed(name, said, told):
    with pytest.raises(NotRecordedError, match=told):
        replay(strategy_named(name), settings(name, **said), recorded(), range(N))


def test_a_preview_that_nobody_asked_about_is_not_replayed():
    without = replace(recorded(), seen={})
    assert replay(strategy_named("adaptive"), settings("adaptive"), without, range(N))[0] in range(N)
    with pytest.raises(NotRecordedError, match="the question orm after step 2"):
        replay(strategy_named("adaptive"), settings("adaptive", keep=0.5), without, range(N))


def row(number: int, final, right, seen=()) -> PoolRow:
    return PoolRow(
        number=number,
        prompt=f"prompt {number}",
        steps=STEPS,
        final=final,
        seen=[*seen],
        right=[right],
        began=0,
        ended=0,
    )


UNITS = {"step": (3, 1), "preview": (0, 2), "decode": (0, 2), "orm": (1, 4)}
COSTS = Costs(units={unit: Cost(call=call, each=each) for unit, (call, each) in UNITS.items()})


def test_a_hand_worked_pool():
    """Of the first prompt every path passes and is right; of the second none, and one of two is right."""
    rows = [row(0, [0.9, 0.9], [1, 1]), row(1, [0.1, 0.2], [1, 0])]
    comparing = Comparing(rows, COSTS, orders=4, seed=0)
    best = comparing.tried("best-of-n", strategy_named("best-of-n"), settings("best-of-n"))
    found = comparing.tried("adaptive", strategy_named("adaptive"), settings("adaptive", threshold=0.5, share=0.5))
    one = Compared(found, best)
    assert best.right.tolist() == found.right.tolist() == [[1, 0]]
    # One round of a path, and two of them: 4 steps, a decoded image and an answer of each path.
    assert found.spent[ROWS].tolist() == [4, 8]
    assert found.spent[CALLS].tolist() == found.spent[PREVIEWS].tolist() == [1, 2]
    assert found.spent[TOGETHER].tolist() == [10, 20]
    assert found.spent[ALONE].tolist() == [10 + 4 * 3 + 1, 20 + 2 * 13]
    assert best.spent[ALONE].tolist() == [20 + 13, 20 + 13]
    assert (one.share(ROWS), one.share(ALONE), one.difference(), one.error()) == (12 / 16, 69 / 66, 0, 0)
    lower = comparing.tried("adaptive", strategy_named("adaptive"), settings("adaptive", threshold=0.1, share=0.5))
    # Of the second prompt the first path is taken, whichever it is: right in as many orders as the wrong one is second.
    assert Compared(lower, best).difference() == pytest.approx(100 * lower.right[0, 1] / 2)
    assert 0 < lower.right[0, 1] < 1


def tried(points: list[float], seconds: float) -> Compared:
    """Settings with these differences by prompt."""
    right = np.array([[0.5 + p / 100 for p in points]])
    spent = np.full((5, len(points)), seconds)
    best = Tried("best-of-n", {}, np.full(right.shape, 0.5), np.ones((5, len(points))))
    return Compared(Tried("x", {"seconds": seconds}, right, spent), best)


def test_the_fastest_is_taken_whose_loss_and_error_are_small():
    lossy, unsure = tried([-5, -5, -5, -5], 0.1), tried([4, -4, 0, 0], 0.2)
    fine, slow = tried([-0.5, -0.5, -0.5, -0.5], 0.4), tried([0, 0, 0, 0], 0.8)
    every = [slow, fine, unsure, lossy]
    assert unsure.error() == pytest.approx((32 / 4 / 3) ** 0.5)  # 1.6 points, so that no loss of 1 is excluded
    assert chosen(every, 1.0) is fine
    assert chosen(every, 2.0) is unsure
    assert chosen(every, 0.1) is slow
    assert chosen(every, 10) is lossy
    assert chosen([lossy, unsure], 0.0) is unsure  # nothing loses so little: the least of both
    assert frontier(every) == [lossy, unsure]
    assert frontier([slow, fine, lossy]) == [lossy, fine, slow]


def test_the_rule_is_checked_on_other_prompts():
    good, bad = tried([0.0] * 8, 0.5), tried([-40.0] + [0.0] * 7, 0.1)
    points, error, seconds = checked([good, bad], 1.0)
    # The bad one is taken exactly where the prompt on which it fails is among those that are scored.
    assert -40 / 8 <= points < 0
    assert error > 0
    assert 0.1 < seconds < 0.5
    assert checked([tried([0.0] * 3, 0.5)], 1.0) is None


def test_a_cost_is_the_line_through_two_measurements():
    def line(sizes, seconds) -> tuple[float, float]:
        found = _line(sizes, seconds)
        return round(found.call, 9), round(found.each, 9)

    assert line((4, 20), (0.5, 0.9)) == (0.4, 0.025)
    assert line((4, 20), (1.0, 0.9)) == (0.9, 0.0)
    assert line((4, 20), (0.1, 0.9)) == (0.0, 0.045)
    assert line((2, 2), (0.1, 0.2)) == (0.0, 0.1)
    spent = Spent()
    spent.add("orm", 3)
    spent.add("orm", 1)
    assert (COSTS.together(spent), COSTS.alone(spent)) == (16, 18)


def test_trials_are_tried_once_and_those_that_cannot_be_are_counted():
    seen = [Said(step=2, question="orm", p_yes=[0.5, 0.1, 0.2, 0.3])]
    rows = [row(k, [0.1, 0.9, 0.5, 0.7], [0, 1, 0, 0], seen) for k in range(2)]
    found, left_out = compare("adaptive", Comparing(rows, COSTS, 1, 0), lambda done, of, note="": None)
    assert left_out > 0
    told = [json.dumps(one.tried.settings, sort_keys=True) for one in found]
    assert len({*told}) == len(told) > 10
    halves = [one.tried.settings for one in found if one.tried.settings.get("share") == 0.5]
    assert {one["first_step"] for one in halves if "keep" in one} == {2}


def test_advice_joins_what_the_folder_says(tmp_path):
    folder = tmp_path / "verifier"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"")
    said = {"searches": {"parm": {"keep": 0.3}, "adaptive": {"fall": 0.5}}, "questions": {"orm": "{prompt}?"}}
    (folder / "search_config.json").write_text(json.dumps(said))
    write_advice(str(folder), {"adaptive": {"threshold": 0.7}})
    kept = json.loads((folder / "search_config.json").read_text())
    assert kept == {**said, "searches": {"parm": {"keep": 0.3}, "adaptive": {"threshold": 0.7}}}
    assert search_defaults(str(folder)).searches["adaptive"] == {"threshold": 0.7}
    with pytest.raises(UsageError, match="has no folder"):
        write_advice(JUDGE, {})


@pytest.fixture
def prompts(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("a cup\n\ntwo cups\na chair on a table\n")
    return file


def test_the_command_draws_once_and_advises(imagecot, prompts):
    call = ("calibrate", "adaptive", "hierarchical", *TOYS, "--prompts", str(prompts), "--judge", "self", "-n", "4")
    code, _, err = imagecot(*call)
    assert code == 2 and "imagecot.checks.toys:ToyGenerator" in err
    call = (*call[:-3], JUDGE, *call[-2:], "--orders", "2", "--loss", "100")
    code, out, err = imagecot(*call)
    assert code == 0, err
    assert "3 of 3 pools to draw" in err
    assert "The verifier judges itself" in out
    assert out.count("->") == 4  # of two searches the line of the choice, and the rule
    code, out, err = imagecot(*call, "--json", "--advice", "advice.json")
    assert code == 0 and "to draw" not in err
    found = json.loads(out)
    assert found["prompts"] == 3 and found["by_itself"] and {*found["advice"]} == {"adaptive", "hierarchical"}
    with open("advice.json") as file:
        assert json.load(file) == {"searches": found["advice"]}
    for name, one in found["searches"].items():
        least = min(each["seconds"] for each in one["tried"])
        assert one["taken"]["seconds"] == least, name  # any loss is allowed, so the fastest is taken
    code, _, err = imagecot(*call, "--seed", "5")
    assert code == 2 and "holds another calibration (seed 77, not 5)" in err


def test_a_killed_run_draws_no_pool_again(imagecot, prompts, monkeypatch):
    from imagecot.calibration import follow

    observe, drawn = follow.observe, []

    def counting(*arguments):
        drawn.append(arguments[-1])
        if len(drawn) == 2:
            raise KeyboardInterrupt
        return observe(*arguments)

    monkeypatch.setattr("imagecot.calibration.follow.observe", counting)
    judge = ("--judge", JUDGE)
    call = ("calibrate", "adaptive", *TOYS, *judge, "--prompts", str(prompts), "-n", "4", "--orders", "1")
    code, _, err = imagecot(*call)
    assert code == 130 and "the same command with --out runs/calibration continues" in err
    assert imagecot(*call)[0] == 0
    assert drawn == [0, 1, 1, 2]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["stepwise", *TOYS], "stepwise names no settings to try"),
        (["nothing", *TOYS], "nothing"),
        (["adaptive", "adaptive", *TOYS], "adaptive is named twice"),
        (["adaptive", *TOYS, "-n", "1"], "n: input should be greater than or equal to 2"),
        (["adaptive", *TOYS, "--loss", "-1"], "loss"),
        (["adaptive", *TOYS, "--detector", "pictograms", "--judge", "tiny-orm"], "either a detector or a judge"),
        (["adaptive", *TOYS, "--pools", "x", "--judge", "tiny-orm"], "leave out yours"),
        (["adaptive", *TOYS, "--pools", "x", "--write"], "leave out --write or --pools"),
        (["adaptive", *TOYS, "--pools", "x"], "x holds no study"),
        (["adaptive", *TOYS, "--write"], "has no folder that advice could be written to"),
        (["adaptive", *TOYS, "--judge", "tiny-orm", "--prompts", "missing.txt"], "missing.txt"),
        (["adaptive", *TOYS, "--judge", JUDGE, "--prompts", "test.txt"], "also a test prompt"),
        (["adaptive", *TOYS, "--judge", JUDGE, "--prompts", "twice.txt"], "twice"),
        (["adaptive", *TOYS, "--judge", JUDGE, "--prompts", "two.txt", "--first-step", "9"],
         "have 4 steps"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told_in_one_sentence(imagecot, tmp_path, more, told):
    (tmp_path / "test.txt").write_text("a photo of a bench\n")
    (tmp_path / "twice.txt").write_text("a cup\na cup\n")
    (tmp_path / "two.txt").write_text("a cup\ntwo cups\n")
    code, out, err = imagecot("calibrate", *more)
    assert code == 2 and out == ""
    assert told in err and err.count("\n") <= 2
    assert not (tmp_path / "runs").exists()
