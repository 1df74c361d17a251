"""`imagecot serve` and its client: the same files as a local run, and what a server refuses."""

import http.client
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import torch
from PIL import ImageChops

from imagecot import __version__
from imagecot.errors import ImagecotError, UsageError
from imagecot.images import open_picture
from imagecot.serving import place
from imagecot.serving.messages import Ask, Event, Failed, Tell
from imagecot.serving.shelf import Shelf
from imagecot.serving.worker import Task, Worker
from imagecot.strategies.defaults import completed
from small_models import write_generator, write_verifier

torch.set_num_threads(1)
PROMPT = "a photo of a red apple"
SECONDS = 240  # that a process may take on a busy machine
FOOTER = 70  # rows of steps.png that say what the search cost


@dataclass
class Served:
    """A server in a process of its own."""

    process: subprocess.Popen
    state: Path
    address: str
    token: str

    def post(self, body: bytes, **headers: str) -> tuple[int, str]:
        """Status and answer of a request that is written by hand."""
        parts = urlsplit(self.address)
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=SECONDS)
        told = {"Authorization": f"Bearer {self.token}", **headers}
        connection.request("POST", "/generate", body, told)
        answer = connection.getresponse()
        found = answer.status, answer.read().decode()
        connection.close()
        return found

    def health(self) -> dict[str, object]:
        parts = urlsplit(self.address)
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=SECONDS)
        connection.request("GET", "/health", headers={"Authorization": f"Bearer {self.token}"})
        with connection.getresponse() as answer:
            found = json.loads(answer.read())
        connection.close()
        return found


def environment(state: Path) -> dict[str, str]:
    found = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "COLUMNS": "300",
        "XDG_STATE_HOME": str(state),
    }
    found.pop(place.TOKEN, None)
    return found


def hear_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def begin(state: Path, *arguments: str) -> Served:
    """Start a server and wait until it says where it is."""
    process = subprocess.Popen(
        [sys.executable, "-m", "imagecot", "serve", *arguments],
        env=environment(state), stderr=subprocess.PIPE, text=True, preexec_fn=hear_ctrl_c,
    )  # fmt: skip
    line = process.stderr.readline()
    assert line.startswith("serving at http://127.0.0.1:"), line + process.stderr.read()
    found = json.loads((state / "imagecot" / "server.json").read_text())
    return Served(process, state, found["address"], found["token"])


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("models")
    generator, verifier = write_generator(folder / "generator"), write_verifier(folder / "verifier")
    return ["--generator", str(generator), "--verifier", str(verifier), "--search", "best-of-n"]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    server = begin(tmp_path_factory.mktemp("state"), "--queue", "0", "--models", "2")
    yield server
    if server.process.poll() is None:
        server.process.kill()
    server.process.communicate(timeout=SECONDS)


@pytest.fixture
def here(served: Served, monkeypatch: pytest.MonkeyPatch) -> Served:
    """The server, found by a client in this process."""
    monkeypatch.setenv("XDG_STATE_HOME", str(served.state))
    monkeypatch.delenv(place.TOKEN, raising=False)
    return served


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "trace.jsonl").read_text().splitlines()]


def test_the_files_are_those_of_a_local_run(imagecot, here, models, tmp_path):
    asked = ["generate", PROMPT, *models, "-n", "3"]
    assert imagecot(*asked, "--out", "local")[0] == 0
    code, out, err = imagecot(*asked, "--server", "auto", "--out", "there")
    assert (code, err) == (0, "")
    local, there = tmp_path / "local", tmp_path / "there"
    assert "path " in out and "(finished before)" not in out and "there/image.png" in out
    assert sorted(f.name for f in there.iterdir()) == sorted(f.name for f in local.iterdir())
    assert (there / "image.png").read_bytes() == (local / "image.png").read_bytes()
    assert lines(there)[:-1] == lines(local)[:-1]
    first, second = lines(local)[-1], lines(there)[-1]
    for one in (first, second):
        for cost in (one["cost"], one["picture_cost"]):
            cost |= {"seconds": 0, "judge_seconds": 0}
    assert first == second
    pictures = [open_picture(folder / "steps.png").convert("RGB") for folder in (local, there)]
    assert pictures[0].size == pictures[1].size
    box = ImageChops.difference(*pictures).getbbox()
    assert box is None or box[1] > pictures[0].height - FOOTER

    code, again, _ = imagecot(*asked, "--server", here.address, "--out", "there")
    assert code == 0 and "(finished before)" in again
    assert here.health()["models"] == [models[1], models[3]]
    code, out, _ = imagecot(*asked, "--server", "auto", "--out", "json", "--json")
    assert code == 0 and json.loads(out)["chosen"] == {"path": first["chosen"] + 1} | {
        "seed": lines(local)[1 + first["chosen"]]["seed"], "p_yes": lines(local)[1 + first["chosen"]]["score"],
    }  # fmt: skip


