"""`imagecot validate` names verifiers that there cannot be, and lets those be that another recipe makes."""

import pytest

STUDY = """
kind: study
output: out
generators: {{a: tiny}}
rows:
  baseline: {{generator: a}}
  judged: {{generator: a, search: best-of-n, verifier: "{verifier}"}}
"""
BENCHMARK = """
kind: benchmark
output: out
generator: {generator}
verifier: "{verifier}"
"""


@pytest.mark.parametrize(
    ("verifier", "told"),
    [
        ("tiny-rom", "rows.judged.verifier: there is no verifier 'tiny-rom' (did you mean"),
        ("mean(tiny-orm,tiny-rom)", "rows.judged.verifier: mean(tiny-orm,tiny-rom): there is no verifier 'tiny-rom'"),
        ("min(tiny-orm,mean(atoms:nobody,tiny-prm))", "there is no verifier 'nobody'"),
        ("mean(tiny-orm)", "has one part"),
        ("atoms[odd]:tiny-orm", "odd"),
    ],
)
def test_a_verifier_that_there_cannot_be_is_named(imagecot, tmp_path, verifier, told):
    (tmp_path / "study.yaml").write_text(STUDY.format(verifier=verifier))
    code, _, err = imagecot("validate", "study.yaml")
    assert (code, err.count("\n")) == (2, 1)
    assert told in err


@pytest.mark.parametrize(
    "verifier", ["tiny-orm", "runs/later", "owner/name", "min(runs/made later,tiny-orm)", "atoms:runs/later"]
)
def test_what_another_recipe_may_make_is_valid(imagecot, tmp_path, verifier):
    (tmp_path / "study.yaml").write_text(STUDY.format(verifier=verifier))
    assert imagecot("validate", "study.yaml")[::2] == (0, "")


def test_who_cannot_judge_is_no_self(imagecot, tmp_path):
    (tmp_path / "speed.yaml").write_text(BENCHMARK.format(generator="amused/amused-256", verifier="self"))
    code, _, err = imagecot("validate", "speed.yaml")
    assert code == 2 and "verifier: amused/amused-256 cannot judge: aMUSEd draws" in err
    (tmp_path / "speed.yaml").write_text(BENCHMARK.format(generator="tiny-janus", verifier="min(self,tiny-orm)"))
    assert imagecot("validate", "speed.yaml")[::2] == (0, "")
