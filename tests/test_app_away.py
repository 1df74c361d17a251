"""An app whose paths a server draws: the same to be seen as with models of its own, and who stops ends it there."""

import http.client
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from imagecot.app.away import Away
from imagecot.app.drawing import Studio, Wish
from imagecot.errors import ImagecotError, UsageError
from imagecot.serving import place
from imagecot.serving.shelf import Shelf

torch.set_num_threads(1)
WISH = Wish("a photo of a red apple", "tiny", "tiny-parm", "parm", 6, 3)
SECONDS = 120


@pytest.fixture(scope="module")
def away(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Away]:
    state = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(state))
        patch.delenv(place.TOKEN, raising=False)
        environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        process = subprocess.Popen(
            [sys.executable, "-m", "imagecot", "serve"], env=environment, stderr=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith("serving at"), line + process.stderr.read()
        yield Away(place.find("auto"), tmp_path_factory.mktemp("files"), 256)
        process.terminate()
        process.communicate(timeout=SECONDS)


def busy(away: Away) -> int:
    """Requests that the server has."""
    connection = http.client.HTTPConnection(away.place.address.removeprefix("http://"), timeout=SECONDS)
    connection.request("GET", "/health", headers={"Authorization": f"Bearer {away.place.token}"})
    with connection.getresponse() as answer:
        told = json.loads(answer.read())
    connection.close()
    return told["busy"]


def is_idle(away: Away) -> bool:
    end = time.monotonic() + SECONDS
    while busy(away) and time.monotonic() < end:
        time.sleep(0.1)
    return busy(away) == 0


def test_what_a_server_draws_looks_as_what_is_drawn_here(away: Away) -> None:
    there = [*away.draw(WISH, threading.Event())]
    here = [*Studio(Shelf(6), most=8).draw(WISH, threading.Event())]
    grids = [[one.html for one in shown if one.html] for shown in (there, here)]
    assert len(grids[0]) > 4
    assert grids[0][:-1] == grids[1][:-1]
    assert [re.sub('src="[^"]*"', "", shown[-1].html) for shown in (there, here)] == [
        re.sub('src="[^"]*"', "", here[-1].html)
    ] * 2  # the last images came as WebP
    seconds = re.compile(r"\d+\.\d s")
    assert seconds.sub("", there[-1].told) == seconds.sub("", here[-1].told)
    assert there[-1].done is not None and here[-1].done is not None
    assert there[-1].done.files()["image.png"] == here[-1].done.files()["image.png"]
    assert there[-1].done.files().keys() == here[-1].done.files().keys()
    assert there[-1].done.others() == here[-1].done.others() != []
    assert [*away.folder.iterdir()] == []


def test_stop_ends_the_search_on_the_server(away: Away) -> None:
    stop, shown = threading.Event(), []
    for one in away.draw(replace(WISH, n=200), stop):
        shown.append(one)
        if one.html:
            stop.set()
    assert shown[-1].told == "stopped" and shown[-1].done is None and not shown[-1].failed
    assert is_idle(away)


def test_who_leaves_ends_the_search_on_the_server(away: Away) -> None:
    stream = away.draw(replace(WISH, n=200), threading.Event())
    assert next(stream).told
    stream.close()  # type: ignore[attr-defined]
    assert is_idle(away)


@pytest.mark.parametrize(
    ("change", "told"),
    [({"generator": "nobody"}, "there is no generator 'nobody'"), ({"n": 300}, "300 paths are more than the 256"),
     ({"verifier": "http://localhost:1/v1#x"}, "network"), ({"prompt": " "}, "prompt")],
)  # fmt: skip
def test_a_wish_that_cannot_be_is_told_in_a_sentence(away: Away, change: dict[str, object], told: str) -> None:
    *_, last = away.draw(replace(WISH, **change), threading.Event())
    assert last.failed and last.done is None
    assert told in last.told and "\n" not in last.told


def test_a_comparison_that_cannot_be_is_told(away: Away) -> None:
    *_, last = away.draw(Wish("a photo of a red apple", "tiny", None, "single", 1, 0), threading.Event())
    assert last.done is not None
    with pytest.raises(UsageError, match="nobody judged"):
        last.done.others()


def test_a_server_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = Away(place.Place(address="http://127.0.0.1:1", token="x" * 40, process=0), tmp_path, 8)
    (last,) = gone.draw(WISH, threading.Event())
    assert last.failed and "no server answers at http://127.0.0.1:1" in last.told
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    from imagecot.app.launch import serve

    with pytest.raises(ImagecotError, match="no server was started"):
        serve(["tiny"], host="127.0.0.1", port=0, most=8, queue=1, models=1, ready=print, server="auto")
