"""How requests to an endpoint end: with the first failure, without losing what was paid for, and by a signal."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from imagecot import exchange
from imagecot.endpoints import Endpoint
from imagecot.errors import ImagecotError
from misbehaving import drips, sends, server


def as_it_is(number, answer):
    return answer


def test_the_first_failure_ends_the_other_requests(monkeypatch):
    monkeypatch.setattr(exchange, "_GRACE", 0.2)
    with server(sends("no", 400), drips(False)) as there:
        start = time.monotonic()
        with pytest.raises(ImagecotError, match="refuses"):
            list(Endpoint(there.url).post_each("x", [{}] * 20, as_it_is))
        assert time.monotonic() - start < 5
        assert len(there.bodies) <= 8  # what was not sent is never sent


def test_answers_that_come_after_a_failure_are_yielded_before_it():
    failed = threading.Event()

    def late(handler):
        assert failed.wait(20)
        time.sleep(0.2)  # the failure has been noticed
        sends({"n": handler.asked["n"]})(handler)

    def fails(handler):
        while len(there.bodies) < 4:
            time.sleep(0.01)
        sends("no", 400)(handler)
        failed.set()

    def answer(handler):
        (fails if handler.asked["n"] == 2 else late)(handler)

    with server(answer) as there:
        found = Endpoint(there.url, at_once=4).post_each("x", [{"n": k} for k in range(20)], as_it_is)
        assert {next(found)[0] for _ in range(3)} == {0, 1, 3}
        with pytest.raises(ImagecotError, match=r"refuses the request \(400: no\)"):
            next(found)
        assert len(there.bodies) == 4


def test_an_answer_that_cannot_be_read_loses_no_other():
    def read(number, answer):
        if number == 0:
            raise ImagecotError("no answer.")
        return answer["n"]

    def answer(handler):
        time.sleep(0.1 * handler.asked["n"])
        sends({"n": handler.asked["n"]})(handler)

    with server(answer) as there:
        found = Endpoint(there.url, at_once=3).post_each("x", [{"n": k} for k in range(9)], read)
        assert {next(found), next(found)} >= {(1, 1), (2, 2)}
        with pytest.raises(ImagecotError, match="no answer"):
            list(found)
        assert len(there.bodies) < 9


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_waiting_requests_at_once(number, code):
    program = (
        "import sys\n"
        "from imagecot import interruption\n"
        "from imagecot.endpoints import Endpoint\n"
        "interruption.catch_signals()\n"
        "print('ready', flush=True)\n"
        "try: list(Endpoint(sys.argv[1]).post_each('x', [{}] * 20, lambda _, answer: answer))\n"
        "except interruption.Stopped as stopped: sys.exit(stopped.exit_code)\n"
    )
    with server(drips(True)) as there:
        environment = {**os.environ, "PYTHONWARNINGS": "error"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        child = subprocess.Popen([sys.executable, "-c", program, there.url], text=True, env=environment, **pipes)
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
        while not there.bodies:
            time.sleep(0.01)
        start = time.monotonic()
        child.send_signal(number)
        _, told = child.communicate(timeout=20)
        assert child.returncode == code
        assert told == ""
        assert time.monotonic() - start < 5
