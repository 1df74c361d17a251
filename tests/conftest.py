"""Fixtures that several test files use."""

import json
import os
import shutil
import signal
import sys

import pytest
from hypothesis import settings
from PIL import Image

from imagecot import cli, figures
from imagecot.files import write_atomically
from imagecot.hub import CHECKPOINTS

# The same examples on every day; how long one takes says nothing where tests share two cores.
settings.register_profile("imagecot", deadline=None, max_examples=60, derandomize=True, database=None)
settings.load_profile("imagecot")
os.environ["IMAGECOT_TRACEBACK"] = "1"  # an exception that nobody foresaw shall fail a test


@pytest.fixture(autouse=True)
def signals_as_in_a_new_process():
    """Whatever ran before, a fixture of a module or a test of the command line, left no handlers of signals."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


_SAVE = figures.save


@pytest.fixture(scope="session", autouse=True)
def figures_are_not_painted():
    """Figures are made, and files of one pixel written: painting takes most of the time of a small training."""
    pixel = Image.new("RGB", (1, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            figures, "save", lambda figure, file, dpi: write_atomically(file, lambda place: pixel.save(place, "png"))
        )
        yield


@pytest.fixture(scope="session")
def quick_tiny(tmp_path_factory):
    """The shipped generator, drawing in 4 steps; nobody writes to its folder."""
    folder = shutil.copytree(CHECKPOINTS / "tiny", tmp_path_factory.mktemp("models") / "tiny")
    file = folder / "generation_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "steps": 4}))
    return folder


@pytest.fixture
def painted(monkeypatch):
    """Figures are painted, for tests that look at them."""
    monkeypatch.setattr(figures, "save", _SAVE)


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
