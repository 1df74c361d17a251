"""Whatever other people's classes are, return or raise: one sentence, the right exit code, and no half result."""

import re
import shutil
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagecot.commands.searches import settings_given
from imagecot.errors import ImagecotError, UsageError
from imagecot.strategies.many import search_many
from imagecot.strategies.options import settings_of
from imagecot.strategies.parm import Parm
from imagecot.strategies.search import search

OUTSIDE = Path(__file__).parent / "data" / "outside" / "weave.py"
PROMPT = "woven shades of an evening"
PREPARED = """
import math
from dataclasses import replace
from pathlib import Path

import torch
from pydantic import BaseModel, field_validator

from imagecot.contracts import Canvas, Choice, Usage
from weave import Eye, Loom, Weave, Worst, Woven

def fails(*_, **__):
    raise ZeroDivisionError("of mine")

def steals():
    raise KeyboardInterrupt

NUMBER = 3
"""


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """The name of a module of a new class `Bad`: a base and the body that it overrides."""
    base, body = request.param
    name = f"bad_{zlib.crc32(f'{base}{body}'.encode())}"
    shutil.copy(OUTSIDE, tmp_path / "weave.py")
    (tmp_path / f"{name}.py").write_text(f"{PREPARED}\nclass Bad({base}):\n    {body}\n")
    monkeypatch.chdir(tmp_path)
    return f"{name}:Bad"


def one_sentence(err: str) -> str:
    (line,) = [line for line in err.splitlines() if line]
    assert line.startswith("error: ") and line.endswith("."), err
    return line


def over(base: str, method: str, change: str) -> tuple[str, str]:
    return base, f"def {method}(self, *a): found = {base}.{method}(self, *a); return {change}"


