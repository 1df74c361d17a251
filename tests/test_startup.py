"""What the command line imports: nothing for help, and to draw only what draws."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

# What takes long to import, and is needed for training, other models or figures.
HEAVY = (
    *("transformers", "peft", "accelerate", "datasets", "diffusers", "matplotlib", "scipy", "sklearn", "pandas"),
    *("torch._dynamo", "torch._inductor", "torch.distributed.tensor", "torch.distributed.fsdp", "sympy", "fastapi"),
    *("openai", "httpx2", "pyarrow", "gradio"),
)
LIGHT = ("torch", "numpy", "tokenizers", "PIL.Image", *HEAVY)
DRAW = ("generate", "a photo of a red apple", "--generator", "tiny", "-n", "2")


def imported(*arguments: str, cwd: Path, names: tuple[str, ...]) -> list[str]:
    """Those of the modules that a command has imported when it ends."""
    code = (
        "import sys, atexit\n"
        f"atexit.register(lambda: print('\\n' + ' '.join(name for name in {names!r} if name in sys.modules)))\n"
        f"sys.argv = {['imagecot', *arguments]!r}\n"
        "from imagecot.__main__ import main\n"
        "main()"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()


@pytest.mark.parametrize("arguments", [("--help",), ("generate", "--help"), ("--version",)])
def test_help_needs_no_torch(arguments: tuple[str, ...], tmp_path: Path) -> None:
    assert imported(*arguments, cwd=tmp_path, names=LIGHT) == []


def test_a_picture_of_shipped_models_imports_what_draws_and_no_more(tmp_path: Path) -> None:
    """Another search for each of the shipped kinds of verifiers would find the same."""
    assert imported(*DRAW, "--out", "out", cwd=tmp_path, names=("torch", *HEAVY)) == ["torch"]
    assert (tmp_path / "out" / "steps.png").is_file()


def test_a_janus_and_its_judge_too(tmp_path: Path) -> None:
    asked = (*DRAW[:3], "tiny-janus", *DRAW[4:], "--search", "parm", "--out", "out")
    assert imported(*asked, cwd=tmp_path, names=("torch", *HEAVY)) == ["torch"]


def test_adapters_of_generators_too(tmp_path: Path) -> None:
    asked = ("generate", "a photo of a cup", "--generator", "tiny-dpo", "--search", "single", "--out", "out")
    assert imported(*asked, cwd=tmp_path, names=("torch", *HEAVY)) == ["torch"]


def test_threads_that_wait_sleep_unless_told_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import os, sys; sys.argv = ['imagecot', '--version']\n"
        "from imagecot.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(os.environ['OMP_WAIT_POLICY'])"
    )
    for given, found in ((None, "passive"), ("active", "active")):
        monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
        if given:
            monkeypatch.setenv("OMP_WAIT_POLICY", given)
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == found


def test_what_was_loaded_is_not_looked_through_for_garbage(tmp_path: Path) -> None:
    code = (
        "import gc, sys; sys.argv = ['imagecot', '--version']\n"
        "from imagecot.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(gc.isenabled(), gc.get_threshold()[0] > 700, gc.get_freeze_count() > 10_000)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "True True True"
