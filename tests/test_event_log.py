"""The log of events: what is written, how often, and what happens where nothing can be written."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from imagecot import event_log
from imagecot.errors import UsageError
from imagecot.event_log import EventLog
from imagecot.watch import Watch, together


def lines(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(event_log.time, "monotonic", lambda: now[0])
    return now


def test_progress_is_written_once_a_second_and_at_the_end(tmp_path: Path, clock: list[float]) -> None:
    file = tmp_path / "log.jsonl"
    with EventLog(file, pytest.fail).watch().progress("drawing") as move:
        for done in range(1, 41):
            clock[0] += 0.25
            move(done, 40, note=f"loss {done}")
    events = lines(file)
    assert [event["event"] for event in events] == ["begin", *["progress"] * 11, "end"]
    assert [event["done"] for event in events[1:-1]] == [1, 5, 9, 13, 17, 21, 25, 29, 33, 37, 40]
    assert events[2]["note"] == "loss 5"
    # From 1 after 0.25 s to 5 after 1.25 s: four parts in 1.25 s.
    assert (events[2]["rate"], events[2]["left"]) == (3.2, pytest.approx(35 / 3.2, rel=1e-3))
    assert (events[1]["rate"], events[1]["left"]) == (None, None)
    del events[-1]["time"]
    assert events[-1] == {"event": "end", "what": "drawing", "seconds": 10.0, "failed": False}


def test_the_rate_of_a_resumed_work_counts_what_this_run_did(tmp_path: Path, clock: list[float]) -> None:
    file = tmp_path / "log.jsonl"
    with EventLog(file, pytest.fail).watch().progress("training") as move:
        move(900, 1000)
        clock[0] += 10
        move(910, 1000)
    assert lines(file)[2]["rate"] == 1.0
    assert lines(file)[2]["left"] == 90.0


def test_sentences_and_failures_are_written(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    watch = EventLog(file, pytest.fail).watch()
    watch.tell('a sentence with "quotes" and a\nline')
    with pytest.raises(KeyError), watch.waiting("loading"):
        raise KeyError
    say, begin, end = lines(file)
    assert (say["event"], say["text"]) == ("say", 'a sentence with "quotes" and a\nline')
    assert (begin["what"], end["what"], end["failed"]) == ("loading", "loading", True)


def test_a_second_run_appends(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    for text in ("one", "two"):
        EventLog(file, pytest.fail).write("say", text=text)
    assert [event["text"] for event in lines(file)] == ["one", "two"]


def test_a_file_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path, tmp_path / "file" / "log.jsonl"):
        with pytest.raises(UsageError, match="--log"):
            EventLog(place, pytest.fail)


def test_work_goes_on_where_the_log_cannot(tmp_path: Path) -> None:
    warned: list[str] = []
    file = tmp_path / "folder" / "log.jsonl"
    file.parent.mkdir()
    log = EventLog(file, warned.append)
    file.unlink()
    file.parent.rmdir()
    with log.watch().progress("drawing") as move:
        move(1, 1)
    assert len(warned) == 1
    assert "the work goes on" in warned[0]


def test_two_watches_are_told_together() -> None:
    told: list[str] = []
    both = together(Watch(lambda text: told.append(f"a {text}")), Watch(lambda text: told.append(f"b {text}")))
    both.tell("here")
    with both.waiting("x"), both.progress("y") as move:
        move(1, 2)
    assert told == ["a here", "b here"]


def imagecot(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "imagecot", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_commands_log_their_work_and_their_failure(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    done = imagecot("generate", "two cups", "--generator", "tiny", "-n", "2", "--search", "best-of-n", "--out",
                    str(tmp_path / "run"), "--json", "--log", str(log))  # fmt: skip
    assert done.returncode == 0, done.stderr
    json.loads(done.stdout)  # nothing of the log is there
    events = lines(log)
    assert events[-1]["event"] == "end"
    assert any(event["event"] == "progress" and event["done"] == event["of"] for event in events)
    failed = imagecot("train", str(tmp_path / "none.yaml"), "--log", str(log))
    assert failed.returncode == 2
    *before, error = lines(log)
    assert before[: len(events)] == events
    assert (error["event"], error["exit_code"]) == ("error", 2)
    assert str(error["text"]) in failed.stderr


LONG = "generate, train, study, benchmark, run, calibrate, curate orm, curate import, evaluate geneval, judge check"


@pytest.mark.parametrize("command", LONG.split(", "))
def test_every_long_command_has_a_log(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    from imagecot.cli import app

    with pytest.raises(SystemExit):
        app([*command.split(), "--help"])
    assert "--log" in capsys.readouterr().out