GENERATORS = [
    (("Weave", "steps = 0"), 2, "steps must be at least 1, not 0"),
    (("Weave", "steps = '3'"), 2, "steps must be a whole number, not '3'"),
    (("Weave", "steps = 10**9"), 2, "steps must be at most"),
    (("Weave", "rows_per_path = True"), 2, "rows_per_path must be a whole number"),
    (("Weave", "paths_per_pass = -1"), 2, "paths_per_pass must be at least 1"),
    (("Weave", "canvas = (3, 5)"), 2, "canvas must be an imagecot.contracts.Canvas"),
    (("Weave", "canvas = Canvas((0, 5), 7, (12, 20))"), 2, "grid of its canvas must be at least 1"),
    (("Weave", "canvas = Canvas((3.0, 5.0), 7, (12, 20))"), 2, "grid of its canvas must be a whole number"),
    (("Weave", "canvas = Canvas((10**5, 10**5), 7, (12, 20))"), 2, "grid of its canvas must be at most"),
    (("Weave", "settings = [1]"), 2, "settings must be a mapping"),
    (("Weave", "settings = {'a': math.nan}"), 2, r"settings\['a'\] is nan, which JSON does not hold"),
    (("Weave", "settings = {'a': Path('x')}"), 2, "which JSON does not hold"),
    (("Weave", "settings = {'a': torch.zeros(2)}"), 2, "which JSON does not hold"),
    (("Weave", "settings = property(fails)"), 1, r"its settings cannot be had \(ZeroDivisionError: of mine\)"),
    (("Weave", "advance = fails"), 1, r"Bad.advance fails \(ZeroDivisionError: of mine\)"),
    (("Weave", "check_prompt = fails"), 1, "Bad.check_prompt fails"),
    (("Weave", "start = lambda *a: None"), 1, "Bad.start returns None; let it return Paths"),
    (over("Weave", "start", "replace(found, codes=found.codes.float())"), 1, "codes that are float32"),
    (over("Weave", "start", "replace(found, codes=found.codes.tolist())"), 1, "codes that are a list"),
    (over("Weave", "start", "found.select([0, 0])"), 1, r"int64 of shape \(2, 15\); .* shape \(1, 15\)"),
    (over("Weave", "advance", "replace(found, codes=found.codes.int())"), 1, "codes that are int32"),
    (over("Weave", "advance", "replace(found, seeds=found.seeds + 1)"), 1, "paths of other seeds"),
    (over("Weave", "advance", "replace(found, step=0)"), 1, "at step 0 of 3; let it return paths at step 1 of 3"),
    (over("Weave", "advance", "replace(found, steps=10**9)"), 1, "step 1 of 1000000000"),
    (over("Weave", "advance", "replace(found, codes=found.codes + 100)"), 1, "finished codes from 10."),
    (over("Weave", "decode", "(found * 255).byte()"), 1, "Bad.decode returns uint8 of shape"),
    (over("Weave", "decode", "found * 3"), 1, "levels from 0 to 3; let it return levels from 0 to 1"),
    (over("Weave", "decode", "found * math.nan"), 1, "levels from nan to nan"),
    (over("Weave", "decode", "found.to('meta')"), 1, "returns meta float32"),
    (over("Weave", "decode", "found[..., :5]"), 1, "let it return floats of shape"),
]
VERIFIERS = [
    (
        ("Eye", "usage = property(lambda self: 3, lambda self, v: None)"),
        2,
        "its usage must be an imagecot.contracts.Us",
    ),
    (("Eye", "advice = [1]"), 2, "its advice must be settings by the names of searches"),
    (("Eye", "advice = {'best-of-n': {'keep': 1}}"), 1, "the verifier advises best-of-n 'keep' = 1, which it does not"),
    (("Eye", "ask = fails"), 1, "Bad.ask fails"),
    (over("Eye", "ask", "found[:, None]"), 1, r"float64 of shape \(2, 1\)"),
    (over("Eye", "ask", "found.tolist()"), 1, "Bad.ask returns a list; let it return floats of shape"),
    (over("Eye", "ask", "found * math.nan"), 1, "Bad.ask is not a probability for each image"),
    (over("Eye", "ask", "found[:1]"), 1, "is not a probability for each image"),
    (over("Eye", "ask", "setattr(self, 'usage', Usage(-9)) or found"), 1, "let it return counts that never fall"),
]
SEARCHES = [
    (("Worst", "Settings = dict"), 2, "its Settings must be a class of pydantic's BaseModel"),
    (("Worst", "needs = ['verifier']"), 2, "its needs must be a set of some of verifier, reflector, corrector"),
    (("Worst", "needs = frozenset({'magic'})"), 2, "its needs must be a set of some of"),
    (("Worst", "paths = lambda self, n: 0"), 2, "what paths.2. of .* returns must be at least 1, not 0"),
    (("Worst", "paths = lambda self, n: '4'"), 2, "must be a whole number, not '4'"),
    (("Worst", "paths = fails"), 1, "Bad.paths fails"),
    (("Worst", "choose = lambda self, run: None"), 1, "Bad.choose returns None; let it return a Choice"),
    (("Worst", "choose = lambda self, run: (run.in_groups(), 0)"), 1, "returns a tuple; let it return a Choice"),
    (("Worst", "choose = lambda self, run: Choice(run.in_groups(), 2)"), 1, "index 2; let it return one of its 2"),
    (("Worst", "choose = lambda self, run: Choice([], 0)"), 1, "one of its 0 candidates"),
    (over("Worst", "choose", "setattr(found.candidates[0], 'score', math.nan) or found"), 1, "Bad.choose returns cand"),
    (
        over("Worst", "choose", "Choice([replace(c, truncated_at=1) for c in found.candidates], 0)"),
        1,
        "drawn to its end",
    ),
    (("Worst", "choose = lambda self, run: Choice(run.in_groups(lambda *a: [9]), 0)"), 1, "Bad.assess returns .9."),
    (("Worst", "choose = lambda self, run: Choice(run.in_groups(lambda *a: None), 0)"), 1, "Bad.assess returns None"),
]


def ids(cases: list) -> list[str]:
    return [case[0][1][:60] for case in cases]


@pytest.mark.parametrize(("theirs", "code", "message"), GENERATORS, indirect=["theirs"], ids=ids(GENERATORS))
def test_generators(imagecot, theirs: str, code: int, message: str) -> None:
    ended, _, err = imagecot("generate", PROMPT, "--generator", theirs, "--search", "single", "--out", "out")
    assert_refused(ended, code, err, message)


@pytest.mark.parametrize(("theirs", "code", "message"), VERIFIERS, indirect=["theirs"], ids=ids(VERIFIERS))
def test_verifiers(imagecot, theirs: str, code: int, message: str) -> None:
    given = ("--generator", "weave:Weave", "--verifier", theirs, "--search", "best-of-n", "-n", "2", "--out", "out")
    ended, _, err = imagecot("generate", PROMPT, *given)
    assert_refused(ended, code, err, message)


