"""`imagecot check`: what it prints, and how it ends."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., tuple[int, str, str]]
MODULE = """
from imagecot.checks.toys import ToyGenerator, ToyVerifier


class Right(ToyGenerator):
    pass


class Wrong(ToyGenerator):
    rows_per_path = 0


class Lacking:
    settings = {}


class Raising(ToyGenerator):
    def decode(self, codes):
        raise RuntimeError("no decoder")


class Stumbling(ToyGenerator):
    def __init__(self):
        raise OSError("no weights here")


class Deaf(ToyVerifier):
    def check_prompt(self, prompt):
        from imagecot.errors import UsageError

        if "clock" in prompt:
            raise UsageError("clocks are not known; leave them out.")
"""


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "outside_toys", raising=False)
    (tmp_path / "outside_toys.py").write_text(MODULE)


@pytest.mark.usefixtures("outside")
def test_a_class_that_keeps_all_rules_ends_well(imagecot: Run) -> None:
    code, out, err = imagecot("check", "generator", "outside_toys:Right")
    assert (code, err) == (0, "")
    assert all(line.startswith("kept ") for line in out.splitlines())
    assert "kept       paths can be selected" in out


@pytest.mark.usefixtures("outside")
def test_a_broken_rule_is_told_and_ends_by_1(imagecot: Run) -> None:
    code, out, err = imagecot("check", "generator", "outside_toys:Wrong")
    assert code == 1
    (line,) = [line for line in out.splitlines() if line.startswith("broken")]
    assert line.split("  ")[-1].strip() == "rows_per_path is 0; make it a whole number from 1."
    assert err.startswith("error: outside_toys:Wrong breaks 1 of ")
    code, out, _ = imagecot("check", "generator", "outside_toys:Raising", "--json")
    assert code == 1
    found = json.loads(out)
    assert (found["kind"], found["name"], found["kept"]) == ("generator", "outside_toys:Raising", False)
    assert {"rule": "images are of the canvas", "state": "broken"} in [
        {key: rule[key] for key in ("rule", "state")} for rule in found["rules"]
    ]
    assert any("RuntimeError: no decoder" in rule["seen"] for rule in found["rules"])


@pytest.mark.usefixtures("outside")
def test_what_a_class_lacks_is_a_broken_rule(imagecot: Run) -> None:
    code, out, _ = imagecot("check", "verifier", "outside_toys:Lacking")
    assert code == 1
    assert "broken     it has everything" in out
    assert "it has no usage, ask, begin" in out


@pytest.mark.usefixtures("outside")
def test_a_class_that_cannot_be_made_is_a_failure(imagecot: Run) -> None:
    code, out, err = imagecot("check", "generator", "outside_toys:Stumbling")
    assert (code, out) == (1, "")
    assert "no weights here" in err


@pytest.mark.usefixtures("outside")
def test_other_prompts_are_taken(imagecot: Run) -> None:
    code, out, _ = imagecot("check", "verifier", "outside_toys:Deaf")
    assert code == 1
    assert "check_prompt refuses 'a photo of a blue clock'" in out
    asked = ("check", "verifier", "outside_toys:Deaf", "--prompt", "a cup", "--prompt", "two dogs")
    assert imagecot(*asked)[0] == 0
    for wrong in (("--prompt", "a cup"), ("--prompt", "a cup", "--prompt", "a cup")):
        code, _, err = imagecot("check", "verifier", "outside_toys:Deaf", *wrong)
        assert code == 2
        assert "takes two different prompts" in err
    code, _, err = imagecot("check", "search", "parm", "--prompt", "a cup")
    assert code == 2
    assert "leave out --prompt" in err


@pytest.mark.parametrize(
    "name", ["nothing", "nowhere:Class", "outside_toys:Nothing", "./no/folder"], ids=["word", "module", "class", "path"]
)
@pytest.mark.usefixtures("outside")
def test_a_name_that_is_nothing_is_a_mistake_in_the_request(imagecot: Run, name: str) -> None:
    code, out, err = imagecot("check", "generator", name)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1


def test_our_searches_are_checked_by_name(imagecot: Run) -> None:
    code, out, err = imagecot("check", "search", "parm", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["kept"] is True
