"""Commands that are killed at random moments end with the files of those that were not."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from imagecot.curation.prompts import prompts_of
from imagecot.files import is_temporary

KILLS = int(os.environ.get("IMAGECOT_KILLS", "2"))  # of each command
SEED = int(os.environ.get("IMAGECOT_KILL_SEED", "0"))
PROMPT = "a photo of a red apple and a green cup"
TIMED = {"seconds", "began", "ended", "date", "timing", "command", "machine", "picture_cost", "cost"}
PICTURED = {"steps.png"}  # the picture of the steps says how many seconds the search took
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "HF_HUB_OFFLINE": "1"}

STUDY = """
output: out
seed: 3
prompts_per_task: 2
timed_prompts: 0
gallery: 1
n: 4
generators: {baseline: tiny}
rows:
  baseline: {generator: baseline, search: single}
  orm: {generator: baseline, search: best-of-n, verifier: tiny-orm}
"""
DPO = """
output: out
base: tiny
data: pairs
training: {draws: 2, steps: 6, batch_size: 2, lora: {r: 2, alpha: 4}, held_out: 0.2, pictures: 2, evaluate_every: 3,
           save_every: 1}
"""
COMMANDS = {
    "parm": ["generate", PROMPT, "--search", "parm", "-n", "60", "--out", "out"],
    "parm++": ["generate", PROMPT, "--search", "parm++", "-n", "30", "--seed", "4", "--out", "out"],
    "evaluate": [
        "evaluate",
        "geneval",
        "--generator",
        "tiny",
        "--prompts",
        "p.jsonl",
        "--samples",
        "2",
        "--out",
        "out",
    ],
    "ensemble": [
        *("evaluate", "geneval", "--generator", "tiny", "--verifier", "min(tiny-orm,tiny-zero-shot)"),
        *("--search", "best-of-n", "-n", "2", "--prompts", "p.jsonl", "--samples", "1", "--out", "out"),
    ],
    "curate": ["curate", "parm", "--prompts", "p.jsonl", "--paths", "8", "--keep", "4", "--out", "out"],
    "train": ["train", "dpo", "dpo.yaml"],
    "study": ["study", "study.yaml"],
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the commands read: prompts, pairs and recipes."""
    folder = tmp_path_factory.mktemp("inputs")
    prompts = prompts_of("drawn", 4, 0)
    (folder / "p.jsonl").write_text("".join(metadata.text + "\n" for metadata in prompts))
    (folder / "dpo.yaml").write_text(DPO)
    (folder / "study.yaml").write_text(STUDY)
    run(folder, ["curate", "orm", "--prompts", "p.jsonl", "--paths", "6", "--keep", "6", "--out", "orm"])
    run(folder, ["curate", "pairs", "--data", "orm", "--out", "pairs"])
    return folder


def begin(folder: Path, command: list[str]) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "imagecot", *command],
        cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def run(folder: Path, command: list[str]) -> None:
    process = begin(folder, command)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 0, err


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if key not in TIMED}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def content(file: Path) -> Any:
    """What must be equal of a file: its bytes, but of JSON not how long things took."""
    if file.suffix in (".json", ".jsonl"):
        return [without_times(json.loads(line)) for line in whole_values(file.read_text())]
    if file.suffix == ".md":
        return [line for line in file.read_text().split("\n") if " s " not in line]
    return file.read_bytes()


def whole_values(text: str) -> list[str]:
    try:
        json.loads(text)
    except ValueError:
        return [line for line in text.split("\n") if line]
    return [text]


def files(folder: Path) -> dict[str, Path]:
    found = {str(file.relative_to(folder)): file for file in sorted(folder.rglob("*")) if file.is_file()}
    return {name: file for name, file in found.items() if not is_temporary(file.name) and file.name not in PICTURED}


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_killed_command_ends_as_an_undisturbed_one(name, inputs, tmp_path):
    rng = random.Random(f"{SEED}:{name}")
    whole, cut = (Path(shutil.copytree(inputs, tmp_path / side)) for side in ("whole", "cut"))
    began = time.monotonic()
    run(whole, COMMANDS[name])
    takes = time.monotonic() - began
    for _ in range(KILLS):
        process = begin(cut, COMMANDS[name])
        time.sleep(rng.uniform(0.2, 1) * takes)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    run(cut, COMMANDS[name])
    expected, got = files(whole / "out"), files(cut / "out")
    assert list(got) == list(expected)
    for file in expected:
        assert content(got[file]) == content(expected[file]), file
