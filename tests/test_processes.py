"""Sharing work among processes: each does its part, and a failure comes back as a sentence."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from imagecot.errors import ImagecotError
from imagecot.processes import share


def note(folder: Path, rank: int, workers: int) -> None:
    (folder / f"{rank}-of-{workers}").touch()


def fail(rank: int, workers: int) -> None:
    if rank:
        raise ImagecotError("the second worker found no disk.")


def stay(folder: Path, rank: int, workers: int) -> None:
    (folder / str(rank)).write_text(str(os.getpid()))
    time.sleep(60)


def test_each_process_does_its_part(tmp_path):
    seen = []
    share(note, (tmp_path,), 2, lambda: seen.append(1))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["0-of-2", "1-of-2"]
    assert seen
    with pytest.raises(ImagecotError, match="found no disk"):
        share(fail, (), 2, lambda: None)


def test_no_worker_outlives_a_killed_parent(tmp_path):
    code = (
        "import sys; sys.path.insert(0, 'tests'); from pathlib import Path; import test_processes as t\n"
        f"if __name__ == '__main__': t.share(t.stay, (Path({str(tmp_path)!r}),), 1, lambda: None)"
    )
    script = tmp_path / "parent.py"
    script.write_text(code)
    parent = subprocess.Popen([sys.executable, str(script)], cwd=Path(__file__).parents[1])
    file = tmp_path / "0"
    for _ in range(600):
        if file.exists() and file.read_text():
            break
        time.sleep(0.1)
    worker = int(file.read_text())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    for _ in range(100):
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        if (Path(f"/proc/{worker}/stat").exists() and Path(f"/proc/{worker}/stat").read_text().split()[2]) == "Z":
            return
        time.sleep(0.1)
    os.kill(worker, signal.SIGKILL)
    pytest.fail("the worker went on")
