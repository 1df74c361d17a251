"""Fixtures that several test files use."""

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from PIL import Image

from imagecot import cli, figures
from imagecot.evaluation.folder import write_entry
from imagecot.files import write_atomically
from imagecot.hub import CHECKPOINTS
from imagecot.worlds.drawn.captions import held_out_prompts
from scored import rendered
from small_models import write_generator, write_verifier
from somebodys_module import SOURCE

# The same examples on every day; how long one takes says nothing where tests share two cores.
settings.register_profile("imagecot", deadline=None, max_examples=60, derandomize=True, database=None)
settings.load_profile("imagecot")
_FLAGS = ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run")
_ALONE = ("--no-sandbox", "--disable-gpu", "--disable-quic", *_FLAGS)
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


@pytest.fixture(scope="session")
def six(tmp_path_factory) -> Path:
    """A prompt of each task, two images each."""
    folder = tmp_path_factory.mktemp("six") / "im"
    folder.mkdir()
    for k, metadata in enumerate(held_out_prompts(1)):
        image = rendered(metadata)
        write_entry(folder / f"{k:05d}", metadata, torch.stack([image, image.flip(2)]))
    return folder


@pytest.fixture
def images(six, tmp_path) -> Path:
    """A copy of these."""
    shutil.copytree(six, tmp_path / "im")
    return tmp_path / "im"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generator and a verifier, as they would be copied from somewhere."""
    folder = tmp_path_factory.mktemp("small")
    write_generator(folder / "generator")
    write_verifier(folder / "verifier")
    return folder


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """Copy a folder to a fresh place."""

    def copy(source: Path) -> Path:
        return Path(shutil.copytree(source, tmp_path_factory.mktemp("copy") / source.name))

    return copy


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium that asks nobody but the pages it is given."""
    program = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if not program:
        pytest.fail("there is no Chromium; install it, or name it with CHROMIUM (make test-browser)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=list(_ALONE))
        yield chromium
        chromium.close()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with a module of somebody else, and no hub."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/__init__.py").write_text("from theirs.own import Judges\n")
    (tmp_path / "theirs/own.py").write_text(SOURCE)
    (tmp_path / "fails.py").write_text("import no_such_module_at_all\n")
    (tmp_path / "wrong.py").write_text("def\n")
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("theirs", "fails", "wrong"):
            del sys.modules[name]


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
