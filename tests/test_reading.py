"""Text, JSON and JSON lines: what is read, and that everything else is one sentence."""

import json
import lzma
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagecot.errors import ImagecotError, UsageError
from imagecot.reading import (
    Foreign,
    Schema,
    parse,
    parse_object,
    read_lines,
    read_object,
    read_record,
    read_records,
    read_text,
)

ADVICE = "write it again"


class Point(Schema):
    """A record to read."""

    x: int
    y: float = 0.0
    name: str | None = None


class Part(Foreign):
    """A record of others of which one field counts."""

    x: int


def test_lines_end_at_line_feeds_alone(tmp_path):
    file = tmp_path / "lines.txt"
    file.write_bytes("\ufeffone\u2028still\x85one\r\n\n \nthr\x0cee\n".encode())
    assert list(read_lines(file)) == [(1, "one\u2028still\x85one"), (4, "thr\x0cee")]


def test_records_with_their_lines(tmp_path):
    file = tmp_path / "points.jsonl"
    file.write_text('\ufeff{"x": 1, "name": "a\u2028b"}\n\n{"x": 2, "y": 3}\n', encoding="utf-8")
    assert list(read_records(file, Point, advice=ADVICE)) == [
        (1, Point(x=1, name="a\u2028b")),
        (3, Point(x=2, y=3.0)),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not valid JSON"),
        ("{", "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
        ('{"x": NaN}', "is not valid JSON"),
        ('{"x": 1, "name": "\\ud800"}', "is not valid JSON"),
        ('{"x": ' + "1" * 5000 + "}", "is not valid JSON"),
        ("[]", "input should be an object"),
        ("null", "input should be an object"),
        ("{}", "x is missing"),
        ('{"x": "1"}', "x: input should be a valid integer, not '1'"),
        ('{"x": true}', "x: input should be a valid integer, not True"),
        ('{"x": 1.5}', "x: "),
        ('{"x": null}', "x: "),
        ('{"x": 1, "y": "2"}', "y: "),
        ('{"x": 1, "z": 2}', "z is not a known key"),
        ('{"x": [' + "1," * 99 + "1]}", "…"),
    ],
)
def test_what_is_no_record_is_told_by_field(text, words, tmp_path):
    file = tmp_path / "point.json"
    file.write_text(text)
    with pytest.raises(ImagecotError) as caught:
        read_record(file, Point, advice=ADVICE)
    told = str(caught.value)
    assert told.startswith(str(file)) and told.endswith(f"; {ADVICE}.") and words in told
    assert "\n" not in told and len(told) < 400 + len(str(file))


def test_packed_text(tmp_path):
    packed, file = lzma.compress(b'{"x": 1, "y": 2}\n'), tmp_path / "a.jsonl.xz"
    file.write_bytes(packed)
    assert read_text(file) == '{"x": 1, "y": 2}\n'
    for data, words in [(packed[:-9], "is cut off"), (b"", "is cut off"), (b"x" * 99, "is damaged")]:
        file.write_bytes(data)
        with pytest.raises(ImagecotError, match=words):
            read_text(file)


def test_fields_that_nobody_asked_for_may_stand_in_what_others_write():
    assert parse('{"x": 1, "more": {}}', Part, "the reply", advice=ADVICE) == Part(x=1)
    with pytest.raises(ImagecotError, match=r"^the reply: x is missing; write it again\.$"):
        parse('{"more": {}}', Part, "the reply", advice=ADVICE)


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "latin.json").write_bytes(b'{"x": "\xe9"}')
    os.mkfifo(tmp_path / "pipe")
    for name, words in (
        ("none", "is missing"),
        (".", "is a folder"),
        ("pipe", "is no regular file"),
        ("latin.json", "is not UTF-8 text (byte 7)"),
        ("x" * 300, "cannot be read (file name too long)"),
        ("nul\0", "cannot be read"),
    ):
        with pytest.raises(UsageError) as caught:
            read_object(tmp_path / name, failure=UsageError, advice=ADVICE)
        assert words in str(caught.value)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_object_or_a_sentence(data):
    try:
        assert isinstance(parse_object(data, "it", advice=ADVICE), dict)
    except ImagecotError as error:
        assert str(error).endswith(f"{ADVICE}.")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["x", "y", "name", "z"]), values, max_size=4))
def test_any_values_are_a_record_or_a_sentence(fields):
    try:
        found = parse(json.dumps(fields), Point, "it", advice=ADVICE)
    except ImagecotError as error:
        assert str(error).startswith("it: ") or "not valid JSON" in str(error)
    else:
        assert found.x == fields["x"] and type(fields["x"]) is int
