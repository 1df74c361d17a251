"""Whole runs over a judge that a server holds: images, verdicts and resumed folders are those of one that runs here."""

import json
import re
import shlex
from pathlib import Path

import pytest
import torch

from imagecot import registry
from imagecot.endpoints import KEY
from imagecot.errors import ImagecotError
from imagecot.study.follow import run
from imagecot.study.recipe import StudyRecipe
from imagecot.verifiers.judge_file import Judge
from misbehaving import sends, server
from served import sees, stands_for

torch.set_num_threads(1)
ROOT = Path(__file__).parent.parent
SECRET = "sk-0123456789abcdef"
PROMPT = "a photo of a red apple"


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.001)
    monkeypatch.setenv(KEY, SECRET)


@pytest.fixture(scope="module")
def quick(quick_tiny) -> str:
    return str(quick_tiny)


def without_secrets(folder: Path) -> bool:
    return not any(SECRET.encode() in file.read_bytes() for file in folder.rglob("*") if file.is_file())


SEARCHES = {
    "best-of-n": ("tiny-parm", ()),
    "parm": ("tiny-parm", ("first_step=2", "keep=0.5")),
    "parm++": ("tiny-parm++", ("first_step=2", "keep=0.5")),
}


@pytest.mark.parametrize("search", SEARCHES)
def test_a_run_through_a_server_is_the_run_of_the_model_behind_it(imagecot, quick, tmp_path, search):
    model, options = SEARCHES[search]
    drawer = "tiny" if search == "parm++" else quick  # its corrector takes as many steps
    asked = ["generate", PROMPT, "-n", "4", "--search", search, "--generator", drawer]
    asked += [word for option in options for word in ("--set", option)]
    with server(stands_for(registry.load("verifier", model))) as there:
        for name, judge in (("here", model), ("served", f"{there.url}#{model}")):
            code, _, err = imagecot(*asked, "--verifier", judge, "--out", name)
            assert (code, err) == (0, "")
        assert {headers["Authorization"] for headers in there.headers} == {f"Bearer {SECRET}"}
    here, served = tmp_path / "here", tmp_path / "served"
    assert (here / "image.png").read_bytes() == (served / "image.png").read_bytes()
    first, *paths, last = (here / "trace.jsonl").read_bytes().splitlines()
    began, *others, ended = (served / "trace.jsonl").read_bytes().splitlines()
    assert paths == others and len(paths) >= 4
    run, other_run, choice, other = (json.loads(line) for line in (first, began, last, ended))
    assert {name for name in run if run[name] != other_run[name]} == {"verifier", "weights", "model_settings"}
    assert {name for name in choice if choice[name] != other[name]} <= {"cost", "picture_cost"}
    assert choice["cost"]["judge_calls"] == other["cost"]["judge_calls"] >= 4
    assert 0 < other["cost"]["judge_seconds"] < other["cost"]["seconds"]
    assert without_secrets(tmp_path)


def test_a_judge_that_is_not_there_leaves_nothing(imagecot, quick, tmp_path):
    asked = ("generate", PROMPT, "-n", "2", "--search", "best-of-n", "--generator", quick, "--out", "out")
    with server(sends({"error": "no such model"}, 404)) as there:
        code, out, err = imagecot(*asked, "--verifier", f"{there.url}#seer")
        assert (code, out) == (1, "")
        assert err.count("\n") == 1
        assert "refuses the request (404: no such model); check the address" in err
    assert not (tmp_path / "out").exists()
    code, _, err = imagecot(*asked, "--verifier", "http://localhost:8000/v1")
    assert code == 2
    assert "names a server and no model" in err


