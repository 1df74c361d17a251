"""The verification study: choices and tables worked by hand, replayed searches equal to real ones, resume."""

import json

import pytest
import torch
from rich.console import Console

from imagecot.errors import ImagecotError
from imagecot.generators.randomness import path_seeds
from imagecot.search import search
from imagecot.study import verification
from imagecot.study.recorded import record
from imagecot.study.report import table
from imagecot.study.verification import VerificationRecipe, analyse, choice, judged, observe, run, steps_used
from plain_decoder import tiny_generator
from small_models import Brightness
from test_search_parm import PROMPT, STEPS, Scripted, brightness

torch.set_num_threads(1)
QUIET = Console(quiet=True)


def path(score: float | None, stopped: int | None = None, potential: float | None = None) -> dict:
    return {"score": score, "stopped": stopped, "first_clear": stopped, "potential": potential}


def row(tag: str, prompt: str, scores: list[float], correct: list[bool], parm: list[dict] | None = None) -> dict:
    orm = {"paths": [path(score) for score in scores], "chosen": 0, "cost": {}}
    return {
        "metadata": {"tag": tag, "prompt": prompt}, "correct": [correct, correct[::-1]], "reasons": [],
        "searches": {"orm": orm, "parm": {"paths": parm or orm["paths"], "chosen": 0, "cost": {}}},
    }  # fmt: skip


ROWS = [
    row("colors", "a", [0.1, 0.9, 0.2, 0.3], [True, False, False, True]),
    row("colors", "b", [0.5, 0.5, 0.8, 0.1], [False, True, True, False]),
    row("counting", "c", [0.2, 0.4, 0.6, 0.1], [False, False, True, False],
        [path(None, 3, 0.4), path(None, 5, 0.45), path(0.7), path(None, 2, 0.1)]),
    row("counting", "d", [0.9, 0.4, 0.6, 0.1], [False, False, False, False]),
]  # fmt: skip
RECIPE = VerificationRecipe(
    output="x", n=4, prompts_per_task=2,
    rows={
        "orm": {"verifier": "tiny-zero-shot", "label": "ORM"},
        "parm": {"search": "parm", "verifier": "tiny-zero-shot", "label": "PARM"},
    },
)  # fmt: skip


def verdicts(name: str, n: int, judge: int = 0) -> list[bool]:
    return [r["correct"] for r in judged(ROWS, name, n, judge)]


def test_choices_by_hand():
    paths = ROWS[2]["searches"]["parm"]["paths"]
    assert choice(paths, range(4)) == 2
    assert choice(paths, range(2)) == 1  # none is left: the least refused
    assert choice([path(0.5), path(0.5)], range(2)) == 0


def test_verdicts_by_hand():
    assert verdicts("orm", 4) == [False, True, True, False]
    assert verdicts("oracle", 4) == [True, True, True, False]
    assert verdicts("first", 4) == [True, False, False, False]
    # groups of two: a (.1 .9)(.2 .3), b (.5 .5: the earlier)(.8 .1), c (.2 .4)(.6 .1), d
    assert verdicts("orm", 2) == [False, True, False, True, False, True, False, False]
    assert len(verdicts("random", 4)) == 16
    assert verdicts("first", 4, judge=1) == [True, False, False, False]
    assert verdicts("orm", 4, judge=1) == [False, True, False, False]


def test_the_table_by_hand():
    result = analyse(ROWS, RECIPE, {"orm": {"4": {"seconds": 2.0, "generator_rows": 8}}})
    assert result["rows"]["baseline"]["overall"] == 0.25
    assert result["rows"]["random"]["overall"] == pytest.approx((4 / 8 + 1 / 8) / 2)
    assert result["rows"]["orm"]["overall"] == 0.5
    assert result["rows"]["orm"]["seconds_per_image"] == 2.0
    assert result["rows"]["oracle"]["tasks"] == {"colors": 1.0, "counting": 0.5}
    assert result["agreement"] == pytest.approx(14 / 16)
    (gain,) = [g for g in result["comparisons"] if (g["a"], g["b"]) == ("orm", "baseline")]
    assert gain["difference"] == 0.25
    assert (gain["only_a"], gain["only_b"]) == (2, 1)
    assert result["steps"]["parm"]["stopped"] == {"never": 13, "3": 1, "5": 1, "2": 1}
    assert [p["n"] for p in result["curves"]["orm"]] == [1, 2, 3, 4]
    text = table(result)
    assert "| ORM | " in text
    assert "**0.500**" in text


def test_steps_of_parm_by_hand():
    used = steps_used(ROWS, "parm")
    assert used["paths"] == 16
    assert used["right_of_stopped"] == 0
    assert used["right_of_kept"] == pytest.approx(5 / 13)


@pytest.mark.parametrize("strategy", ["best-of-n", "parm"])
def test_a_replayed_search_is_the_real_one(strategy):
    n, seed = 6, 3
    levels = sorted(table[1] for table in brightness(n, seed))
    verifier = (lambda: Brightness()) if strategy == "best-of-n" else (lambda: Scripted(levels[2], levels[2] + 0.01))
    generator = tiny_generator(steps=STEPS)
    real = search(PROMPT, generator=generator, verifier=verifier(), strategy=strategy, n=n, seed=seed)
    recorded = record(generator, PROMPT, path_seeds(seed, n))
    again = search(PROMPT, generator=recorded, verifier=verifier(), strategy=strategy, n=n, seed=seed)
    assert again.chosen == real.chosen
    assert [c.truncated_at for c in again.candidates] == [c.truncated_at for c in real.candidates]
    assert [c.score is None for c in again.candidates] == [c.score is None for c in real.candidates]
    counts = [(t.cost.generator_rows, t.cost.previews, t.cost.judge_calls) for t in (real, again)]
    assert counts[0] == counts[1]
    with pytest.raises(ImagecotError, match="was not recorded"):
        search(PROMPT, generator=recorded, verifier=verifier(), strategy=strategy, n=n, seed=seed + 1)


def test_an_interrupted_study_ends_like_an_undisturbed_one(tmp_path, monkeypatch):
    """On the shipped weights: two paths of one prompt a task; killed after four prompts."""
    recipe = VerificationRecipe(
        output=tmp_path / "whole", n=2, prompts_per_task=1, timed_prompts=1, rows=RECIPE.model_dump()["rows"]
    )
    result = run(recipe, QUIET)
    rows = [json.loads(line) for line in (tmp_path / "whole/candidates.jsonl").read_text().splitlines()]
    assert len(rows) == 6
    assert result["rows"]["parm"]["seconds_per_image"] > 0
    assert (tmp_path / "whole/curves.png").stat().st_size > 5000
    parts = recipe.model_copy(update={"output": tmp_path / "parts"})
    (tmp_path / "parts").mkdir()
    calls = []
    whole_record = verification.record

    def killed(*arguments):
        calls.append(arguments)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return whole_record(*arguments)

    monkeypatch.setattr(verification, "record", killed)
    with pytest.raises(KeyboardInterrupt):
        observe(parts, parts.output, QUIET)
    assert observe(parts, parts.output, QUIET) == rows
    assert len(calls) == 7
