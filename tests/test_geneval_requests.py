"""Requests of evaluations that make no sense, and words that would harm a page: refused or shown as they are."""

import json
import random
from pathlib import Path

import pytest
from PIL import Image

from imagecot.contracts.metadata import Metadata
from imagecot.errors import ImagecotError, UsageError
from imagecot.evaluation.report import table
from imagecot.evaluation.summary import Found, Record
from imagecot.geneval import judge_detections, make_prompts, summarize
from imagecot.geneval.reading import read_prompt
from imagecot.geneval.summary import compare
from imagecot.reflection.discrepancies import from_reason, parse, to_text
from imagecot.worlds.drawn.captions import held_out_prompts
from scored import APPLE, GOOD, TWO, needing, score

HUGE = str(10**30)


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("--samples", ("0", "-1", HUGE, "1.5", "x", "nan", "")),
        ("-n", ("0", "-1", HUGE, "1e3")),
        ("--per-task", ("0", "-1", HUGE)),
        ("--workers", ("0", "-1", "1025", HUGE)),
        ("--seed", (str(2**63), str(-(2**63) - 1), HUGE, "1.5")),
        ("--generator", ("", " ", "tinny")),
        ("--search", ("", "worst")),
        ("--detector", (" ", "nowhere", "x" * 5000)),
        ("--precision", ("", "int3")),
        ("--prompts", ("nowhere.jsonl", ".")),
        ("--images", ("im",)),
        ("--against", ("nowhere",)),
    ],
)
def test_options_beyond_their_bounds_end_with_2_and_leave_nothing(imagecot, option, values):
    given = {"--generator": "tiny", "--per-task": "1", "--samples": "1", "--out": "o"}
    for value in values:
        asked = given | {option: value}
        code, out, err = imagecot("evaluate", "geneval", *(word for pair in asked.items() for word in pair))
        assert (code, out) == (2, ""), value
        assert err.strip()
        assert not Path("o").exists()


def test_options_about_drawing_are_refused_with_images(imagecot, images):
    for more in (("--verifier", "tiny-orm"), ("--per-task", "1")):
        code, _, err = score(imagecot, *more)
        assert code == 2
        assert "leave them out with images" in err


def test_every_prompt_is_checked_before_anything_is_drawn(imagecot):
    apple = {"tag": "single_object", "include": [{"class": "apple", "count": 1}], "prompt": "a photo of an apple"}
    for bad in ("a photo of an apple <image>", "very " * 200 + "red apple"):
        lines = [apple, {**apple, "prompt": bad}]
        Path("p.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        code, _, err = imagecot(
            *("evaluate", "geneval", "--generator", "tiny", "--prompts", "p.jsonl", "--samples", "1", "--out", "o"),
            *("--search", "best-of-n", "-n", "2", "--verifier", "tiny-zero-shot"),
        )
        assert code == 2
        assert bad[:30] in err
        assert not Path("o").exists()


def test_a_repeated_prompt_is_refused(imagecot):
    Path("p.jsonl").write_text(2 * (held_out_prompts(1)[0].text + "\n"))
    code, _, err = imagecot("evaluate", "geneval", "--generator", "tiny", "--prompts", "p.jsonl", "--out", "o")
    assert code == 2
    assert "prompt 2 of the metadata is prompt 1 again" in err


def test_any_prompt_is_shown_on_the_page_of_failures(imagecot, painted):
    need = {"include": [{"class": "boat", "count": 9}], "tag": "single_object"}
    prompts = ["a $\\frac$ apple", "a photo\u2028of 中 apple", "an \x1b[31m apple 🙂", "apple " * 14]
    Path("p.jsonl").write_text("".join(json.dumps({**need, "prompt": prompt}) + "\n" for prompt in prompts))
    code, _, err = imagecot(
        *("evaluate", "geneval", "--generator", "tiny", "--prompts", "p.jsonl", "--samples", "1", "--out", "o")
    )
    assert (code, err) == (0, "")
    with Image.open("o/failures.png") as page:
        assert page.width > 500


