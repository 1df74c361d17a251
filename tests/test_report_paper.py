"""How a report weighs what the paper says against a study: by hand, and on the first page."""

import json
import math
from pathlib import Path

import pytest

from imagecot.report import paper, tables, write
from imagecot.report.paper import Claim, Difference, judge, judge_near, orderings, weigh
from imagecot.report.read import read
from imagecot.study.summary import Summary
from invented_study import invent, small

PAPER = json.loads((Path(paper.__file__).parent / "paper.json").read_text())


def test_outcomes_by_hand():
    assert judge(Difference(0.1, 0.02, 0.2, True)) == "agrees"
    assert judge(Difference(0.1, -0.02, 0.2, True)) == "leans"
    assert judge(Difference(0.0, 0.0, 0.0, True)) == "equal"
    assert judge(Difference(-0.005, -0.02, 0.01, True)) == "equal"
    assert judge(Difference(0.005, -0.005, 0.021, True)) == "leans"
    assert judge(Difference(0.01, 0.005, 0.015, True)) == "agrees"  # small, but certain
    assert judge(Difference(0.0, -0.1, 0.1, True)) == judge(Difference(0.0, None, None, True)) == "against"
    assert judge(Difference(-0.1, -0.2, 0.1, True)) == "against"
    assert judge(Difference(-0.1, -0.2, -0.01, True)) == "contradicts"
    assert judge(Difference(0.1, None, None, False)) == "leans"
    assert judge_near(Difference(0.02, -0.01, 0.04, True), 0.05) == "agrees"
    assert judge_near(Difference(0.02, -0.1, 0.1, True), 0.05) == "leans"
    assert judge_near(Difference(0.1, -0.1, 0.2, True), 0.05) == "against"
    assert judge_near(Difference(-0.2, -0.3, -0.1, True), 0.05) == "contradicts"


def test_differences_are_paired_where_compared_and_turned_where_needed():
    values = small(baseline=0.5, parm=0.7, dpo=0.4)
    pair = {"a": "baseline", "b": "parm", "difference": -0.25, "low": -0.3, "high": -0.1}
    values["comparisons"] = [pair | {"second_judge": {"difference": -0.2, "low": -0.4, "high": 0.1}}]
    summary = Summary.model_validate(values)
    assert paper.difference(summary.rows, summary.comparisons, "parm", "baseline") == Difference(0.25, 0.1, 0.3, True)
    second = paper.difference(summary.rows, summary.comparisons, "parm", "baseline", second=True)
    assert second == Difference(0.2, -0.1, 0.4, True)
    found = paper.difference(summary.rows, summary.comparisons, "dpo", "parm")
    assert found is not None and not found.paired and found.value == pytest.approx(-0.3)
    assert found.low == pytest.approx(-0.3 - 1.96 * math.sqrt(2) * 0.03)
    assert paper.difference(summary.rows, summary.comparisons, "dpo", "parm", second=True) is None
    rows = summary.rows | {"parm": summary.rows["parm"].model_copy(update={"overall_se": None})}  # one prompt in a task
    found = paper.difference(rows, summary.comparisons, "parm", "baseline")
    assert found == Difference(0.25, None, None, True) and judge(found) == "leans"


def test_a_row_that_should_stay_near_is_held_against_half_of_what_the_orm_gains():
    claim = next(c for c in paper.CLAIMS if c.near and c.a == "prm_fine_tuned")
    near = weigh(claim, Summary.model_validate(small(baseline=0.5, prm_fine_tuned=0.55, orm_fine_tuned=0.7)))
    assert near.bound == pytest.approx(0.1) and near.outcome == "leans"
    far = weigh(claim, Summary.model_validate(small(baseline=0.5, prm_fine_tuned=0.65, orm_fine_tuned=0.7)))
    assert far.outcome == "against"
    assert weigh(claim, Summary.model_validate(small(baseline=0.5, prm_fine_tuned=0.7))).outcome is None


