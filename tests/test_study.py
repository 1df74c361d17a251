"""The best-of-N study: selection and analysis on candidates worked by hand, and resume."""

import json

import pytest
from rich.console import Console

from imagecot.study import best_of_n
from imagecot.study.best_of_n import BestOfNRecipe, analyse, draw_candidates, run, selected, table


def row(tag: str, prompt: str, p_yes: list[float], correct: list[bool]) -> dict:
    metadata = {"tag": tag, "prompt": prompt}
    return {
        "metadata": metadata, "p_yes": p_yes, "correct": correct, "reasons": [""] * len(p_yes),
        "seconds_drawing": 4.0, "seconds_judging": 1.0,
    }  # fmt: skip


ROWS = [
    row("colors", "a", [0.1, 0.9, 0.2, 0.3], [True, False, False, True]),
    row("colors", "b", [0.5, 0.5, 0.8, 0.1], [False, True, True, False]),
    row("counting", "c", [0.2, 0.4, 0.6, 0.1], [False, False, True, False]),
    row("counting", "d", [0.9, 0.4, 0.6, 0.1], [False, False, False, False]),
]


def verdicts(n: int, rule: str) -> list[bool]:
    return [r["correct"] for r in selected(ROWS, n, rule)]


def test_selection_by_hand():
    assert verdicts(4, "verifier") == [False, True, True, False]
    assert verdicts(4, "oracle") == [True, True, True, False]
    assert verdicts(4, "first") == [True, False, False, False]
    # groups of two: a (.1 .9)(.2 .3), b (.5 .5: the earlier)(.8 .1), c (.2 .4)(.6 .1), d
    assert verdicts(2, "verifier") == [False, True, False, True, False, True, False, False]
    assert len(verdicts(1, "verifier")) == 16


def test_analysis_by_hand(tmp_path):
    recipe = BestOfNRecipe(output=tmp_path, n=4)
    result = analyse(ROWS, recipe)
    assert result["rows"]["orm_zero_shot"]["overall"] == pytest.approx(0.5)
    assert result["rows"]["oracle"]["overall"] == pytest.approx(0.75)
    assert result["rows"]["baseline"]["overall"] == pytest.approx(0.25)
    assert result["rows"]["random"]["tasks"] == pytest.approx({"colors": 4 / 8, "counting": 1 / 8})
    # 4 seconds of drawing and 1 of judging for 4 paths
    assert result["rows"]["orm_zero_shot"]["seconds_per_image"] == pytest.approx(5.0)
    assert [p["n"] for p in result["curves"]["verifier"]] == [1, 2, 4]
    assert result["curves"]["verifier"][0]["overall"] == pytest.approx(result["rows"]["random"]["overall"])
    assert result["gain"]["difference"] == pytest.approx(0.25)
    assert "best-of-4" in table(result)


def test_finished_prompts_are_not_drawn_again(tmp_path, monkeypatch):
    recipe = BestOfNRecipe(output=tmp_path, n=4, prompts_per_task=1)
    prompts = [m for m in best_of_n.held_out_prompts()]
    firsts = [next(m for m in prompts if m["tag"] == task) for task in best_of_n.TASKS]
    rows = [{**ROWS[0], "metadata": m} for m in firsts]
    (tmp_path / "candidates.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    monkeypatch.setattr(best_of_n, "load_generator", lambda name: pytest.fail("drew again"))
    assert draw_candidates(recipe, tmp_path, Console(quiet=True)) == rows
    run(recipe, Console(quiet=True))
    assert json.loads((tmp_path / "summary.json").read_text())["prompts"] == 6
    assert (tmp_path / "curves.png").stat().st_size > 5000 and (tmp_path / "table.md").exists()


def test_a_small_study_on_the_shipped_weights(tmp_path):
    recipe = BestOfNRecipe(output=tmp_path, n=2, prompts_per_task=1)
    rows = draw_candidates(recipe, tmp_path, Console(quiet=True))
    assert len(rows) == 6
    again = BestOfNRecipe(output=tmp_path / "again", n=2, prompts_per_task=1)
    (tmp_path / "again").mkdir()
    for first, second in zip(rows, draw_candidates(again, tmp_path / "again", Console(quiet=True)), strict=True):
        assert first["correct"] == second["correct"]
        assert first["p_yes"] == pytest.approx(second["p_yes"], abs=1e-4)