def test_an_evaluation_that_the_server_stopped_is_continued(imagecot, quick, tmp_path):
    with server(*[sees] * 6, sends("out of memory", 400)) as there:
        drawn = ("evaluate", "geneval", "--generator", quick, "--search", "best-of-n", "-n", "2", "--per-task", "1",
                 "--samples", "1", "--detector", "pictograms", "--verifier", f"{there.url}#seer")  # fmt: skip
        code, _, err = imagecot(*drawn, "--out", "parts")
        assert code == 1
        assert "refuses the request (400: out of memory)" in err
        there.answers[:] = [sees]
        code, _, err = imagecot(*drawn, "--out", "parts")
        assert (code, err) == (0, "")
        code, _, err = imagecot(*drawn, "--out", "whole")
        assert (code, err) == (0, "")
        code, _, err = imagecot(*drawn[:-1], f"{there.url}#other", "--out", "whole")
        assert code == 2
        assert "holds another" in err
    for file in ("results.jsonl",):
        assert (tmp_path / "parts" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    assert without_secrets(tmp_path)


def test_a_study_that_the_server_stopped_is_continued(quick, tmp_path, imagecot):
    with server(*[sees] * 9, sends("out of memory", 400)) as there:
        file = tmp_path / "judge.yaml"
        file.write_text(f"address: {there.url}\nmodel: seer\nconcurrency: 2\n")

        def recipe(name: str) -> StudyRecipe:
            judge = {"generator": "baseline", "search": "best-of-n", "verifier": str(file)}
            rows = {
                "baseline": {"generator": "baseline"},
                "orm": judge,
                "min": judge | {"verifier": f"min({file},{file})"},
            }
            return StudyRecipe(
                output=tmp_path / name, n=2, prompts_per_task=1, timed_prompts=0, gallery=0,
                generators={"baseline": quick}, rows=rows,
            )  # fmt: skip

        with pytest.raises(ImagecotError, match="out of memory"):
            run(recipe("parts"))
        there.answers[:] = [sees]
        parts, whole = run(recipe("parts")), run(recipe("whole"))
        file.write_text(f"address: {there.url}\nmodel: seer\nconcurrency: 4\nseconds: 60\n")
        asked = len(there.bodies)
        assert run(recipe("whole")).rows == whole.rows
        assert len(there.bodies) == asked
    assert parts.rows == whole.rows
    assert without_secrets(tmp_path)


def test_recipes_are_checked_without_a_word_to_the_server(imagecot, quick, tmp_path):
    recipe = "kind: study\noutput: out\nn: 2\nprompts_per_task: 1\ngenerators: {{baseline: {quick}}}\nrows:\n"
    recipe += "  orm: {{generator: baseline, search: best-of-n, verifier: '{url}'}}\n"
    with server(sees) as there:
        (tmp_path / "study.yaml").write_text(recipe.format(quick=quick, url=f"{there.url}#seer"))
        code, _, err = imagecot("validate", "study.yaml")
        assert (code, err) == (0, "")
        assert there.bodies == []


def test_the_section_of_the_documentation_works_as_written(imagecot, tmp_path):
    section = (ROOT / "docs/judges.md").read_text(encoding="utf-8").split("## Served judges")[1].split("\n## ")[0]
    (command,), (file,) = (re.findall(rf"```{kind}\n(.*?)```", section, re.S) for kind in ("bash", "yaml"))
    arguments = shlex.split(command.replace("\\\n", " "))[1:]
    with server(sees) as there:
        asked = [word.replace("http://localhost:8000/v1", there.url) for word in arguments]
        code, out, err = imagecot(*asked, "--out", "by-address")
        assert (code, err) == (0, "")
        assert "4 of 4 paths kept" in out
        assert {body["model"] for body in there.bodies} == {"Qwen/Qwen2.5-VL-7B-Instruct"}
        (tmp_path / "judge.yaml").write_text(file.replace("http://localhost:8000/v1", there.url))
        code, out, err = imagecot(*asked[:-1], "judge.yaml", "--out", "by-file")
        assert (code, err) == (0, "")
        assert len([*(tmp_path / "runs/answers").rglob("*.json")]) == 4
    for name in re.findall(r"^\| `(\w+)` \|", section, re.M):
        assert name in Judge.model_fields or name == "validate"
    assert len(Judge.model_fields) == 6


@pytest.mark.slow
def test_processes_share_a_served_judge(imagecot, quick, tmp_path):
    with server(sees) as there:
        drawn = ("evaluate", "geneval", "--generator", quick, "--search", "best-of-n", "-n", "2", "--per-task", "1",
                 "--samples", "1", "--detector", "pictograms", "--verifier", f"{there.url}#seer")  # fmt: skip
        for name, workers in (("one", "1"), ("two", "2")):
            code, _, err = imagecot(*drawn, "--out", name, "--workers", workers)
            assert (code, err) == (0, "")
    assert (tmp_path / "one/results.jsonl").read_bytes() == (tmp_path / "two/results.jsonl").read_bytes()
