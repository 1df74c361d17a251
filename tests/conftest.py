"""Fixtures that several test files use."""

import os
import signal
import sys

import pytest
from hypothesis import settings

from imagecot import cli

# The same examples on every day; how long one takes says nothing where tests share two cores.
settings.register_profile("imagecot", deadline=None, max_examples=60, derandomize=True, database=None)
settings.load_profile("imagecot")
os.environ["IMAGECOT_TRACEBACK"] = "1"  # an exception that nobody foresaw shall fail a test


@pytest.fixture(autouse=True)
def signals_as_in_a_new_process():
    """Whatever ran before, a fixture of a module or a test of the command line, left no handlers of signals."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


@pytest.fixture
def imagecot(monkeypatch, capsys, tmp_path):
    """Run the command line inside this process, in an empty folder; return exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["imagecot", *arguments])
        capsys.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return call
