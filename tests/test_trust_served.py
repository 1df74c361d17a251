"""A served copy of a judge is to be trusted as the judge is, and says the same."""

import pytest

from imagecot import registry
from imagecot.trust import check_judge
from misbehaving import server
from served import stands_for

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_served_copy_agrees(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-this-test")
    with server(stands_for(registry.load("verifier", "tiny-orm", dtype=precision))) as there:
        report = check_judge(f"{there.url}#tiny-orm", against="tiny-orm")
    assert report.trusted, report.sentence
    found = {finding.name: finding.value for finding in report.findings}
    assert found["share of the same choices"] == 1
    assert found["largest difference of P(yes)"] is not None
    assert found["largest difference of P(yes)"] < (1e-5 if precision == "float32" else 0.03)
    assert found["share of different answers among 20 pictures"] == 1