@pytest.mark.parametrize(("theirs", "code", "message"), SEARCHES, indirect=["theirs"], ids=ids(SEARCHES))
def test_searches(imagecot, theirs: str, code: int, message: str) -> None:
    given = ("--generator", "weave:Weave", "--verifier", "weave:Eye", "--search", theirs, "-n", "2", "--out", "out")
    ended, _, err = imagecot("generate", PROMPT, *given)
    assert_refused(ended, code, err, message)


def assert_refused(ended: int, code: int, err: str, message: str) -> None:
    assert re.search(message, one_sentence(err)), err
    assert ended == code
    assert not [file for file in Path("out").glob("*") if file.is_file()]


EVALUATED = [
    (("Woven", "prompts = lambda self: None"), 2, "its prompts must be a list"),
    (("Woven", "prompts = lambda self: [{'prompt': 'x'}]"), 2, "prompt 1 must have a tag"),
    (("Woven", "prompts = fails"), 1, "Bad.prompts fails"),
    (("Woven", "judges = ()"), 2, "its judges must be names, at least one"),
    (("Woven", "load_judges = lambda *a: []"), 1, "Bad.load_judges returns nobody"),
    (("Loom", "classes = 'cup'"), 2, "its classes must be names, at least one, not 'cup'"),
    (
        ("Loom", "detect = lambda self, images: None"),
        1,
        "Bad.detect returns None; let it return a list of 3 Detections",
    ),
    (("Loom", "record = lambda self: {'a': {1}}"), 1, "Bad.record: .*which JSON does not hold"),
]


@pytest.mark.parametrize(("theirs", "code", "message"), EVALUATED, indirect=["theirs"], ids=ids(EVALUATED))
def test_worlds_and_detectors(imagecot, theirs: str, code: int, message: str, request) -> None:
    world = request.node.callspec.params["theirs"][0] == "Woven"
    judged = ("--prompts", theirs) if world else ("--prompts", "weave:Woven", "--detector", theirs)
    drawn = ("--generator", "weave:Weave", "--search", "single", "--samples", "1", "--out", "out")
    ended, _, err = imagecot("evaluate", "geneval", *drawn, *judged)
    assert not Path("out/summary.json").exists()
    assert re.search(message, one_sentence(err)), err
    assert ended == code


@pytest.mark.parametrize("theirs", [("Weave", "pass")], indirect=True)
def test_names_that_stand_for_no_class(imagecot, theirs: str) -> None:
    module = theirs.partition(":")[0]
    for name in (f"{module}:NUMBER", "os:system", "os:abort", "builtins:input", "pathlib:Path", "zzz:Z", "a:b:c", ":C"):
        ended, _, err = imagecot("generate", PROMPT, "--search", "single", "--generator", name, "--out", "out")
        assert (ended, Path("out").exists()) == (2, False), name
        one_sentence(err)
    ended, _, err = imagecot(
        "generate", PROMPT, "--search", "single", "--generator", f"{module}:steals", "--out", "out"
    )
    assert ended == 1 and "cannot be made (KeyboardInterrupt)" in one_sentence(err)


@pytest.mark.parametrize("theirs", [("Worst", "pass")], indirect=True)
def test_what_python_gives_a_search(imagecot, theirs: str) -> None:
    import weave  # type: ignore[import-not-found]

    wrong = [
        {"strategy": object()}, {"strategy": None}, {"generator": weave.Eye()}, {"generator": None}, {"verifier": 3},
        {"corrector": weave.Eye(), "strategy": "parm++"}, {"first_step": "6"}, {"strategy": "parm", "keep": None},
        {"unknown": 1}, {"n": 0}, {"n": True}, {"names": {"generator": 3}}, {"names": [1]}, {"weights": 3},
        {"folder": 3}, {"folder": "\0"}, {"progress": 3},
    ]  # fmt: skip
    for one in wrong:
        with pytest.raises(ImagecotError, match=r"\.$"):
            search(PROMPT, **{"generator": weave.Weave(), "verifier": weave.Eye(), "n": 2, **one})
    for prompts, seeds in (("a", [1]), (None, None), (["a"], 1), (["a"], ["x"]), ([3], [1])):
        with pytest.raises(UsageError, match=r"\.$"):
            search_many(prompts, seeds, generator=weave.Weave(), verifier=weave.Eye())


class Context:
    meta: dict = {}  # noqa: RUF012


@given(st.text(max_size=30))
def test_every_assignment_is_taken_or_refused(text: str) -> None:
    try:
        found = settings_given(Context(), [f"keep={text}"])
        settings_of(Parm(), "parm", found, {}, 3)
    except UsageError as error:
        assert str(error).endswith(".")
