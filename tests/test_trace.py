"""The trace as a folder, and the picture of the steps."""

import errno
import json
import os

import numpy as np
import pytest
from PIL import Image

from imagecot.contracts.search import Candidate, Cost, Verdict
from imagecot.errors import ImagecotError
from imagecot.strategies.lines import as_line
from imagecot.strategies.picture import CELL, CHOSEN, STOPPED, draw_steps, verdict_color
from imagecot.strategies.trace import Trace, ranked, shown, shown_steps


def candidate(seed: int, score: float) -> Candidate:
    image = Image.new("RGB", (16, 16), (seed, 10, 20))
    previews = {step: image for step in shown_steps(18)}
    return Candidate(seed, image, verdicts=[Verdict(18, "orm", score)], score=score, previews=previews)


def truncated(seed: int, step: int) -> Candidate:
    verdicts = [Verdict(step, "clarity", 0.9), Verdict(step, "potential", 0.1)]
    previews = {s: Image.new("RGB", (16, 16)) for s in shown_steps(18) if s <= step}
    return Candidate(seed, None, truncated_at=step, first_clear=step, verdicts=verdicts, previews=previews)


def make(candidates: list[Candidate], **change: object) -> Trace:
    values = {
        "prompt": "a “red” apple, 苹果",
        "strategy": "best-of-n",
        "generator": "tiny",
        "verifier": "tiny-zero-shot",
        "n": len(candidates),
        "seed": 0,
        "steps": 18,
        "settings": {"guidance_scale": 1.75},
        "weights": {"generator": "ab" * 32},
        "candidates": candidates,
        "chosen": ranked(candidates)[0],
        "cost": Cost(1 / 3, 1 / 7, 72, 3, 3, 100),
    }
    return Trace(**{**values, **change})  # type: ignore[arg-type]


def test_ranked_and_shown():
    candidates = [candidate(1, 0.2), truncated(2, 5), candidate(3, 0.9), candidate(4, 0.2)]
    assert ranked(candidates) == [2, 0, 3]
    assert shown(candidates) == [2, 0, 3, 1]
    many = [candidate(i, i / 20) for i in range(10)] + [truncated(10 + i, 5) for i in range(5)]
    assert shown(many) == [9, 8, 7, 6, 5, 10, 11, 12]
    assert shown([truncated(i, 5) for i in range(10)]) == list(range(8))


def test_shown_steps():
    assert shown_steps(18) == [1, 4, 8, 11, 15, 18]
    assert shown_steps(50) == [1, 11, 21, 30, 40, 50]
    assert shown_steps(3) == [1, 2, 3]
    assert shown_steps(1) == [1]


def test_a_saved_trace_is_read_back(tmp_path):
    trace = make([candidate(1, 0.25), truncated(2, 9), candidate(2**53 - 1, 1 / 3)])
    trace.save(tmp_path / "deep/out")
    loaded = Trace.load(tmp_path / "deep/out")
    assert loaded.identity == trace.identity
    assert (loaded.chosen, loaded.kept, loaded.cost, loaded.picture_cost) == (
        2,
        2,
        trace.cost,
        trace.picture_cost,
    )
    assert [as_line(c) for c in loaded.candidates] == [as_line(c) for c in trace.candidates]
    assert loaded.image.tobytes() == trace.image.tobytes()
    assert loaded.picture.tobytes() == trace.picture.tobytes()
    loaded.save(tmp_path / "again")
    for name in ("image.png", "steps.png", "trace.jsonl"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "deep/out" / name).read_bytes()


def test_the_lines_of_a_trace(tmp_path):
    make([candidate(1, 0.25), truncated(2, 9)]).save(tmp_path)
    run, first, second, choice = map(json.loads, (tmp_path / "trace.jsonl").read_text().splitlines())
    assert (run["kind"], run["prompt"], run["weights"]) == (
        "run",
        "a “red” apple, 苹果",
        {"generator": "ab" * 32},
    )
    assert set(run["versions"]) == {"imagecot", "torch", "python"}
    assert first["verdicts"] == [{"step": 18, "question": "orm", "p_yes": 0.25}]
    assert (second["index"], second["truncated_at"], second["score"]) == (1, 9, None)
    assert (choice["kind"], choice["chosen"], choice["cost"]["generator_rows"]) == ("choice", 0, 72)


