"""The simulation beside the real thing: `python -m imagecot.planning.rehearsal`.

An evaluation is followed by 1, 2, 4 and 8 workers of this machine, whose judge is a server that waits and says yes, so
that more workers than processors are of use. Two runs by one worker, of few units and of many, say what a unit takes,
and what comes before the first. The simulation is told these two numbers, and how many processors there are; what it
says of more workers is a prediction. With `--wait 0` the judge is a model of this machine, and nobody waits.
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
    """Seconds of a run by so many workers, and what was predicted; `growth` is against one worker, as measured."""

    workers: int
    seconds: float
    predicted: float
    growth: float


@contextmanager
def waiting_judge(seconds: float) -> Iterator[str]:
    """A server of this machine that answers every question after so long; its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            time.sleep(seconds)
            choice = {"message": {"content": "yes"}, "logprobs": {"content": [_YES[0] | {"top_logprobs": _YES}]}}
            self._send({"choices": [choice | {"finish_reason": "length"}], "usage": {"prompt_tokens": 100}})

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
        yield f"http://127.0.0.1:{server.server_port}/v1#waiting"
    finally:
        server.shutdown()
        server.server_close()


def rehearse(workers: Sequence[int], wait: float, per_task: int) -> tuple[dict[str, float], list[Row]]:
    """Seconds of the parts of a run by one worker, and a row for each number of workers."""
    with tempfile.TemporaryDirectory(prefix="imagecot-rehearsal-") as place, waiting_judge(wait) as url:
        verifier = url if wait else "tiny-orm"

        def run(count: int, each: int) -> float:
            return _evaluated(Path(place) / f"{count}-{each}", verifier, count, each)

        few, many = run(1, 1), run(1, per_task)
        unit = (many - few) / (_TASKS * (per_task - 1))
        parts = {"unit": unit, "waits": wait, "before": few - _TASKS * unit}
        rows = []
        for count in workers:
            seconds = many if count == 1 else run(count, per_task)
            rows.append(Row(count, seconds, _predicted(parts, count, _TASKS * per_task), many / seconds))
    return parts, rows


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


def _predicted(parts: dict[str, float], workers: int, units: int) -> float:
    own = max(0.0, parts["unit"] - parts["waits"])
    unit = [Stage(_CORES, own), Stage(_JUDGE, parts["waits"])]
    pools = {_CORES: os.cpu_count() or 1, _JUDGE: workers}
    return simulate(Camp(workers, [unit] * units, [Stage(_CORES, parts["before"])], pools)).seconds


def _main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--workers", default="1,2,4,8")
    asked.add_argument("--wait", type=float, default=6.0, help="seconds that the judge takes for each answer")
    asked.add_argument("--per-task", type=int, default=8, help="prompts of each of the six tasks; each is a unit")
    given = asked.parse_args()
    parts, rows = rehearse([int(count) for count in given.workers.split(",")], given.wait, given.per_task)
    print(json.dumps({"one worker": parts, "rows": [asdict(row) for row in rows]}, indent=1))


if __name__ == "__main__":
    _main()
