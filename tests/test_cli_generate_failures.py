"""How `imagecot generate` fails: by one sentence, whoever is to blame."""

import re
import resource
import shutil
import signal

import pytest
import torch

from imagecot.interruption import Stopped
from imagecot.strategies.trace import Trace
from small_models import models_named, write_generator

torch.set_num_threads(1)
PROMPT = "a photo of a red apple"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return models_named(tmp_path_factory.mktemp("models"))


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
