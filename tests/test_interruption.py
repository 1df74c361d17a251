"""Ctrl-C, SIGTERM and what nobody foresaw: one sentence, the right code, nothing lost on the way."""

import os
import signal
import subprocess
import sys

import pytest

from imagecot import interruption, last_resort
from imagecot.interruption import Stopped, continuing

RAISE = """
import os, signal, sys
from imagecot import cli, prompts
def act(*_, **__):
    {act}
prompts.check_prompt = act
sys.argv = ["imagecot", "generate", "x"]
cli.main()
"""


def run(act: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", RAISE.format(act=act)],
        env={**os.environ, "IMAGECOT_TRACEBACK": "0", **environment}, capture_output=True, text=True, check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "code", "words"), [("SIGINT", 130, "stopped.\n"), ("SIGTERM", 143, "ended by SIGTERM.\n")]
)
def test_a_signal_is_one_sentence_and_its_code(name, code, words):
    done = run(f"os.kill(os.getpid(), signal.{name}); raise AssertionError('not reached')")
    assert (done.returncode, done.stdout, done.stderr) == (code, "", words)


def test_a_failure_that_a_signal_caused_is_told_as_the_signal():
    swallowed = "try: os.kill(os.getpid(), signal.SIGINT)\n    except BaseException: pass\n    raise ValueError('half')"
    done = run(swallowed)
    assert (done.returncode, done.stderr) == (130, "stopped.\n")


def test_a_request_that_got_lost_is_raised_again(monkeypatch):
    monkeypatch.setattr(interruption, "_asked", None)
    interruption.check()
    with pytest.raises(Stopped):
        interruption._stop(signal.SIGTERM, None)
    with pytest.raises(Stopped) as caught:
        interruption.check()
    assert caught.value.exit_code == 143


def test_how_to_go_on_is_said():
    for error in (KeyboardInterrupt(), Stopped(signal.SIGINT)):
        with pytest.raises(Stopped) as caught, continuing("the same command continues"):
            raise error
        assert (caught.value.sentence, caught.value.exit_code) == ("stopped; the same command continues.", 130)


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        interruption.catch_signals()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, interrupt)


def test_what_nobody_foresaw_is_one_sentence_and_a_file(tmp_path):
    done = run("raise ZeroDivisionError('7 / 0')", TMPDIR=str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    (file,) = tmp_path.glob("imagecot-error-*.txt")
    assert done.stderr == (
        "error: imagecot failed in a way that was not foreseen (ZeroDivisionError: 7 / 0); "
        f"the traceback is in {file}: please report it.\n"
    )
    assert "ZeroDivisionError: 7 / 0" in file.read_text()


def test_without_a_place_for_the_file_the_sentence_says_how_to_see_more(monkeypatch):
    monkeypatch.setattr(last_resort.tempfile, "tempdir", "/nonexistent")
    told = last_resort.sentence(ValueError("two\nlines"))
    assert told.endswith("(ValueError: two); set IMAGECOT_TRACEBACK=1 to see the traceback.")


def test_tests_see_tracebacks():
    assert last_resort.switched_off()
    done = run("raise ZeroDivisionError", IMAGECOT_TRACEBACK="1")
    assert done.returncode == 1 and "Traceback" in done.stderr


def test_no_command_is_help_and_a_sentence(imagecot):
    code, out, err = imagecot()
    assert code == 2 and "generate" in out and err.startswith("error: no command was given")
