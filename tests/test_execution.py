"""Work in units, shared by processes: each is done once, whoever dies, and concluded once."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from imagecot.errors import ImagecotError, UsageError
from imagecot.execution import local
from imagecot.watch import Watch
from working import EXPECTED, Toy, go, kept, toy, tries

ROOT = Path(__file__).parents[1]


def begin(folder: Path, workers: int = 1, seconds: float = 0.01, count: int = 12, *before: str) -> subprocess.Popen:
    """Another command on the same work, in a session of its own."""
    return subprocess.Popen(
        [*before, sys.executable, "tests/working.py", str(folder), str(workers), str(seconds), str(count)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def ended(process: subprocess.Popen) -> str:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


def until(found, process: subprocess.Popen | None = None, seconds: float = 60) -> None:
    began = time.monotonic()
    while not found():
        assert time.monotonic() < began + seconds
        assert process is None or process.poll() is None
        time.sleep(0.01)


def test_one_process_does_all_and_leaves_nothing_but_results(tmp_path):
    work = toy(tmp_path)
    seen = []
    progress = Watch(tell=seen.append)
    assert go(work, watch=progress) == EXPECTED
    assert [*os.listdir(work.folder)] == ["whole.txt"]
    assert tries(work) == kept(work) == [1] * 12
    assert seen == []
    assert go(work) == EXPECTED


def test_commands_on_one_folder_share_the_work_and_one_concludes(tmp_path):
    work = toy(tmp_path)
    commands = [begin(tmp_path, seconds=0.2) for _ in range(3)]
    assert [ended(one) for one in commands] == [EXPECTED] * 3
    assert tries(work) == kept(work) == [1] * 12
    assert len((tmp_path / "tries/concluded").read_text().splitlines()) == 1
    assert len({(work.tries / unit.name).read_text() for unit in work.units}) > 1
    assert [*os.listdir(work.folder)] == ["whole.txt"]


def test_workers_are_processes_of_their_own(tmp_path):
    work = toy(tmp_path, seconds=0.3)
    assert go(work, 2) == EXPECTED
    did = {(work.tries / unit.name).read_text() for unit in work.units}
    assert len(did) == 2 and f"{os.getpid()}\n" not in did
    assert sorted(file.name for file in work.tries.glob("place*")) == ["place (0, 2)", "place (1, 2)"]
    assert tries(work) == [1] * 12


def test_a_worker_that_dies_is_replaced_and_its_unit_done_by_another(tmp_path):
    work, told = toy(tmp_path, seconds=0.2), []
    (work.tries / "00005.dies").write_text("1")
    assert go(work, 2, Watch(tell=told.append)) == EXPECTED
    assert tries(work) == [1 + (k == 5) for k in range(12)]
    assert any("killed by signal 9" in text for text in told)


def test_a_unit_that_kills_every_worker_ends_the_work(tmp_path):
    work = toy(tmp_path)
    (work.tries / "00005.dies").write_text("99")
    with pytest.raises(ImagecotError, match=r"00005 failed 3 times, at last on .*: the process ended without a word"):
        go(work, 2)
    assert 3 <= tries(work)[5] <= 3 + local.REPLACED
    (work.tries / "00005.dies").unlink()
    assert go(work) == EXPECTED
    assert kept(work) == [1] * 12


def test_when_all_have_died_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "REPLACED", 0)
    work = toy(tmp_path, count=2)
    for k in range(2):
        (work.tries / f"{k:05d}.dies").write_text("9")
    with pytest.raises(ImagecotError, match=r"was killed by signal 9\); run the same command again"):
        go(work, 2)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_unit_that_fails_now_and_then_is_tried_again(tmp_path, workers):
    work = toy(tmp_path)
    (work.tries / "00002.fails").write_text("2")
    assert go(work, workers) == EXPECTED
    assert tries(work) == [1 + 2 * (k == 2) for k in range(12)]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_unit_that_always_fails_ends_the_work_and_all_else_is_kept(tmp_path, workers):
    work = toy(tmp_path)
    (work.tries / "00002.fails").write_text("99")
    with pytest.raises(ImagecotError, match=r"the unit 00002 failed 3 times, at last on \S+: 00002 is broken\."):
        go(work, workers)
    assert tries(work)[2] == 3
    assert len(list((work.folder / "parts").iterdir())) >= 9
    (work.tries / "00002.fails").unlink()
    assert go(work, workers) == EXPECTED
    assert kept(work) == [1] * 12


def test_a_worker_for_which_everything_fails_stops(tmp_path):
    work = toy(tmp_path)
    for unit in work.units:
        (work.tries / f"{unit.name}.fails").write_text("99")
    with pytest.raises(ImagecotError, match="is broken"):
        go(work)
    assert sum((work.tries / unit.name).exists() for unit in work.units) == 3
    assert not work.folder.exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_request_that_makes_no_sense_ends_at_once_and_leaves_nothing(tmp_path, workers):
    work = toy(tmp_path)
    (work.tries / "refuses").touch()
    with pytest.raises(UsageError, match="ask for something else"):
        go(work, workers)
    assert not work.folder.exists()


def test_nothing_is_written_through_a_link(tmp_path):
    work = toy(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    work.folder.mkdir()
    (work.folder / ".work").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ImagecotError, match=r"\.work is a link, which nothing is written through"):
        go(work)
    assert [*(tmp_path / "elsewhere").iterdir()] == []


def test_a_url_is_no_folder(tmp_path):
    work = Toy(Path("s3://bucket/out"), tmp_path)
    with pytest.raises(UsageError, match="s3:/bucket/out is a URL, and work is shared through a folder"):
        go(work)


def test_a_full_disk_stops_one_worker_and_no_other(tmp_path):
    work, told = toy(tmp_path, seconds=0.2), []
    (work.tries / "00000.full").write_text("1")
    assert go(work, 2, Watch(tell=told.append)) == EXPECTED
    assert any("stopped: cannot write x: the disk is full." in text for text in told)
    assert tries(work)[0] == 2
    (tmp_path / "b").mkdir()
    alone = toy(tmp_path / "b")
    (alone.tries / "00000.full").write_text("1")
    with pytest.raises(ImagecotError, match="disk is full"):
        go(alone)


def test_a_killed_command_goes_on_and_does_nothing_twice(tmp_path):
    work = toy(tmp_path)
    killed = begin(tmp_path, 2, 0.2)
    until(lambda: len(list((work.folder).glob("parts/*.txt"))) >= 3, killed)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    before = sum((work.tries / unit.name).exists() for unit in work.units)
    assert before < 12
    assert go(work) == EXPECTED
    assert kept(work) == [1] * 12
    assert all(count <= 2 for count in tries(work)) and sum(tries(work)) <= 12 + 2


def test_the_workers_of_a_killed_parent_end_and_give_back(tmp_path):
    work = toy(tmp_path, count=30)
    killed = begin(tmp_path, 2, 0.2, 30)
    until(lambda: len(list((work.folder).glob("parts/*.txt"))) >= 2, killed)
    killed.kill()
    killed.communicate()
    workers = {int(line) for file in work.tries.iterdir() if file.name.isdigit() for line in file.read_text().split()}
    until(lambda: not any(is_running(pid) for pid in workers), seconds=20)
    assert len(list(work.folder.glob("parts/*.txt"))) < 30


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_asked_to_stop_a_command_gives_back_what_it_holds(tmp_path):
    work = toy(tmp_path, seconds=30.0)
    stopped = begin(tmp_path, 1, 30.0)
    until(lambda: (work.tries / "00000").exists(), stopped)
    stopped.send_signal(signal.SIGINT)
    stopped.communicate()
    leases = [file.read_text() for file in (tmp_path / "out").glob(".work/leases/*")]
    assert not (tmp_path / "out").exists() or all("free" in text for text in leases)


def test_a_stopped_worker_loses_its_lease_and_its_result_counts_no_more(tmp_path):
    """Stopped beyond patience, as a machine whose network is cut: on another host its process could not be seen."""
    work = toy(tmp_path, seconds=0.3)
    slow = begin(tmp_path, 1, 0.3, 12, "unshare", "-rpf", "--mount-proc")
    until(lambda: len(list(work.folder.glob("parts/*.txt"))) >= 2, slow)
    os.killpg(slow.pid, signal.SIGSTOP)
    try:
        assert go(work) == EXPECTED
    finally:
        os.killpg(slow.pid, signal.SIGCONT)
    assert ended(slow) == EXPECTED
    assert kept(work) == [1] * 12
    assert [*os.listdir(work.folder)] == ["whole.txt"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_commands_that_are_killed_at_random_end_with_the_same_bytes(tmp_path, seed):
    rng = random.Random(seed)
    work = toy(tmp_path, count=40, seconds=0.05)
    commands = [begin(tmp_path, rng.choice([1, 2]), 0.05, 40) for _ in range(3)]
    for _ in range(5):
        time.sleep(rng.uniform(0.3, 2))
        one = rng.randrange(3)
        os.killpg(commands[one].pid, signal.SIGKILL)
        commands[one].communicate()
        commands[one] = begin(tmp_path, rng.choice([1, 2]), 0.05, 40)
    expected = "".join(f"{k:05d} {k**2}\n" for k in range(40))
    assert [ended(one) for one in commands] == [expected] * 3
    assert kept(work) == [1] * 40
    assert sum(tries(work)) <= 40 + 5 * 2