@pytest.mark.parametrize(
    ("damage", "words"),
    [("cut", "it has 2 of at least 3 lines"), ("no image", "image.png is missing"), ("nothing", "jsonl is missing")],
)
def test_an_incomplete_folder_is_an_error(damage, words, tmp_path):
    make([candidate(1, 0.25)]).save(tmp_path)
    if damage == "cut":
        text = (tmp_path / "trace.jsonl").read_text()
        (tmp_path / "trace.jsonl").write_text("\n".join(text.splitlines()[:-1]))
    else:
        (tmp_path / ("image.png" if damage == "no image" else "trace.jsonl")).unlink()
    with pytest.raises(ImagecotError, match=words):
        Trace.load(tmp_path)


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "read-only"), (errno.EACCES, "no permission")],
)
def test_a_file_that_cannot_be_written_is_one_sentence_and_leaves_nothing(number, words, tmp_path, monkeypatch):
    make([candidate(1, 0.25)]).save(tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(ImagecotError, match=words) as caught:
        make([candidate(2, 0.5)]).save(tmp_path)
    assert str(caught.value).startswith(f"cannot write {tmp_path / 'image.png'}: ")
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def colors(trace: Trace) -> set[tuple[int, int, int]]:
    picture = draw_steps(trace)
    return {color for _, color in picture.getcolors(picture.width * picture.height)}


def test_the_picture_marks_the_choice_and_what_was_stopped():
    plain = colors(make([candidate(1, 0.25)]))
    assert CHOSEN not in plain  # a single path is no choice
    assert STOPPED not in plain
    several = colors(make([candidate(1, 0.25), candidate(2, 0.75)]))
    assert CHOSEN in several
    assert STOPPED not in several
    assert STOPPED in colors(make([candidate(1, 0.25), truncated(2, 9)]))


def test_the_picture_grows_with_rows_and_columns_and_takes_any_prompt():
    one, two = (draw_steps(make([candidate(i, 0.5) for i in range(k)])) for k in (1, 2))
    assert two.height > one.height + CELL
    twenty, eight = (draw_steps(make([candidate(i, 0.5) for i in range(k)])) for k in (20, 8))
    assert twenty.height == eight.height
    few = draw_steps(make([candidate(1, 0.5)], steps=1))
    assert few.width < one.width
    for prompt in ("x" * 5000, "word " * 800, "two\nlines\tand a tab", "!"):
        assert draw_steps(make([candidate(1, 0.5)], prompt=prompt)).width == one.width
    assert draw_steps(make([candidate(1, 0.5)], verifier=None)).width < one.width


def test_the_choice_stands_first_even_if_others_score_higher():
    picture = draw_steps(make([candidate(100, 0.9), candidate(200, 0.1)], chosen=1))
    reds = [picture.getpixel((150, y))[0] for y in range(picture.height)]
    assert reds.index(200) < reds.index(100)


def test_colors_of_verdicts():
    assert verdict_color(0.0) == (200, 66, 56)
    assert verdict_color(0.5) == (226, 168, 62)
    assert verdict_color(1.0) == (46, 146, 92)
    assert verdict_color(0.25) == (213, 117, 59)


def test_images_that_are_no_squares_are_not_stretched():
    one = make([candidate(200, 0.5)], steps=1)
    one.candidates[0].image = Image.new("RGB", (40, 10), (200, 0, 0))
    picture = np.asarray(draw_steps(one))
    rows, columns = np.nonzero((picture == (200, 0, 0)).all(2))
    wide, high = int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1
    assert wide / high == pytest.approx(4, rel=0.1)
    assert CELL - 4 <= wide <= CELL
