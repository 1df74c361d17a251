"""Leases: one holder at a time, whoever dies, is late, or is stopped; told by no clock but the observer's own."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from imagecot.execution import owner
from imagecot.execution.leases import Leases, Pace, newest, see
from imagecot.files import create, publish

ROOT = Path(__file__).parents[1]
SLOW = Pace(beat=0.05, patience=0.4, look=0.01)


def hammer(folder: Path, processes: int, units: int) -> None:
    """Processes that die now and then, until every unit has a result."""
    running: list[subprocess.Popen] = []
    seed, began = 0, time.monotonic()
    while len(list(folder.glob("result-*"))) < units:
        assert time.monotonic() < began + 240
        running = [one for one in running if one.poll() is None]
        for _ in range(processes - len(running)):
            seed += 1
            command = [sys.executable, "tests/leasing.py", str(folder), str(seed), str(units)]
            running.append(subprocess.Popen(command, cwd=ROOT))
        time.sleep(0.05)
    for one in running:
        one.wait(60)


@pytest.mark.parametrize(("processes", "units"), [(4, 20), pytest.param(24, 400, marks=pytest.mark.slow)])
def test_no_unit_is_held_by_two_or_counted_twice(tmp_path, processes, units):
    hammer(tmp_path, processes, units)
    assert not (tmp_path / "violations").exists(), (tmp_path / "violations").read_text()
    assert sorted((tmp_path / "results").read_text().split()) == sorted(f"u{k}" for k in range(units))


def seen(folder: Path, name: str = "a"):
    return see(folder, name, newest(folder)[name])


def elsewhere(monkeypatch) -> None:
    """Owners are of another machine from now on, so that their processes cannot be looked for."""
    monkeypatch.setattr(owner, "_place", lambda: "another machine")


def test_what_is_held_is_nobody_elses_until_it_is_given_back(tmp_path):
    with Leases(tmp_path / "l", SLOW) as one, Leases(tmp_path / "l", SLOW) as other:
        lease = one.take("a")
        assert lease is not None
        assert other.take("a") is None
        assert not other.dead(seen(tmp_path / "l"))
        assert [held.name for held in other.others()] == ["a"]
        one.give_back(lease)
        assert seen(tmp_path / "l").free
        assert [*other.others()] == []
        again = other.take("a", 1)
        assert again is not None and again.generation == 2
        assert one.take("a", 1) is None, "one who has seen the first generation is late"
        other.finish(again)
        assert newest(tmp_path / "l") == {}


def test_a_heartbeat_keeps_a_lease_of_another_machine(tmp_path, monkeypatch):
    with Leases(tmp_path, SLOW) as one:
        one.take("a")
        elsewhere(monkeypatch)
        observer = Leases(tmp_path, SLOW)
        until = time.monotonic() + 4 * SLOW.patience
        while time.monotonic() < until:
            assert not observer.dead(seen(tmp_path))
            time.sleep(SLOW.look)


def silent(folder: Path) -> Leases:
    """Leases without a heartbeat, as of a machine that is gone."""
    leases = Leases(folder, Pace(beat=1000.0))
    leases.take("a")
    return leases


def wait_until_dead(observer: Leases, folder: Path) -> float:
    began = time.monotonic()
    while not observer.dead(seen(folder)):
        assert time.monotonic() < began + 20
        time.sleep(observer.pace.look)
    return time.monotonic() - began


def test_silence_is_death_by_the_observers_clock_whatever_files_are_dated(tmp_path, monkeypatch):
    silent(tmp_path)
    elsewhere(monkeypatch)
    for date in (0, time.time() - 600, time.time() + 600):  # a machine whose clock is off by minutes, or years
        for file in tmp_path.iterdir():
            os.utime(file, (date, date))
        assert SLOW.patience <= wait_until_dead(Leases(tmp_path, SLOW), tmp_path) < 10 * SLOW.patience


def test_an_observer_that_slept_looks_again_before_it_takes_over(tmp_path, monkeypatch):
    silent(tmp_path)
    elsewhere(monkeypatch)
    observer = Leases(tmp_path, SLOW)
    assert not observer.dead(seen(tmp_path))
    time.sleep(2 * SLOW.patience)
    assert not observer.dead(seen(tmp_path))
    assert wait_until_dead(observer, tmp_path) >= SLOW.patience - 2 * SLOW.beat - 0.1


def test_a_process_of_this_machine_that_has_ended_is_dead_at_once(tmp_path):
    code = (
        "import sys; from pathlib import Path; from imagecot.execution.leases import PACE, Leases\n"
        "Leases(Path(sys.argv[1]), PACE).take('a')\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    assert Leases(tmp_path, Pace()).dead(seen(tmp_path))


def test_a_number_of_a_process_that_is_used_again_is_another_process():
    mine = owner.me()
    assert not mine.gone
    assert mine.model_copy(update={"started": mine.started - 1}).gone
    assert not mine.model_copy(update={"started": -1, "place": "another machine"}).gone
    assert not mine.model_copy(update={"started": -1, "place": ""}).gone


def test_a_lease_that_others_took_over_is_lost_and_stays_theirs(tmp_path, monkeypatch):
    with Leases(tmp_path, SLOW) as late, Leases(tmp_path, SLOW) as other:
        lease = late.take("a")
        assert lease and not lease.lost
        mine = other.take("a", 1)
        assert mine and lease.lost and not mine.lost
        lease.beat()
        late.give_back(lease)
        assert not seen(tmp_path).free, "what is given back late is the old one"
        assert seen(tmp_path).owner == other.owner
        other.finish(mine)
        assert mine.lost


def test_leaving_gives_back(tmp_path):
    with Leases(tmp_path, SLOW) as one:
        one.take("a")
        one.take("b")
    assert seen(tmp_path).free and seen(tmp_path, "b").free


def test_a_damaged_lease_is_of_nobody_and_waited_for(tmp_path):
    (tmp_path / "a.1").write_bytes(b"\xff\x00 not a lease")
    observer = Leases(tmp_path, SLOW)
    assert seen(tmp_path).owner is None
    assert not observer.dead(seen(tmp_path))
    wait_until_dead(observer, tmp_path)
    assert observer.take("a", 1) is not None


def test_the_first_result_counts(tmp_path):
    file = tmp_path / "r"
    assert publish(file, lambda partial: partial.write_text("first"))
    assert not publish(file, lambda partial: partial.write_text("second"))
    assert file.read_text() == "first"
    assert os.listdir(tmp_path) == ["r"]


def test_where_there_are_no_links_files_are_made_exclusively_all_the_same(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert create(tmp_path / "a", b"one") and not create(tmp_path / "a", b"two")
    assert publish(tmp_path / "b", lambda partial: partial.write_text("one"))
    assert not publish(tmp_path / "b", lambda partial: partial.write_text("two"))
    assert [(tmp_path / name).read_text() for name in "ab"] == ["one", "one"]
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_an_answer_of_a_server_that_got_lost_is_no_refusal(tmp_path, monkeypatch):
    link = os.link

    def twice(source: Path, target: Path) -> None:
        link(source, target)
        link(source, target)

    monkeypatch.setattr(os, "link", twice)
    assert create(tmp_path / "a", b"one")
