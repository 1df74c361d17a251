"""`imagecot generate` with small models: what it prints and writes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from imagecot.generation.words import slug, unknown_words
from imagecot.images import open_picture
from imagecot.strategies.trace import Trace
from small_models import STEPS, models_named

torch.set_num_threads(1)
PROMPT = "a photo of a red apple"


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return models_named(tmp_path_factory.mktemp("models"))


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
        "previews.zip",
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
