"""What the app shows: grids while a search is drawn, the choice, what other searches would have chosen."""

import re
import shlex
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from imagecot.app import launch
from imagecot.app.drawing import Shown, Studio, Wish, rounds_of
from imagecot.app.grid import verdict
from imagecot.contracts.search import Candidate, Verdict
from imagecot.errors import UsageError
from imagecot.serving.draw import opened
from imagecot.serving.others import completed
from imagecot.serving.shelf import Shelf
from imagecot.strategies.request import Request
from imagecot.strategies.search import carry_out
from imagecot.watch import SILENT

WISH = Wish("a photo of a red apple", "tiny", "tiny-parm", "parm", 6, 3)


@pytest.fixture(scope="module")
def studio() -> Studio:
    return Studio(Shelf(6), most=8)


@pytest.fixture(scope="module")
def seen(studio: Studio) -> list[Shown]:
    return [*studio.draw(WISH, threading.Event())]


@pytest.fixture(scope="module")
def request_here(studio: Studio) -> Request:
    """What was drawn, to be drawn again without anybody who looks on."""
    return opened(WISH.asked(8), studio.shelf, SILENT)


def test_the_grid_fills_while_paths_are_drawn(seen: list[Shown]) -> None:
    filled = [len(re.findall("<img ", shown.html)) for shown in seen if shown.html]
    assert filled[0] == 6  # after the first step
    assert filled == sorted(filled)
    assert len(filled) > 4
    assert [shown.done is not None for shown in seen] == [False] * (len(seen) - 1) + [True]
    assert not any(shown.failed for shown in seen)


def test_what_is_drawn_is_what_the_search_draws_unseen(seen: list[Shown], request_here: Request) -> None:
    assert seen[-1].done is not None
    trace = seen[-1].done.trace
    alone = carry_out(request_here)
    assert (alone.chosen, alone.choice.score) == (trace.chosen, trace.choice.score)
    assert [one.verdicts for one in alone.candidates] == [one.verdicts for one in trace.candidates]
    assert replace(alone.cost, seconds=0, judge_seconds=0) == replace(trace.cost, seconds=0, judge_seconds=0)


def test_the_choice_is_marked_and_stopped_paths_are_crossed_out(seen: list[Shown]) -> None:
    assert seen[-1].done is not None
    trace = seen[-1].done.trace
    html = seen[-1].html
    assert f"path {trace.chosen + 1} ✓ chosen" in html
    stopped = [one for one in trace.candidates if one.truncated_at is not None]
    assert stopped
    assert html.count("✕ stopped after step") == len(stopped)


def test_other_searches_choose_as_they_do_when_they_draw(seen: list[Shown], request_here: Request) -> None:
    assert seen[-1].done is not None
    trace = seen[-1].done.trace
    found = {other.search: other for other in seen[-1].done.others()}
    assert found["parm"].path == trace.chosen
    drawn = carry_out(replace(request_here, strategy="best-of-n", options={}))
    assert found["best-of-n"].path == drawn.chosen
    assert found["best-of-n"].score == pytest.approx(drawn.choice.score, abs=1e-5)
    assert "hierarchical" not in found  # it asks what nobody asked here
    assert any(one.truncated_at is not None and one.score is None for one in trace.candidates)  # as they were


def test_stopped_paths_become_what_they_would_have_become(seen: list[Shown], request_here: Request) -> None:
    assert seen[-1].done is not None
    trace = seen[-1].done.trace
    whole = carry_out(replace(request_here, strategy="best-of-n", options={})).candidates
    for one, other in zip(completed(request_here, trace.candidates), whole, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-5)


def test_a_search_without_a_verifier_is_compared_with_none(studio: Studio) -> None:
    *_, last = studio.draw(Wish("a photo of a red apple", "tiny", None, "single", 1, 0), threading.Event())
    assert last.done is not None
    with pytest.raises(UsageError, match="nobody judged"):
        last.done.others()


def test_a_search_can_be_stopped(studio: Studio) -> None:
    stop = threading.Event()
    shown = []
    for one in studio.draw(WISH, stop):
        shown.append(one)
        if one.html:
            stop.set()
    assert shown[-1].told == "stopped"
    assert shown[-1].done is None
    assert [*studio.draw(WISH, threading.Event())][-1].done is not None  # the next one draws


def test_who_leaves_stops_the_search(studio: Studio) -> None:
    stop = threading.Event()
    stream = studio.draw(WISH, stop)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert stop.is_set()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"prompt": "a" * 501}, "501 letters"),
        ({"prompt": "  "}, "prompt"),
        ({"n": 9}, "9 paths are more than the 8"),
        ({"n": 0}, "n"),
        ({"generator": "nobody"}, "there is no generator 'nobody'"),
        ({"generator": "os:system"}, "code"),
        ({"verifier": "http://localhost:1/v1#x"}, "network"),
        ({"search": "best"}, "best"),
        ({"seed": 2**70}, "seed"),
    ],
)
def test_a_wish_that_cannot_be_is_told_in_a_sentence(studio: Studio, change: dict[str, object], told: str) -> None:
    *_, last = studio.draw(replace(WISH, **change), threading.Event())
    assert last.failed
    assert last.done is None
    assert told in last.told
    assert "\n" not in last.told


def test_the_command_line_says_the_same(seen: list[Shown]) -> None:
    wish = replace(WISH, prompt='it\'s a "cup"; $(rm)')
    words = shlex.split(wish.command)
    assert words[:3] == ["imagecot", "generate", wish.prompt]
    assert " ".join(words[3:]) == "--generator tiny --verifier tiny-parm --search parm -n 6 --seed 3"


def test_words_of_a_verdict() -> None:
    stopped = Candidate(1, truncated_at=6, verdicts=[Verdict(6, "potential", 0.24)])
    assert verdict(stopped) == "✕ stopped after step 6, P(yes) 0.24 (potential)"
    assert verdict(Candidate(1, verdicts=[Verdict(18, "orm", 0.5)], score=0.5)) == "P(yes) 0.50"
    assert verdict(Candidate(1)) == ""
    assert verdict(Candidate(1, truncated_at=2)) == "✕ stopped after step 2"


def test_rounds_of_a_search_without_reflection_are_empty(seen: list[Shown]) -> None:
    assert seen[-1].done is not None
    assert rounds_of(seen[-1].done.trace) == ""


def test_files_of_visitors_go_with_the_app_and_with_one_that_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(launch.tempfile, "tempdir", str(tmp_path))
    dead, strange = tmp_path / "imagecot-app-999999999-x", tmp_path / "imagecot-app-mine"
    for folder in (dead, strange):
        folder.mkdir()
    with launch.own_folder() as folder:
        assert folder.is_dir()
        assert not dead.exists()
        assert strange.exists()
    assert not folder.exists()


def test_an_app_of_a_generator_that_there_is_not_is_refused() -> None:
    with pytest.raises(UsageError, match="there is no generator"):
        launch.check_generators(["tiny", "nobody"])