def test_every_ordering_of_the_paper_is_weighed():
    summary = Summary.model_validate(small(baseline=0.5, parm=0.9, orm_fine_tuned=0.95))
    found = {(f.claim.a, f.claim.b, f.claim.table): f for f in orderings(summary)}
    expected = sum(
        round(abs(one[-1] - other[-1]), 2) >= 0.01
        for table in ("show_o", "show_o_self_correction_fine_tuned")
        for k, one in enumerate(PAPER[table].values())
        for other in list(PAPER[table].values())[:k]
    )
    assert len(found) == expected
    assert all(f.paper >= 0.01 for f in found.values())
    assert found["parm", "baseline", "show_o"].outcome == "agrees"
    assert found["parm", "orm_fine_tuned", "show_o"].outcome == "against"
    assert {f.outcome for key, f in found.items() if "dpo" in key} == {None}


def test_claims_name_rows_of_the_paper_in_its_order():
    for claim in paper.CLAIMS:
        gap = paper.paper_gain(claim.a, claim.b, claim.table)
        assert gap is not None and (gap > 0 or claim.near), claim


def test_what_agrees_and_what_does_not_stand_on_the_first_page(tmp_path):
    values = small(baseline=0.5, orm_zero_shot=0.6, orm_fine_tuned=0.8, parm=0.7)
    values["comparisons"] = [
        {"a": "parm", "b": "orm_fine_tuned", "difference": -0.1, "low": -0.15, "high": -0.05},
        {"a": "orm_fine_tuned", "b": "orm_zero_shot", "difference": 0.2, "low": 0.1, "high": 0.3},
    ]
    (tmp_path / "summary.json").write_text(json.dumps(values))
    write(tmp_path, tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text()
    agrees = text.split("## Where this agrees")[1].split("\n## ")[0]
    misses = text.split("## Where it does not")[1].split("\n## ")[0]
    assert "A fine-tuned ORM beats a zero-shot one**: paper +2.0, here +20.0 (+10.0 to +30.0)" in agrees
    assert "PARM beats the fine-tuned ORM**: paper +4.0, here −10.0 (−15.0 to −5.0)" in misses
    assert "does not hold" in misses and "PARM beats" not in agrees
    assert text.index("Where it does not") < text.index("## Scores")
    assert "“ORM fine tuned” with 0.800" in text.split("## The result")[1].split("\n## ")[0]


def test_equal_time_by_hand():
    curve = {
        "orm": [{"n": 1, "overall": 0.4, "seconds": 1}, {"n": 4, "overall": 0.8, "seconds": 4}],
        "parm": [{"n": 1, "overall": 0.4, "seconds": 0.5}, {"n": 4, "overall": 0.7, "seconds": 2}],
        "oracle": [{"n": 1, "overall": 0.4, "seconds": None}],
    }
    summary = Summary.model_validate({**small(baseline=0.4), "curves": {"g": curve}})
    found = tables.at_seconds(summary, "g")
    assert found is not None
    table, ranking, seconds = found
    assert seconds == 2
    # in logarithms 2 s lies half-way between 1 and 4, and 1 s half-way between .5 and 2
    assert ranking == [("parm", pytest.approx(0.7)), ("orm", pytest.approx(0.6))]
    assert table.rows == [["ORM", "0.400", "0.600"], ["PARM", "0.550", "0.700"]]
    curve["parm"][0]["seconds"] = curve["parm"][1]["seconds"] = 9
    assert tables.at_seconds(Summary.model_validate({**small(a=0.4), "curves": {"g": curve}}), "g") is None


def test_claims_are_those_of_a_summary(tmp_path):
    summary, _ = invent(tmp_path)
    finding = weigh(Claim("x", "parm", "baseline"), read(tmp_path))
    pair = next(c for c in summary["comparisons"] if (c["a"], c["b"]) == ("parm", "baseline"))
    assert finding.ours == Difference(pair["difference"], pair["low"], pair["high"], True)
    assert finding.second is not None and finding.second.value == pair["second_judge"]["difference"]
