"""The simulation beside the real thing: `python -m imagecot.planning.rehearsal`.

An evaluation is followed by 1, 2, 4 and 8 workers of this machine, six units each, whose judge is a server that waits
and says yes, so that more workers than processors are of use. What a unit takes beside the waiting is measured with one
worker; the simulation is told that and how many processors there are. Compared are the seconds from the first question
to the last answer. With `--wait 0` the judge is a model of this machine, and nobody waits. Compared are then the
seconds that more units take, so that loading does not count.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from imagecot.errors import ImagecotError
from imagecot.planning.simulation import Camp, Stage, simulate

_TASKS = 6  # of the prompts of the drawn world
_CORES, _JUDGE = "processors", "judge"
_YES = [{"token": "yes", "logprob": -0.1, "bytes": [121, 101, 115]}, {"token": "no", "logprob": -2.4, "bytes": None}]


@dataclass(frozen=True)
class Row:
    """Seconds of so many units by so many workers, and what was predicted; both growths are against one worker."""

    workers: int
    units: int
    seconds: float
    predicted: float
    growth: float
    predicted_growth: float


@dataclass
class Judge:
    """A server that waits: its address, and when it was asked first and answered last."""

    url: str = ""
    first: float = 0.0
    last: float = 0.0


@contextmanager
def waiting_judge(seconds: float) -> Iterator[Judge]:
    """A server of this machine that answers every question after so long."""
    judge = Judge()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            judge.first = judge.first or time.perf_counter()
            time.sleep(seconds)
            choice = {"message": {"content": "yes"}, "logprobs": {"content": [_YES[0] | {"top_logprobs": _YES}]}}
            self._send({"choices": [choice | {"finish_reason": "length"}], "usage": {"prompt_tokens": 100}})
            judge.last = time.perf_counter()

        def do_GET(self) -> None:
            self._send({"data": [{"id": "waiting"}]})

        def _send(self, told: object) -> None:
            data = json.dumps(told).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        judge.url = f"http://127.0.0.1:{server.server_port}/v1#waiting"
        yield judge
    finally:
        server.shutdown()
        server.server_close()


def rehearse(workers: Sequence[int], wait: float) -> list[Row]:
    """A row for each number of workers, of which the first is one."""
    spans = {count: _waited(count, wait) if wait else _computed(count) for count in workers}
    units = {count: _TASKS * count for count in workers}
    # One worker: between the first question and the last answer lies the own work of all units but the first.
    own = (spans[1] - units[1] * wait) / (units[1] - 1 if wait else units[1])
    rows = []
    for count in workers:
        predicted = _predicted(max(0.0, own), wait, count, units[count])
        alone = _predicted(max(0.0, own), wait, 1, units[1]) / units[1]
        growth = spans[1] / units[1] / (spans[count] / units[count])
        rows.append(Row(count, units[count], spans[count], predicted, growth, alone / (predicted / units[count])))
    return rows


def _waited(workers: int, wait: float) -> float:
    """Seconds from the first question to the last answer."""
    with tempfile.TemporaryDirectory(prefix="imagecot-rehearsal-") as place, waiting_judge(wait) as judge:
        _evaluated(Path(place) / "run", judge.url, workers, workers)
        return judge.last - judge.first


def _computed(workers: int) -> float:
    """Seconds that so many units take more than none: of two runs, one with twice the units of the other."""
    with tempfile.TemporaryDirectory(prefix="imagecot-rehearsal-") as place:
        few = _evaluated(Path(place) / "few", "tiny-orm", workers, workers)
        return _evaluated(Path(place) / "many", "tiny-orm", workers, 2 * workers) - few


def _evaluated(place: Path, verifier: str, workers: int, per_task: int) -> float:
    """Seconds of a whole command, in a folder of its own, where no answer is known."""
    place.mkdir()
    drawn = ["--generator", "tiny", "--search", "best-of-n", "-n", "2", "--samples", "1", "--detector", "pictograms"]
    asked = ["--per-task", str(per_task), "--verifier", verifier, "--workers", str(workers), "--out", "out"]
    command = [sys.executable, "-m", "imagecot", "evaluate", "geneval", *drawn, *asked]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    began = time.perf_counter()
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise ImagecotError(f"an evaluation by {workers} workers failed: {done.stderr.strip()[-300:]}")
    return time.perf_counter() - began


def _predicted(own: float, wait: float, workers: int, units: int) -> float:
    unit = [Stage(_CORES, own), Stage(_JUDGE, wait)]
    pools = {_CORES: os.cpu_count() or 1, _JUDGE: workers}
    return simulate(Camp(workers, [unit] * units, (), pools)).seconds - (own if wait else 0.0)


def _main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--workers", default="1,2,4,8")
    asked.add_argument("--wait", type=float, default=20.0, help="seconds that the judge takes for each answer")
    given = asked.parse_args()
    for row in rehearse([int(count) for count in given.workers.split(",")], given.wait):
        print(json.dumps(asdict(row)))


if __name__ == "__main__":
    _main()
