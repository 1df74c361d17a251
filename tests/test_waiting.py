"""Workers that mostly wait, for a judge that a server holds: eight of them reach seven times the rate of one.

python -m pytest tests/test_waiting.py -m slow -s
"""

import json
import os
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from PIL import Image

from misbehaving import Server, server
from served import judges

SECONDS = 4.0  # that the judge takes for an answer
A_UNIT = 8  # images, as of `evaluation/geneval2/judging.py`


def slowly(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(SECONDS)
    judges({"Yes": 0.75, "No": 0.25})(handler)


def images(folder: Path, count: int) -> None:
    """A question about each of so many pictures."""
    folder.mkdir()
    rows, paths = [], {}
    for k in range(count):
        Image.new("RGB", (8, 8), (k % 256, k // 256, 0)).save(folder / f"{k}.png")
        prompt = f"picture {k} of a cat"
        paths[prompt] = str(folder / f"{k}.png")
        rows.append({
            "prompt": prompt, "atom_count": 1, "vqa_list": [["Is there a cat in the image?", "Yes"]],
            "skills": ["object"],
        })  # fmt: skip
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "paths.json").write_text(json.dumps(paths))


def rate(folder: Path, there: Server, units: int, workers: int) -> float:
    """Answers a second, from the first question of the last worker to the last question of the first one."""
    images(folder, units * A_UNIT)
    command = [
        sys.executable, "-m", "imagecot", "evaluate", "geneval2", "--data", "rows.jsonl", "--images", "paths.json",
        "--judge", f"{there.url}#cat", "--workers", str(workers), "--out", "out",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENAI_API_KEY": "none"}
    times: list[float] = []
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    before = len(there.bodies)
    while process.poll() is None:
        times += [time.monotonic()] * (len(there.bodies) - before - len(times))
        time.sleep(0.01)
    assert process.returncode == 0
    pictures = {json.dumps(body["messages"]) for body in there.bodies[before:]}
    assert len(pictures) >= units * A_UNIT
    assert len(times) <= len(pictures) + workers, "each is asked once, and each worker may try the judge"
    assert len((folder / "out/results.jsonl").read_text().splitlines()) == units * A_UNIT
    # While workers load, and when some have no unit left, fewer than all are at work.
    began = first_of_all(folder, times, workers)
    ended = times[-1 - workers * A_UNIT] if workers > 1 else times[-1]
    inside = [one for one in times if began <= one <= ended]
    return (len(inside) - 1) / (inside[-1] - inside[0])


def first_of_all(folder: Path, times: list[float], workers: int) -> float:
    """When as many questions came within the time of one answer as there are workers."""
    for k in range(len(times) - workers):
        if times[k + workers - 1] - times[k] < SECONDS:
            return times[k]
    raise AssertionError(f"never {workers} at once")


@pytest.mark.slow
def test_eight_workers_that_wait_are_seven_times_as_fast_as_one(tmp_path):
    with server(slowly) as there:
        alone = rate(tmp_path / "one", there, 2, 1)
        eight = rate(tmp_path / "eight", there, 48, 8)
    print(f"\none: {alone:.3f} answers a second; eight: {eight:.3f}, {eight / alone:.2f} times as many")
    assert eight >= 7 * alone