def test_relative_names_are_those_of_the_client(imagecot, here, models, tmp_path):
    (tmp_path / "mine").symlink_to(models[1])
    asked = ["generate", PROMPT, "--generator", "./mine", "--search", "single"]
    assert imagecot(*asked, "--out", "local")[0] == 0
    assert imagecot(*asked, "--server", "auto", "--out", "there")[0] == 0
    assert lines(tmp_path / "local")[:-1] == lines(tmp_path / "there")[:-1]


@pytest.mark.parametrize("wrong", [
    ["generate", "word " * 500], ["generate", PROMPT, "--search", "none"], ["generate", PROMPT, "--search", "stepwise"],
])  # fmt: skip
def test_errors_are_those_of_a_local_run(imagecot, here, models, wrong):
    asked = [*wrong, *models[: 4 if "--search" in wrong else 6], *(["--set", "beams=x"] if "stepwise" in wrong else [])]
    local = imagecot(*asked, "--out", "local")
    there = imagecot(*asked, "--server", "auto", "--out", "there")
    assert local[0] in (1, 2) and there == local
    assert not Path("there").exists()


def ask(**changes: object) -> bytes:
    recipe = {"kind": "generate", "prompt": PROMPT, "generator": "tiny", "search": "single"}
    return json.dumps({"version": __version__, "folder": "/", "recipe": recipe} | changes).encode()


def test_what_is_no_request_is_refused(here, tmp_path):
    said = {
        401: here.post(ask(), Authorization="Bearer wrong"),
        413: here.post(b"x" * (2 << 20)),
        422: here.post(b"{"),
        409: here.post(ask(version="0.0.1")),
        400: here.post(ask(), Host="evil.example"),
    }
    assert all(status == answer[0] for status, answer in said.items()), said
    for status in (401, 413, 422, 409):
        failed = Failed.model_validate_json(said[status][1])
        assert failed.message.endswith(".") and "\n" not in failed.message and failed.exit_code in (1, 2)
    for wrong in (ask(folder="relative"), ask(recipe=[]), ask(more=1), json.dumps([1]).encode(), b"\xff", b"[" * 9999):
        assert here.post(wrong)[0] == 422
    assert here.post(ask(), Authorization=f"Basic {here.token}")[0] == 401


@pytest.mark.parametrize(("recipe", "message"), [
    ({"prompt": " "}, "prompt"),
    ({"prompt": PROMPT, "generator": "nobody"}, "there is no generator 'nobody'"),
    ({"prompt": PROMPT, "generator": "/etc"}, "/etc brings no search along"),
    ({"prompt": PROMPT, "generator": "evil:Evil", "search": "single"}, "evil:Evil is code"),
    ({"prompt": PROMPT, "generator": "tiny", "search": "evil:Evil"}, "evil:Evil is code"),
    ({"prompt": PROMPT, "generator": "tiny", "verifier": "https://judge.example/v1#m"}, "over the network"),
    ({"prompt": PROMPT, "generator": "tiny", "verifier": "min(tiny-orm,https://judge.example/v1#m)"}, "over the net"),
    ({"prompt": PROMPT, "generator": "tiny", "output": "/tmp/none"}, "writes no folder"),
    ({"prompt": PROMPT, "generator": "tiny", "n": 0}, "n"),
    ({"prompt": PROMPT, "more": 1}, "more"),
])  # fmt: skip
def test_what_a_server_does_not_draw_is_said(here, tmp_path, recipe, message):
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    status, answer = here.post(ask(folder=str(tmp_path), recipe=recipe))
    failed = Failed.model_validate_json(answer.splitlines()[-1])
    assert (status, failed.exit_code) == (200, 2) and message in failed.message, answer
    assert not (tmp_path / "ran").exists() and here.process.poll() is None


