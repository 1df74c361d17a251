"""Real commands shared by hosts: whatever is killed or late, they end with the files of one undisturbed process.

A host is a namespace of processes, network and name of its own on this machine, with a shared folder and a clock
that is minutes off. So no host sees the processes of another, as on machines of their own.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from imagecot.curation.dataset import read_rows
from imagecot.files import is_temporary
from test_kills import COMMANDS, ENVIRONMENT, content, inputs, run

__all__ = ["inputs"]
SEED = int(os.environ.get("IMAGECOT_KILL_SEED", "0"))
SHARED = {name: COMMANDS[name] for name in ("evaluate", "curate", "study")}
SKEWED = """
import time
right = time.time
time.time = lambda: right() + {seconds}
"""
UNSHARE = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc", "--net", "--uts"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(subprocess.run([*UNSHARE, "true"], check=False).returncode != 0, reason="no namespaces here"),
]


class Host:
    """A command of several workers on a host of its own."""

    def __init__(self, name: str, folder: Path, command: list[str], seconds: int) -> None:
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "sitecustomize.py").write_text(SKEWED.format(seconds=seconds))
        skewed = [f"PYTHONPATH={folder / name}"]
        imagecot = ["env", *skewed, sys.executable, "-m", "imagecot", *command]
        script = 'hostname "$0"; exec "$@"'
        self.process = subprocess.Popen(
            [*UNSHARE, "sh", "-c", script, name, *imagecot],
            cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip

    def kill(self) -> None:
        """The whole host, at once."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()

    def workers(self) -> list[int]:
        """The processes that do units, seen from outside."""
        listed = subprocess.run(
            ["ps", "-o", "pid=,args=", "-g", str(self.process.pid)], capture_output=True, text=True, check=False
        ).stdout
        return [int(line.split()[0]) for line in listed.splitlines() if "spawn_main" in line]

    def ended(self) -> None:
        _, err = self.process.communicate(timeout=900)
        assert self.process.returncode == 0, err


def results(folder: Path) -> dict[str, object]:
    names = {str(file.relative_to(folder)): file for file in sorted(folder.rglob("*")) if file.is_file()}
    return {name: content(file) for name, file in names.items() if not is_temporary(file.name)}


@pytest.mark.parametrize("name", SHARED)
def test_two_hosts_whose_workers_and_selves_are_killed(name, inputs, tmp_path):
    rng = random.Random(f"{SEED}:{name}")
    whole, shared = (Path(shutil.copytree(inputs, tmp_path / side)) for side in ("whole", "shared"))
    began = time.monotonic()
    run(whole, SHARED[name])
    takes = time.monotonic() - began
    commands = {host: [*SHARED[name], "--workers", "2"] for host in ("anna", "berta")}
    clocks = {"anna": -420, "berta": 660}
    hosts = {host: Host(host, shared, commands[host], clocks[host]) for host in commands}
    for number in range(3):
        time.sleep(rng.uniform(0.5, 1) * takes)
        host = rng.choice([*hosts])
        workers = hosts[host].workers()
        if number % 2 and workers:
            os.kill(rng.choice(workers), signal.SIGKILL)
        else:
            hosts[host].kill()
            hosts[host] = Host(host, shared, commands[host], clocks[host])
    for host in hosts.values():
        host.ended()
    expected, got = results(whole / "out"), results(shared / "out")
    assert [*got] == [*expected]
    for file in expected:
        assert got[file] == expected[file], file
    if (shared / "out/curation.json").exists():
        ids = [row.id for row in read_rows(shared / "out")]
        assert len(ids) == len({*ids}) > 0
