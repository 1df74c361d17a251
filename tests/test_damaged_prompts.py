"""Files of GenEval's prompts, damaged in every way: refused in a sentence."""

import json
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagecot.contracts.metadata import Metadata
from imagecot.errors import ImagecotError, UsageError
from imagecot.geneval import judge_detections
from imagecot.geneval.metadata import parse_metadata, read_prompts
from imagecot.geneval.prompts import OBJECT_NAMES, counting_metadata, load_benchmark_prompts
from scored import APPLE, GOOD, TWO, needing

KNOWN = frozenset(OBJECT_NAMES)
STRANGE = [None, True, 0, -1, 1.5, 10**30, "", "x", "\u2028", [], [[]], {}, {"a": 1}, ["left of", 0]]


def without(key: str) -> dict:
    return {name: value for name, value in GOOD.items() if name != key}


def placed(position: object, name: str = "dog") -> dict:
    return {**TWO, "include": [{"class": "cat", "count": 1}, {"class": name, "count": 1, "position": position}]}


@pytest.mark.parametrize(
    ("metadata", "told"),
    [
        *((GOOD | {"tag": tag}, "tag") for tag in ("Colors", "colours", "", None, 3, ["colors"])),
        *((without(key), f"{key} is missing") for key in ("tag", "include", "prompt")),
        (GOOD | {"include": []}, "requires nothing"),
        *((GOOD | {"include": value}, "include") for value in (None, {}, "apple", ["apple"])),
        (without("include") | {"inclde": [APPLE]}, "did you mean include?"),
        *((GOOD | {key: []}, "did you mean exclude?") for key in ("exlude", "Exclude", "excludes")),
        (GOOD | {"exclude": None}, "exclude"),
        (GOOD | {"exclude": [{"class": "cup", "count": 1, "color": "red"}]}, "exclude.0.color is not a known key"),
        (GOOD | {"exclude": [{"class": "apple", "count": 1}]}, "asks for 1 of apple, exclude for fewer"),
        *((GOOD | {"prompt": prompt}, "prompt") for prompt in (None, 5, [], ["a"], {}, "", " \u200b", "a\0b")),
        *((needing(color=color), "color") for color in ("grey", "Red", "", None, 3, ["red"])),
        (needing(colour="red"), "include.0.colour is not a known key"),
        *((needing(count=count), "count") for count in (0, -1, 17, 1.0, 1.5, "1", True, None, 10**30)),
        *((needing(**{"class": name}), "class") for name in ("Apple", "dragon", "", None, 3)),
        (needing(**{"class": "aple"}), "did you mean apple?"),
        *((placed(value), "position") for value in (None, [], "left of", ["left of"], ["left of", 0, 1])),
        *((placed(["left of", target]), "position") for target in (1, 2, -1, "0", None, True, 0.0)),
        *((placed([relation, 0]), "position") for relation in ("left", "Left of", "next to", None, 3)),
        (placed(["left of", 0], "cat"), "relates cat to itself"),
        ({**GOOD, "include": [APPLE, {**APPLE, "color": "blue"}]}, "a second colour of apple"),
    ],
)
def test_what_no_judge_can_meet_is_refused(metadata, told):
    with pytest.raises(ImagecotError, match=r"^line 7 of p") as caught:
        parse_metadata(json.dumps(metadata), "line 7 of p", KNOWN)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_a_judge_can_meet_is_read_as_it_stands():
    for metadata in (Metadata.of(GOOD), Metadata.of(TWO), *load_benchmark_prompts(), counting_metadata("dog", 0)):
        assert parse_metadata(metadata.text, "p", KNOWN) == metadata
    more = GOOD | {"prompt_id": 7, "source": {"a": [1]}, "vqa_list": []}
    assert parse_metadata(json.dumps(more), "p", KNOWN).as_json() == more


@st.composite
def damaged(draw):
    """One of two good requirements with something in it replaced, renamed or left out."""
    whole = json.loads(json.dumps(draw(st.sampled_from([GOOD, TWO]))))
    place = whole
    while True:
        key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if isinstance(place[key], (dict, list)) and place[key] and draw(st.booleans()):
            place = place[key]
            continue
        how = draw(st.sampled_from(["replace", "delete", "rename"]))
        if how == "replace" or not isinstance(place, dict):
            place[key] = draw(st.sampled_from(STRANGE))
        else:
            value = place.pop(key)
            if how == "rename":
                place[draw(st.sampled_from([f"{key}s", key.upper(), "other"]))] = value
        return whole


@settings(max_examples=150, deadline=None)
@given(damaged())
def test_a_damaged_requirement_is_refused_or_can_be_judged(metadata):
    boxes = {name: [[1.0, 2.0, 9.0, 9.0, 0.95]] for name in ("apple", "cat", "dog", "cup")}
    try:
        read = parse_metadata(json.dumps(metadata), "p", KNOWN)
    except ImagecotError as error:
        assert str(error).endswith((".", "?"))
        return
    assert judge_detections(read, boxes, {name: ["red"] for name in boxes}).reason is not None


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 400), st.sampled_from([b"", b"\xff", b"\0", b"[" * 3000, b"NaN", b"\n", b"\xe2\x80\xa8", b"{"]))
def test_a_damaged_file_of_prompts_is_refused(tmp_path, cut, put):
    whole = (json.dumps(GOOD) + "\n" + json.dumps(TWO) + "\n").encode()
    (tmp_path / "p.jsonl").write_bytes(whole[:cut] + put + whole[cut + len(put) :])
    try:
        assert read_prompts(tmp_path / "p.jsonl", KNOWN)
    except UsageError as error:
        assert "p.jsonl" in str(error)


def test_lines_end_at_line_feeds_only_and_a_mark_may_begin_the_file(tmp_path):
    separated = GOOD | {"prompt": "a photo\u2028of a\u0085red apple"}
    text = json.dumps(separated, ensure_ascii=False) + "\r\n\n" + json.dumps(TWO)
    (tmp_path / "p.jsonl").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert read_prompts(tmp_path / "p.jsonl", KNOWN) == [Metadata.of(separated), Metadata.of(TWO)]


@pytest.mark.parametrize("made", ["nothing", "folder", "fifo", "empty", "blank"])
def test_what_is_no_file_of_prompts(tmp_path, made):
    file = tmp_path / "p.jsonl"
    {
        "nothing": lambda: None, "folder": file.mkdir, "fifo": lambda: os.mkfifo(file),
        "empty": file.touch, "blank": lambda: file.write_text("\n \n"),
    }[made]()  # fmt: skip
    with pytest.raises(UsageError, match=r"p\.jsonl"):
        read_prompts(file, KNOWN)
