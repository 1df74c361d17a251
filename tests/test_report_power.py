"""How precise a study will be, by hand from a pilot, and from the command line."""

import json

import pytest

from imagecot.report import power
from imagecot.report.power import Factor, factor_of
from imagecot.study.recipe import StudyRecipe
from imagecot.study.summary import Row, Summary
from invented_study import small

RECIPE = StudyRecipe(
    output="x", n=4, prompts_per_task=60, draws=2, generators={"base": "tiny"},
    rows={
        "baseline": {"generator": "base", "label": "single path"},
        "orm_fine_tuned": {"generator": "base", "search": "best-of-n", "verifier": "v"},
        "parm": {"generator": "base", "search": "parm", "verifier": "p", "prompts_per_task": 15},
    },
)  # fmt: skip


def pilot(low: float = 0.1, high: float = 0.3) -> Summary:
    """Rows of 90 prompts with errors of .03; the ORM is .1 to .3 above PARM."""
    values = small(baseline=0.5, orm_fine_tuned=0.9, parm=0.7)
    for row in values["rows"].values():
        row["prompts"] = 90
    gain = {"a": "orm_fine_tuned", "b": "parm", "difference": (low + high) / 2, "low": low, "high": high}
    values["comparisons"] = [gain]
    return Summary.model_validate(values)


def test_errors_fall_with_the_root_of_the_prompts_and_at_most_that_of_the_draws():
    assert factor_of(Row(overall=0.5, prompts=90), 360, 1) == Factor(0.5, 0.5)
    assert factor_of(Row(overall=0.5, prompts=90), 360, 4) == Factor(0.25, 0.5)
    assert factor_of(Row(overall=0.5, prompts=90, draws=4), 360, 1) == Factor(0.5, 1.0)  # fewer draws than the pilot
    assert factor_of(None, 360, 1) is factor_of(Row(overall=0.5), 360, 1) is None


def test_the_errors_of_rows():
    found = power.rows(RECIPE, pilot())
    assert [row[1:3] for row in found.rows] == [["360", "2"], ["360", "2"], ["90", "2"]]
    least, most = 0.03 / 8**0.5, 0.03 / 2
    assert found.rows[0] == ["single path", "360", "2", f"{least:.3f}", f"{most:.3f}"]
    assert found.rows[2][3:] == [f"{0.03 / 2**0.5:.3f}", "0.030"]  # as many prompts as the pilot
    unknown = power.rows(RECIPE, Summary.model_validate(small(baseline=0.5, dpo=0.9)))
    assert [row[3:] for row in unknown.rows][1:] == [["–", "–"], ["–", "–"]]


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (-0.3, -0.1, "decided"),
        (-0.11, 0.09, "undecided"),
        (-0.1, 0.02, "undecided"),  # −4 ± 4.2 to 6
        (-0.09, 0.025, "undecided"),
        (-0.08, 0.032, "undecided"),
        (-0.01, 0.012, "decided"),  # within two points
        (-0.105, 0.015, "decided to undecided"),  # −4.5 ± 4.2 to 6
    ],
)
def test_what_intervals_decide(low, high, said):
    """PARM less the ORM on 90 prompts, twice: the interval of the pilot, or 1.41 times less."""
    found = power.findings(RECIPE, pilot(-high, -low))
    (row,) = [row for row in found.rows if row[0] == "PARM beats the fine-tuned ORM"]
    half = 100 * (high - low) / 2
    assert row[2:4] == [f"{half / 2**0.5:.1f}", f"{half:.1f}"]
    assert row[4] == said


def test_from_the_command_line(imagecot, tmp_path):
    (tmp_path / "pilot").mkdir()
    (tmp_path / "pilot/summary.json").write_text(json.dumps(pilot().model_dump(mode="json", exclude_unset=True)))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps(RECIPE.model_dump(mode="json", exclude_unset=True) | {"kind": "study"}))
    code, out, err = imagecot("study", str(recipe), "--power", "pilot")
    assert (code, err) == (0, "")
    assert "| single path | 360 | 2 | 0.011 | 0.015 |" in out
    assert not (tmp_path / "x").exists()
    code, out, err = imagecot("study", str(recipe), "--power", "nowhere")
    assert code == 2 and "holds no study" in err
    (tmp_path / "other.yaml").write_text("kind: corrections\noutput: y\ngenerator: tiny\nverifier: tiny-parm++\n")
    code, out, err = imagecot("study", "other.yaml", "--power", "pilot")
    assert code == 2