def test_code_that_a_checkpoint_names_is_not_run(here, models, tmp_path):
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    named = shutil.copytree(models[1], tmp_path / "named")
    (named / "search_config.json").write_text(json.dumps({"search": "evil:Evil"}))
    asked = {"prompt": PROMPT, "generator": "./named"}
    failed = Failed.model_validate_json(here.post(ask(folder=str(tmp_path), recipe=asked))[1].splitlines()[-1])
    assert failed.exit_code in (1, 2) and "evil" in failed.message and not (tmp_path / "ran").exists()


def test_a_wrong_token_and_a_missing_server(imagecot, here, models, monkeypatch, tmp_path):
    asked = ["generate", PROMPT, *models, "--out", "out"]
    monkeypatch.setenv(place.TOKEN, "x" * 20)
    code, _, err = imagecot(*asked, "--server", here.address)
    assert (code, err) == (
        1,
        "error: the token is not that of the server; use the one that it wrote when it was started.\n",
    )
    monkeypatch.setenv(place.TOKEN, "short")
    assert imagecot(*asked, "--server", here.address)[0] == 2
    monkeypatch.delenv(place.TOKEN)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "none"))
    code, _, err = imagecot(*asked, "--server", "auto")
    assert (code, err.startswith("error: no server was started on this machine; start one")) == (1, True)
    assert "token" in imagecot(*asked, "--server", "http://127.0.0.1:9")[2]
    for wrong in (
        "http://example.org:80",
        "https://127.0.0.1:80",
        "http://127.0.0.1",
        "http://127.0.0.1:99999999",
        "x",
    ):
        assert imagecot(*asked, "--server", wrong)[0] == 2
    assert not (tmp_path / "out").exists()


def draw_long(served: Served, models: list[str], folder: Path) -> subprocess.Popen:
    """A client whose search takes long, once the server draws for it."""
    asked = ["generate", PROMPT, *models, "-n", "20000", "--server", "auto", "--out", str(folder)]
    client = subprocess.Popen(
        [sys.executable, "-m", "imagecot", *asked],
        env=environment(served.state), stderr=subprocess.PIPE, text=True, preexec_fn=hear_ctrl_c,
    )  # fmt: skip
    until(lambda: served.health()["busy"] == 1)
    return client


def until(true) -> None:
    ends = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.1)


def test_a_line_of_bounded_length_and_a_client_that_leaves(imagecot, here, models, tmp_path):
    client = draw_long(here, models, tmp_path / "long")
    code, _, err = imagecot("generate", PROMPT, *models, "-n", "1", "--server", "auto", "--out", "other")
    assert (code, err) == (1, "error: the server has as many requests as it takes; ask again in a while.\n")
    assert here.post(ask())[0] == 429
    client.send_signal(signal.SIGINT)
    _, err = client.communicate(timeout=SECONDS)
    assert client.returncode == 130 and err.startswith("stopped; the same command continues")
    until(lambda: here.health()["busy"] == 0)
    assert not (tmp_path / "long").exists()
    assert imagecot("generate", PROMPT, *models, "-n", "1", "--server", "auto", "--out", "other")[0] == 0


