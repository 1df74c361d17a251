"""`imagecot generate` with searches and models of others, and what checkpoints and searches say of themselves."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from small_models import models_named

torch.set_num_threads(1)
PROMPT = "a photo of a red apple"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return models_named(tmp_path_factory.mktemp("models"))


@pytest.mark.parametrize(
    ("strategy", "verifier"), [("stepwise", "tiny-prm"), ("parm", "tiny-parm"), ("parm++", "tiny-parm++")]
)
def test_every_search_has_its_own_verifier(imagecot, strategy, verifier):
    code, out, _ = imagecot("generate", PROMPT, "--search", strategy, "-n", "2", "--json", "--out", "out")
    assert code == 0
    assert json.loads(out)["verifier"] == verifier
    first = {v["step"] for line in trace_lines() for v in line.get("verdicts", []) if v["question"] == "clarity"}
    assert min(first, default=6) == 6  # no preview that these could not call clear is asked about


def trace_lines() -> list[dict]:
    return [json.loads(line) for line in Path("out/trace.jsonl").read_text().splitlines()]


def test_a_generator_that_says_nothing_has_no_default_verifier(imagecot, models):
    code, _, err = imagecot("generate", PROMPT, *models[:2])
    assert code == 2
    assert f"{models[1]} brings no search along; name a verifier trained for what it draws" in err
    code, _, err = imagecot("generate", PROMPT, *models[:2], "--search", "parm")
    assert code == 2
    assert f"parm needs a verifier trained for what {models[1]} draws; name it with --verifier" in err
    code, out, _ = imagecot("generate", PROMPT, *models[:4], "-n", "2", "--json", "--out", "out")
    assert code == 0
    assert json.loads(out)["strategy"] == "parm"


def test_a_checkpoint_says_how_it_is_searched_with_and_the_user_goes_before(imagecot, models, tmp_path):
    own = [str(shutil.copytree(models[at], tmp_path / name)) for at, name in ((1, "draws"), (3, "judges"))]
    said = {"search": "parm", "verifiers": {"parm": own[1]}}
    (tmp_path / "draws/search_config.json").write_text(json.dumps(said))
    advice = {"searches": {"parm": {"first_step": 3, "keep": 0.5}}}
    (tmp_path / "judges/search_config.json").write_text(json.dumps(advice))
    call = ["generate", PROMPT, "--generator", own[0], "-n", "2"]
    code, out, _ = imagecot(*call, "--out", "out", "--json")
    assert code == 0
    run = json.loads(out)
    assert (run["strategy"], run["verifier"]) == ("parm", own[1])
    assert (run["settings"]["first_step"], run["settings"]["keep"]) == (3, 0.5)
    assert "finished before" in imagecot(*call, "--out", "out", "--set", "keep=0.5")[1]
    code, _, err = imagecot(*call, "--out", "out", "--keep", "0.25")
    assert code == 2 and "out holds another run (keep 0.5, not 0.25); choose another folder" in err
    code, out, _ = imagecot(*call, "--keep", "0", "--first-step", "1", "--out", "paper", "--json")
    assert code == 0 and not {"keep", "first_step"} & set(json.loads(out)["settings"])
    # Advice for paths that are longer is left out, also where a finished run is told again.
    (tmp_path / "judges/search_config.json").write_text('{"searches": {"parm": {"first_step": 9}}}')
    assert "first_step" not in json.loads(imagecot(*call, "--out", "short", "--json")[1])["settings"]
    assert "finished before" in imagecot(*call, "--out", "short")[1]


SEARCH = """
from pydantic import BaseModel, Field
from imagecot.contracts.search import Choice

class Settings(BaseModel):
    seed: int = Field(0, description="A name that the command has too.")
    last: bool = Field(False, description="Takes the last path.")

class Nth:
    Settings = Settings
    needs = frozenset()

    def paths(self, n):
        return n

    def choose(self, run):
        candidates = run.in_groups()
        return Choice(candidates, len(candidates) - 1 if run.settings.last else 0)

    def replay(self, recorded, settings):
        return None
"""


def test_a_search_of_somebody_else(imagecot, models, tmp_path):
    """One file in the current folder: its settings are given by --set, and belong to the run."""
    (tmp_path / "nth_search.py").write_text(SEARCH)
    call = ["generate", PROMPT, *models[:2], "--search", "nth_search:Nth", "-n", "3", "--out", "out"]
    code, out, err = imagecot(*call, "--set", "last=true")
    assert (code, err) == (0, "") and out.startswith("path 3 chosen; 3 of 3 paths kept; ")
    run = json.loads((tmp_path / "out/trace.jsonl").read_text().splitlines()[0])
    assert run["strategy"] == "nth_search:Nth" and run["settings"]["last"] is True
    assert len(run["weights"]["search"]) == 64
    assert "finished before" in imagecot(*call, "--set", "last=true")[1]
    code, _, err = imagecot(*call)
    assert code == 2 and "out holds another run (last True, not False)" in err
    code, _, err = imagecot(*call, "--set", "last=maybe")
    assert code == 2 and "the options of nth_search:Nth cannot be: last: " in err


MODELS = """
import os
from small_models import Brightness, Flat

class Shades(Flat):
    def __init__(self):
        super().__init__(steps=int(os.environ.get("STEPS", "2")))
        self.settings = {"range": int(os.environ.get("RANGE", "1"))}
"""


def test_models_of_somebody_else(imagecot, tmp_path, monkeypatch):
    """Nothing is known of them before they are loaded: then their settings belong to the run."""
    (tmp_path / "shades_model.py").write_text(MODELS)
    own = ["--generator", "shades_model:Shades", "--verifier", "shades_model:Brightness"]

    def run(*more: str, **change: str) -> tuple[int, str, str]:
        with monkeypatch.context() as patch:
            for name, value in change.items():
                patch.setenv(name, value)
            return imagecot("generate", PROMPT, *own, "--search", "best-of-n", "-n", "3", *more)

    assert run("--out", "out")[0] == 0
    header = json.loads((tmp_path / "out/trace.jsonl").read_text().splitlines()[0])
    assert header["settings"] == {"range": 1} and set(header["weights"]) == {"generator", "verifier"}
    assert "finished before" in run("--out", "out")[1]
    for change in ({"RANGE": "2"}, {"STEPS": "3"}):
        code, _, err = run("--out", "out", **change)
        assert code == 2 and "out holds another run" in err
    for change in ({}, {"RANGE": "2"}, {"RANGE": "1"}):  # without --out the next free name is taken
        assert run(**change)[0] == 0
    assert len(list((tmp_path / "runs").iterdir())) == 2
    code, _, err = run("--precision", "bfloat16")
    assert code == 2 and "takes no dtype" in err


def test_every_setting_of_a_search_is_an_option_with_its_help(imagecot):
    for command in (["generate"], ["evaluate", "geneval"]):
        code, out, _ = imagecot(*command, "--help")
        text = " ".join(re.sub(r"[│╭╮╰╯─]", " ", out).split())
        assert code == 0 and "single, best-of-n, stepwise, parm, parm++" in text
        assert "--first-step VALUE The first step after which paths are looked at: earlier previews are" in text
        assert (
            "Of parm, parm++, adaptive, hierarchical, resample and rewind. Default: 1 in parm and parm++, null in"
            in text
        )
        assert "; with tiny-janus-parm 5; with tiny-parm and tiny-parm++ 6." in text
        assert "; with tiny-janus-parm 0.5; with tiny-parm and tiny-parm++ 0.4." in text
        assert "--set NAME=VALUE" in text
