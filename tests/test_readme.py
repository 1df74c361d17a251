"""What the README says to type works as written, on the shipped weights."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHIPPED = ROOT / "src" / "imagecot" / "checkpoints"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


def commands() -> list[str]:
    lines = [line.split("  #")[0].strip() for block in blocks("bash") for line in block.splitlines()]
    return [line for line in lines if line]


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    asked = {line.split()[1] for line in commands() if line.startswith("make ")}
    assert {"demo", "test", "tiny"} <= asked <= targets


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target


@pytest.mark.parametrize(
    "command", [c for c in commands() if re.match(r"imagecot (generate|models|validate|evaluate|curate)", c)]
)
def test_commands_run(command, tmp_path):
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    run = [sys.executable, "-m", "imagecot", *shlex.split(command)[1:]]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_python_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scope: dict = {}
    exec(blocks("python")[0], scope)
    trace = scope["trace"]
    assert len(trace.candidates) == 20 and trace.image.size == (64, 64)
    assert max(c.score for c in trace.candidates if c.truncated_at is None) == trace.choice.score
    stops = [c.truncated_at or 18 for c in trace.candidates]
    assert trace.cost.generator_rows == 2 * sum(stops)
