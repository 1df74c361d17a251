"""The check of a machine with a GPU: its form, which is tried anywhere, and what it looks at, where there is one."""

import json
import sys
import time

import pytest
import torch

from imagecot.benchmark.gpu import __main__ as command
from imagecot.benchmark.gpu import correct
from imagecot.benchmark.gpu.notes import Notes, read

torch.set_num_threads(1)
gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")]


def notes_of(tmp_path, device="cpu", seconds=600.0):
    return Notes(tmp_path / "entries.jsonl", torch.device(device), time.monotonic() + seconds)


def test_what_fails_is_noted_and_the_next_goes_on(tmp_path):
    notes = notes_of(tmp_path)
    notes.add("broken", lambda: {"never": 1 / 0})
    notes.add("sound", lambda: {"found": 3})
    notes.add("late", lambda: {"found": 4}, needs=1e6)
    broken, sound, late = read(notes.file)
    assert broken["failed"] == "ZeroDivisionError: division by zero"
    assert broken["where"][-1].startswith("test_gpu.py:")
    assert (sound["name"], sound["found"]) == ("sound", 3) and sound["seconds"] < 60
    assert late == {"name": "late", "left_out": "no time is left"}
    assert read(tmp_path / "none.jsonl") == []


def test_a_part_that_does_not_end_is_ended_and_what_it_noted_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "PARTS", {"correct": command.Part("none", 0.0)})
    monkeypatch.setattr(command, "_GRACE", 10.0)

    def endless(name, scale, file):
        text = f"import time; open({str(file)!r}, 'w').write('{{}}\\n'); time.sleep(600)"
        return [sys.executable, "-S", "-c", text]

    monkeypatch.setattr(command, "_command", endless)
    found = command._part("correct", 1.0)
    assert found["ended"] == "it was ended when its time was over" and 10 <= found["seconds"] < 120
    assert found["entries"] == [{}]
    assert command._troubled({"correct": found})


@pytest.mark.parametrize(
    ("entry", "ended", "expected"),
    [
        ({"name": "a", "found": 1}, "in time", False),
        ({"name": "a", "right": True}, "in time", False),
        ({"name": "a", "right": False}, "in time", True),
        ({"name": "a", "failed": "ValueError: no"}, "in time", True),
        ({"name": "a", "left_out": "no time is left"}, "in time", False),
        ({"name": "a"}, "exit code 1", True),
    ],
)
def test_trouble_is_what_is_wrong_failed_or_did_not_end(entry, ended, expected):
    assert command._troubled({"rehearsal": True, "correct": {"ended": ended, "entries": [entry]}}) is expected


def test_checks_of_a_shipped_generator_hold_here(tmp_path):
    notes = notes_of(tmp_path)
    notes.add("codes", lambda: correct._codes("tiny", notes, "float32"))
    notes.add("stops", lambda: correct._stops("tiny", notes))
    codes, stops = read(notes.file)
    assert codes["right"] and codes["different"] == 0 and codes["codes"] == 2 * 64
    assert stops["steps"] == 17 and stops["refused"] is False  # a CPU has nothing to refuse
    json.dumps([codes, stops])


@pytest.mark.parametrize("name", [pytest.param(name, marks=gpu) for name in correct.GENERATORS])
def test_a_gpu_draws_the_codes_of_a_cpu_and_nothing_waits_inside_a_step(tmp_path, name):
    notes = notes_of(tmp_path, "cuda")
    assert correct._codes(name, notes, "float32")["right"]
    assert correct._stops(name, notes)["refused"]
    assert correct._memory(name, notes)["right"]


@pytest.mark.parametrize("name", [pytest.param(name, marks=gpu) for name in correct.VERIFIERS])
def test_a_gpu_answers_as_a_cpu_does_and_a_question_waits_once(tmp_path, name):
    notes = notes_of(tmp_path, "cuda")
    assert correct._answers(name, notes, "float32")["right"]
    assert correct._waits(name, notes)["right"]
