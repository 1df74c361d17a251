"""`imagecot status`: what files tell of a work, finished, under way, stopped, or none at all."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from imagecot.execution import owner
from imagecot.execution.camp import Camp
from imagecot.execution.leases import PACE, Leases
from imagecot.execution.status import FOLDERS, Status, status
from test_execution import begin, until
from working import QUICK, go, toy


def test_of_nothing_or_something_else_one_sentence_is_told(imagecot, tmp_path):
    for folder, told in ((tmp_path / "none", "there is no folder"), (tmp_path, "no folder of an evaluation")):
        code, out, err = imagecot("status", str(folder))
        assert (code, out) == (2, "")
        assert told in err and err.count("\n") == 1


@pytest.mark.parametrize("name", FOLDERS)
def test_a_finished_folder_is_told_from_one_that_is_not(imagecot, tmp_path, name):
    (tmp_path / name).write_text("{}\n")
    code, out, _ = imagecot("status", str(tmp_path))
    assert code == 4 and "nobody is at it; run its command again" in out
    for file in FOLDERS[name][-1]:
        (tmp_path / file).write_text("{}")
    code, out, _ = imagecot("status", str(tmp_path), "--json", "--watch")
    assert code == 0
    assert json.loads(out)["state"] == "finished"


def test_the_files_are_those_that_the_rooms_write():
    from imagecot.curation.shards import IDENTITY as CURATION
    from imagecot.evaluation.state import IDENTITY as EVALUATION
    from imagecot.evaluation.state import RESULTS, SUMMARY
    from imagecot.study.folder import STUDY
    from imagecot.study.frontier.summary import FRONTIER

    assert FOLDERS == {
        EVALUATION: ((RESULTS, SUMMARY),),
        CURATION: (("README.md",),),
        STUDY: ((SUMMARY,), (FRONTIER,)),
    }


def test_a_work_under_way_says_who_is_at_it_and_how_long_it_takes(imagecot, tmp_path):
    work = toy(tmp_path, seconds=0.4)
    process = begin(tmp_path, 1, 0.4)
    until(lambda: len(list(work.folder.glob("parts/*.txt"))) >= 2, process)
    seen: list[Status] = []
    until(lambda: seen.append(status(work.folder)) or any(one.done for one in seen[-1].running), process)
    found = seen[-1]
    assert found.state == "running" and found.units == 12 and 2 <= (found.done or 0) < 12
    (one,) = found.running
    assert one.alive and one.done >= 1 and one.host and one.pid == process.pid
    assert 0 < found.rate < 2.5
    assert found.left == pytest.approx((12 - found.done) / found.rate)
    code, out, _ = imagecot("status", str(work.folder))
    assert code == 3
    assert re.search(r"under way \(toying\); \d of 12 units done, [\d.]+ a second, about \d+ s left\n", out)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    code, out, _ = imagecot("status", str(work.folder), "--watch")
    assert code == 4
    assert "nobody is at it" in out and "has ended or cannot be reached, silent for" in out
    assert [*work.folder.glob(".work/.probe*")] == []
    go(work)


def test_failures_are_counted_by_kind_and_units_that_are_given_up_named(imagecot, tmp_path):
    work = toy(tmp_path)
    (work.tries / "00003.fails").write_text("9")
    with pytest.raises(Exception, match="00003 failed 3 times"):
        go(work)
    code, out, _ = imagecot("status", str(work.folder), "--json")
    found = json.loads(out)
    assert code == 4
    assert (found["done"], found["errors"], found["given_up"]) == (11, {"ImagecotError": 3}, ["00003"])
    assert {failure["sentence"] for failure in found["failures"]} == {"00003 is broken."}
    _, out, _ = imagecot("status", str(work.folder))
    assert "3 tries failed (3 ImagecotError)" in out


def test_a_machine_that_cannot_be_heard_is_told_by_the_clock_of_the_files(tmp_path, monkeypatch):
    work = toy(tmp_path)
    Camp(work.folder).plan(work)
    monkeypatch.setattr(owner, "_place", lambda: "another machine")
    leases = Leases(Camp(work.folder).leases, QUICK)
    leases.take("00000")
    monkeypatch.setattr(owner, "_place", lambda: "this machine")
    assert status(work.folder).running[0].alive
    lease = work.folder / ".work/leases/00000.1"
    before = time.time() - 2 * PACE.patience
    os.utime(lease, (before, before))
    found = status(work.folder)
    assert found.state == "stopped" and not found.running[0].alive
    assert found.running[0].silent == pytest.approx(2 * PACE.patience, abs=5)


def test_it_starts_without_torch():
    code = "import sys, imagecot.commands.status, imagecot.execution.status; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1]).returncode == 0