def test_a_raw_tag_in_a_table_is_words_only():
    rows = [{"tag": "a|b\n# c <b> [x](y) \x1b[31m`", "metadata": "m", "correct": True}]
    record = Record(detector={}, second=None, run={}, versions={})
    lines = table(Found(score=summarize(rows), problems=[], cost={}, record=record)).split("\n")
    assert len(lines) == 4
    assert lines[2].startswith(r"| a\|b \# c \<b\> \[x\]\(y\) \\x1b\[31m\` | 1 |")


def test_ranks_left_in_the_environment_are_told_and_ignored(imagecot, images, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, summary, err = score(imagecot)
    assert code == 0
    assert "RANK and WORLD_SIZE in the environment are ignored" in err
    assert summary["score"]["total_images"] == 12
    monkeypatch.setenv("RANK", "x")
    code, _, err = score(imagecot, out="p")
    assert code == 2
    assert "RANK is 'x'" in err


ANYTHING = [None, True, -1, 1.5, float("nan"), 10**30, 10**5000, "x", "\ud800", [], [[]], {}, {"a": 1}, b"x", object()]


@pytest.mark.parametrize("index", range(len(ANYTHING)))
def test_wrong_types_are_told_in_python(index):
    """Whatever stands in the place of an argument, or of a part of one: a result or a UsageError."""
    value = ANYTHING[index]
    boxes, colors = {"apple": [[1, 2, 3, 4, 0.9]], "dog": [[5, 6, 7, 8, 0.9]]}, {"apple": ["red"]}
    row = {"tag": "t", "metadata": "m", "correct": True}
    need = TWO["include"][1]
    calls = [
        lambda: judge_detections(value, boxes, colors), lambda: judge_detections(GOOD, value, colors),
        lambda: judge_detections(GOOD, boxes, value), lambda: judge_detections(GOOD, {"apple": value}, colors),
        lambda: judge_detections(GOOD, boxes, {"apple": value}),
        lambda: judge_detections(GOOD, boxes, {"apple": [value]}),
        lambda: judge_detections(GOOD, boxes, lambda *asked: value),
        lambda: judge_detections(GOOD, {"apple": [[1, 2, 3, value, 0.9]]}, colors),
        *(lambda key=key: judge_detections({**GOOD, key: value}, boxes, colors) for key in (*GOOD, "exclude")),
        *(lambda key=key: judge_detections(needing(**{key: value}), boxes, colors) for key in APPLE),
        *(
            lambda at=at: judge_detections({**TWO, "include": [APPLE, {**need, "position": at}]}, boxes, colors)
            for at in (value, [value, 0], ["left of", value])
        ),
        *(
            lambda key=key: judge_detections(GOOD, boxes, colors, **{key: value})
            for key in ("threshold", "counting_threshold", "max_objects", "max_overlap", "position_threshold")
        ),
        *(lambda key=key: make_prompts(**{"n": 2, key: value}) for key in ("seed", "n", "names", "colors")),
        *(lambda key=key: make_prompts(n=2, **{key: ["a", value]}) for key in ("names", "colors")),
        lambda: summarize(value), lambda: summarize([value]), lambda: compare(value, [row]),
        *(lambda key=key: summarize([{**row, key: value}]) for key in row),
        *(lambda key=key: compare([row], [row], **{key: value}) for key in ("resamples", "confidence", "seed")),
    ]  # fmt: skip
    for call in calls:
        try:
            call()
        except UsageError as error:
            assert str(error)


def test_numbers_of_prompts_have_an_end():
    for n in (100_001, 10**12, 10**30):
        with pytest.raises(UsageError, match="at most 100000"):
            make_prompts(n=n)


@pytest.mark.parametrize("digits", ["9" * 5000, "٣", "0"])
def test_numbers_in_words_have_an_end(digits):
    assert read_prompt(f"a photo of {digits} dogs") is None or digits == "0"
    assert to_text(parse(f"there are {digits} dogs, not {digits}1."), random.Random(0)) is not None
    assert from_reason(Metadata.of(TWO), f"expected dog>={digits}, found {digits}") is not None
    with pytest.raises(ImagecotError, match="does not ask"):
        from_reason(Metadata.of(GOOD), "expected cup left of target, found above target")
