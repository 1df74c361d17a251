"""`imagecot generate` with small models: what it prints and writes, and how it fails."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from imagecot.generation.words import slug, unknown_words
from imagecot.images import open_picture
from imagecot.interruption import Stopped
from imagecot.strategies.trace import Trace
from small_models import STEPS, write_generator, write_verifier

torch.set_num_threads(1)
PROMPT = "a photo of a red apple"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("models")
    generator, verifier = write_generator(folder / "generator"), write_verifier(folder / "verifier")
    return ["--generator", str(generator), "--verifier", str(verifier), "--search", "best-of-n"]


def start(*arguments: str, cwd: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "imagecot", *arguments]
    pipe = subprocess.PIPE

    def hear_ctrl_c() -> None:
        # A shell without job control starts background processes, and so their children, deaf to it.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    return subprocess.Popen(
        command, cwd=cwd, env=ENVIRONMENT, stdout=pipe, stderr=pipe, text=True, preexec_fn=hear_ctrl_c
    )


def test_a_run_and_its_report(imagecot, models, tmp_path):
    code, out, err = imagecot("generate", PROMPT, *models, "-n", "3", "--out", "out")
    assert (code, err) == (0, "")
    trace = Trace.load(tmp_path / "out")
    rows = 3 * STEPS * 2
    pattern = (
        rf"path {trace.chosen + 1} chosen, P\(yes\) {trace.choice.score:.2f}; 3 of 3 paths kept; [\d.]+ s, "
        rf"{rows} generator rows, 3 previews, 3 judge calls: out/image.png, steps.png\n"
    )
    assert re.fullmatch(pattern, out)
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "image.png",
        "steps.png",
        "trace.jsonl",
    ]
    assert open_picture(tmp_path / "out/image.png").size == (16, 16)
    assert open_picture(tmp_path / "out/steps.png").width > 700
    assert (trace.generator, trace.verifier) == (models[1], models[3])
    assert set(trace.weights) == {"generator", "generation_config", "image_tokenizer", "verifier"}
    digest = subprocess.run(
        ["sha256sum", Path(models[1]) / "model.safetensors"], capture_output=True, text=True, check=True
    ).stdout.split()[0]
    assert trace.weights["generator"] == digest
    assert trace.settings["guidance_scale"] == 1.75

    code, again, _ = imagecot("generate", PROMPT, *models, "-n", "3", "--out", "out")
    assert code == 0
    assert again == out.replace("judge calls:", "judge calls (finished before):")
    code, out, err = imagecot("generate", PROMPT, *models, "-n", "4", "--out", "out")
    assert (code, out) == (2, "")
    assert "out holds another run (n 3, not 4)" in err


def test_a_finished_run_is_told_again_without_loading_torch(imagecot, models, tmp_path):
    arguments = ["generate", PROMPT, *models, "-n", "2", "--out", "out"]
    assert imagecot(*arguments)[0] == 0
    code = (
        "import sys; from imagecot import cli\n"
        f"sys.argv = {['imagecot', *arguments]}\n"
        "cli.main(); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and "(finished before)" in done.stdout


def test_a_free_name_where_the_default_folder_is_taken(imagecot, models, tmp_path):
    for prompt, seed in (("🍎", "0"), ("🍌", "0"), ("🍌", "1"), ("🍌", "0")):
        code, out, _ = imagecot("generate", prompt, *models[:2], "--search", "single", "--seed", seed)
        assert code == 0
    assert "(finished before)" in out
    day = min(folder.name for folder in (tmp_path / "runs").iterdir())
    assert sorted(folder.name for folder in (tmp_path / "runs").iterdir()) == [day, f"{day}-2", f"{day}-3"]


def test_json_is_one_object_and_nothing_else(models, tmp_path):
    process = start(
        "generate",
        "a big red apple",
        *models,
        "-n",
        "2",
        "--seed",
        "7",
        "--out",
        "out",
        "--json",
        cwd=tmp_path,
    )
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "does not know big" in err
    assert out.count("\n") == 1
    result = json.loads(out)
    trace = Trace.load(tmp_path / "out")
    assert result["chosen"] == {
        "path": trace.chosen + 1,
        "seed": trace.choice.seed,
        "p_yes": trace.choice.score,
    }
    assert result["cost"]["judge_calls"] == 2
    assert result["cost"]["tokens_judged"] == trace.cost.tokens_judged > 0
    assert (result["prompt"], result["n"], result["seed"], result["kept"]) == ("a big red apple", 2, 7, 2)
    assert (tmp_path / result["image"]).is_file()


def test_ctrl_c_and_the_same_command(imagecot, models, tmp_path):
    """600 paths are two groups of 256 and a rest: interrupt after the first, continue, and compare with a whole run."""
    arguments = ["generate", PROMPT, *models, "-n", "600", "--out"]
    process = start(*arguments, "cut", cwd=tmp_path)
    deadline = time.monotonic() + 100
    while not list(tmp_path.glob("cut/partial/*.safetensors")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert (out, err) == ("", "stopped; the same command continues where this run was.\n")
    parts = sorted(tmp_path.glob("cut/partial/*.safetensors"))
    written = [part.stat().st_mtime_ns for part in parts]
    assert len(parts) < 3 and parts[0].name == "paths-000000-000256.safetensors"
    assert imagecot(*arguments, "whole")[0] == 0
    assert [part.stat().st_mtime_ns for part in parts] == written
    assert imagecot(*arguments, "cut")[0] == 0
    assert not (tmp_path / "cut/partial").exists()
    cut, whole = Trace.load(tmp_path / "cut"), Trace.load(tmp_path / "whole")
    assert cut.chosen == whole.chosen
    assert cut.cost.generator_rows == whole.cost.generator_rows == 600 * STEPS * 2
    assert cut.cost.judge_calls == 600
    assert [c.seed for c in cut.candidates] == [c.seed for c in whole.candidates]
    scores = [[c.score for c in trace.candidates] for trace in (cut, whole)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)


def test_single_has_no_verifier_unless_named(imagecot, models, tmp_path):
    code, out, _ = imagecot("generate", PROMPT, *models[:2], "--search", "single", "--out", "one")
    assert code == 0
    assert out.startswith("path 1 chosen; 1 of 1 paths kept; ")
    assert Trace.load(tmp_path / "one").verifier is None
    code, out, _ = imagecot("generate", PROMPT, *models, "--search", "single", "--out", "judged")
    assert code == 0
    assert out.startswith("path 1 chosen, P(yes) ")


def test_the_default_folder(imagecot, models, tmp_path):
    code, out, err = imagecot("generate", "Two  cups!", *models[:2], "--search", "single")
    assert code == 0
    assert "does not know two, cups; the image may leave that out" in err
    (folder,) = (tmp_path / "runs").iterdir()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d-two-cups", folder.name)
    assert f"runs/{folder.name}/image.png" in out


def test_slug():
    assert slug("A photo of: a red_apple!") == "a-photo-of-a-red-apple"
    assert slug("../../etc") == "etc"
    assert slug("?!") == "prompt"
    assert slug("苹果") == "苹果"
    assert slug("word " * 50) == "word-word-word-word-word-word-word-word-word-wor"


def test_unknown_words():
    known = frozenset({"a", "red", "apple", "two"})
    assert unknown_words("A red apple, a RED wheel-chair; 3 wheel-chair", known) == ["wheel-chair", "3"]
    assert unknown_words("two  apple.", known) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([""], "the prompt is empty; say what to draw"),
        (["  \n\t"], "the prompt is empty; say what to draw"),
        (["x", "-n", "0"], "at least 1 path, not 0"),
        (["x", "-n", "-1"], "at least 1 path, not -1"),
        (["x", "-n", "many"], "Invalid value for '-n'"),
        (["x", "-n", "1" * 22], "the number of paths must be at most 100000"),
        (["x", "-n", "1" * 5000], "nvalid"),
        (["x", "--seed", str(2**63)], "the seed must be at most 9223372036854775807"),
        (["x", "--seed", str(-(2**63) - 1)], "the seed must be at least -9223372036854775808"),
        (["x", "--keep", "nan"], "the options of parm cannot be: keep: input should be a valid number, not 'nan'"),
        (["x", "--first-step", "1" * 30], "first_step: input should be less than or equal to"),
        (["\u200b\ufeff"], "the prompt is empty; say what to draw"),
        (["x" * 10_001], "more than 10000; shorten it"),
        (["x", "--generator", ""], "there is no generator ''"),
        (["x", "--verifier", ""], "there is no verifier ''"),
        (["x", "--search", "parm++", "--corrector", ""], "there is no corrector ''"),
        (["x", "--search", "best-off-n"], "did you mean best-of-n?"),
        (["x", "--search", "best-of-n", "--keep", "0.5"], "best-of-n has no option 'keep'; it has none"),
        (["x", "--set", "keep"], "--set 'keep' sets nothing; write NAME=VALUE"),
        (["x", "--set", "keep=0.4", "--keep", "0.4"], "keep is given twice"),
        (["x", "--set", "keep=["], "the value of keep is not YAML"),
        (["x", "--set", "kep=0.4"], "parm has no option 'kep'; it has first_step, keep"),
        (["x", "--generator", "showlab/show-o"], "showlab/show-o brings no search along; name a verifier"),
        (["x", "--sede", "1"], "No such option: --sede"),
        ([], "Missing argument"),
        (["x", "--generator", "no-such-thing"], "there is no generator 'no-such-thing'"),
        (["x", "--generator", "no/such/folder"], "there is no generator 'no/such/folder'"),
    ],
)
def test_usage_errors_exit_with_2_and_say_why(arguments, message, tmp_path, imagecot):
    code, out, err = imagecot("generate", *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert list(tmp_path.iterdir()) == []


def test_a_prompt_that_is_too_long(imagecot, models, tmp_path):
    code, out, err = imagecot("generate", "apple " * 50, *models, "--out", "out")
    assert (code, out) == (2, "")
    assert re.search(r"the prompt has \d+ tokens but this generator reads at most 30; shorten it\.", err)
    assert list(tmp_path.iterdir()) == []


def test_another_generator_may_correct(imagecot, models, tmp_path):
    corrector = write_generator(tmp_path / "corrector")
    named = [*models[:4], "--search", "parm++", "--corrector", str(corrector), "-n", "2", "--out", "out"]
    code, _, err = imagecot("generate", PROMPT, *named)
    assert (code, err) == (0, "")
    trace = Trace.load(tmp_path / "out")
    assert trace.settings["corrector"] == str(corrector)
    assert {"corrector", "corrector_generation_config", "corrector_image_tokenizer"} < set(trace.weights)
    code, _, err = imagecot("generate", PROMPT, *models[:4], "--search", "parm++", "-n", "2", "--out", "out")
    assert code == 2 and "holds another run" in err
    code, _, err = imagecot("generate", PROMPT, *models, "--corrector", str(corrector), "--out", "no")
    assert code == 2 and "best-of-n corrects nothing" in err
    code, _, err = imagecot("generate", PROMPT, *named[:-6], "--search", "parm++", "--corrector", "nobody")
    assert code == 2 and "there is no corrector 'nobody'" in err


def test_an_unknown_verifier(imagecot, models):
    code, _, err = imagecot("generate", PROMPT, *models[:2], "--verifier", "no-such-judge")
    assert code == 2
    assert "there is no verifier 'no-such-judge'" in err


def test_damaged_checkpoints(imagecot, models, tmp_path):
    for role, at in (("generator", 1), ("verifier", 3)):
        broken = shutil.copytree(models[at], tmp_path / role)
        weights = broken / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:5000])
        given = [*models[:at], str(broken), *models[at + 1 :]]
        code, out, err = imagecot("generate", PROMPT, *given, "--out", "out")
        assert (code, out) == (1, "")
        assert len(err.strip().splitlines()) == 1
        assert str(broken) in err
        (broken / "config.json").unlink()
        code, out, err = imagecot("generate", PROMPT, *given, "--out", "out")
        assert (code, out) == (1, "")
        assert "has no config.json" in err
    assert not (tmp_path / "out").exists()


def test_folders_that_cannot_be_written_to(imagecot, models, tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").write_text("precious")
    for out, code, message in (
        ("file", 2, "file is a file; give a folder to write to"),
        ("full", 2, "full is not empty and holds no run of imagecot"),
        ("file/below", 1, "cannot write file/below"),
        ("/proc/imagecot", 1, "cannot write /proc/imagecot"),
        ("x" * 300, 1, "cannot"),
    ):
        result = imagecot("generate", PROMPT, *models, "-n", "2", "--out", out)
        assert result[:2] == (code, "")
        assert message in result[2]
        assert len(result[2].strip().splitlines()) == 1
    assert (tmp_path / "full/notes.txt").read_text() == "precious"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "full"]


def test_a_disk_that_fills_up(imagecot, models, tmp_path):
    """The process may write no file larger than 1000 bytes: the first part of the run does not fit."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        code, out, err = imagecot("generate", PROMPT, *models, "-n", "2", "--out", "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert (code, out) == (1, "")
    assert "cannot write out/partial/" in err
    assert len(err.strip().splitlines()) == 1
    assert not list(tmp_path.rglob("*.safetensors*"))


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (MemoryError(), 1, "not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 1, "not enough memory"),
        (KeyboardInterrupt(), 130, "stopped; the same command"),
        (Stopped(signal.SIGTERM), 143, "ended by SIGTERM; the same command"),
        (OSError(28, "No space left on device", "x.png"), 1, "x.png: the disk is full"),
    ],
)
def test_failures_of_the_machine(imagecot, models, monkeypatch, error, code, message):
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("imagecot.strategies.search.search_in", fail)
    result = imagecot("generate", PROMPT, *models, "--out", "out")
    assert result[:2] == (code, "")
    assert message in result[2]


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
        assert "Of parm, parm++, hierarchical, resample and rewind. Default: 1 in parm and parm++, null in" in text
        assert "; with tiny-janus-parm 5; with tiny-parm and tiny-parm++ 6." in text
        assert "; with tiny-janus-parm 0.5; with tiny-parm and tiny-parm++ 0.4." in text
        assert "--set NAME=VALUE" in text