def test_ctrl_c_ends_a_server_and_tells_its_client(models, tmp_path):
    served = begin(tmp_path / "state")
    file = tmp_path / "state" / "imagecot" / "server.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    client = draw_long(served, models, tmp_path / "long")
    served.process.send_signal(signal.SIGINT)
    _, err = client.communicate(timeout=SECONDS)
    assert (client.returncode, err) == (
        1,
        "error: the server was stopped before it had drawn; start it and repeat the command.\n",
    )
    _, told = served.process.communicate(timeout=SECONDS)
    assert (served.process.returncode, told) == (130, "stopped.\n")
    assert not file.exists() and not (tmp_path / "long").exists()


def test_a_server_that_is_killed(models, tmp_path):
    served = begin(tmp_path / "state")
    client = draw_long(served, models, tmp_path / "long")
    served.process.kill()
    _, err = client.communicate(timeout=SECONDS)
    assert client.returncode == 1 and "ended before it had drawn; start it and repeat" in err
    served.process.communicate(timeout=SECONDS)
    again = subprocess.run(
        [sys.executable, "-m", "imagecot", "generate", PROMPT, *models, "--server", "auto", "--out", "x"],
        env=environment(served.state), cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS,
    )  # fmt: skip
    assert again.returncode == 1 and again.stderr.startswith(f"error: no server answers at {served.address}; start one")


def test_a_token_goes_to_its_own_address_only(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv(place.TOKEN, raising=False)
    there = place.announce("http://127.0.0.1:8000")
    assert place.find("auto") == there and place.find("http://127.0.0.1:8000/").token == there.token
    with pytest.raises(ImagecotError, match=r"token .* is not known here"):
        place.find("http://127.0.0.1:8001")
    place.withdraw(place.announce("http://127.0.0.1:8002"))
    with pytest.raises(ImagecotError, match="no server was started"):
        place.find("auto")
    other = place.announce("http://127.0.0.1:8003")
    place.withdraw(there)
    assert place.find("auto") == other
    place.file_of_server().write_text('{"address": "http://evil.example:80", "token": "x", "process": 1}')
    with pytest.raises(UsageError, match=r"not at evil\.example"):
        place.find("auto")
    place.file_of_server().write_text("{")
    with pytest.raises(ImagecotError, match=r"remove it and start the server again"):
        place.find("auto")


def test_models_stay_loaded_until_others_are_used(models, tmp_path):
    shelf = Shelf(2)
    named = completed(models[1], "best-of-n", models[3], None, {})
    found = shelf.load(named, None)
    again = shelf.load(named, None)
    assert again.generator is found.generator and again.verifier is found.verifier
    assert shelf.load(named, "bfloat16").generator is not found.generator
    assert len(shelf.names) == 2
    assert shelf.load(named, None).generator is not found.generator
    config = Path(models[1]) / "config.json"
    before = shelf.load(named, None).generator
    config.write_text(config.read_text() + " ")
    assert shelf.load(named, None).generator is not before


def test_a_task_ends_when_nobody_waits_for_it() -> None:
    told: list[Event] = []
    done: list[Task] = []
    asked = Ask(version="x", folder="/", recipe={})
    last = Failed(message="that was it.", exit_code=1)

    def do(task: Task) -> Failed:
        done.append(task)
        return last

    worker = Worker(1, do)
    first, second, third = (Task(asked, told.append) for _ in range(3))
    assert worker.put(first) and worker.put(second) and not worker.put(third)
    first.leave()
    assert worker.put(third)
    worker.start()
    until(lambda: len(told) == 2)
    assert done == [second, third] and told == [last, last] and worker.busy == 0
    worker.close()
    assert worker.closed and not worker.put(first)
    worker.join(SECONDS)
    third.emit(Tell(text="heard"))
    assert told == [last, last, Tell(text="heard")]


def test_who_heard_the_last_may_ask_at_once() -> None:
    taken: list[bool] = []
    asked = Ask(version="x", folder="/", recipe={})
    worker = Worker(0, lambda task: Failed(message="no.", exit_code=1))
    again = Task(asked, lambda event: None)
    first = Task(asked, lambda event: taken.append(worker.put(again)))
    assert worker.put(first)
    worker.start()
    until(lambda: taken == [True])
    worker.close()
    worker.join(SECONDS)
