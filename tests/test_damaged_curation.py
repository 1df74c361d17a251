"""Damaged data of the curations: a sentence each, which names file, row and field."""

import os
import shutil
from dataclasses import replace

import pyarrow
import pyarrow.parquet
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from curated import APPLE, GROUPS, REFLECTED, ROWS, SLOW, bomb, row
from imagecot.curation import schema
from imagecot.curation.corrections import make_corrections, read_corrections, write_corrections
from imagecot.curation.dataset import RankingData, read_rows
from imagecot.curation.pairs import make_pairs, read_pairs, write_pairs
from imagecot.curation.schema import CORRECTIONS, RANKING
from imagecot.errors import ImagecotError, UsageError
from imagecot.images import png

torch.set_num_threads(1)
PAIRS = make_pairs(ROWS, 0, 2)
KINDS = {
    "rows": (ROWS, RANKING, lambda folder: RankingData(folder, {}).keep(0, ROWS), read_rows),
    "pairs": (PAIRS, schema.PAIRS, lambda folder: write_pairs(folder, PAIRS, {}), read_pairs),
    "groups": (GROUPS, CORRECTIONS, lambda folder: write_corrections(folder, GROUPS, {}), read_corrections),
}


def columns(kind: str) -> list[dict]:
    """The rows of a kind as Parquet keeps them."""
    rows, form, *_ = KINDS[kind]
    return [form.adapter.dump_python(r) for r in rows]


def write(folder, kind: str, rows: list[dict]) -> None:
    """Write rows of a kind with whatever types their values have."""
    KINDS[kind][2](folder)
    file = folder / "data/00000.parquet"
    names = pyarrow.parquet.read_schema(file).names
    table = pyarrow.table({name: [r.get(name) for r in rows] for name in names})
    pyarrow.parquet.write_table(table, file)


CHANGES = [
    ("id", None), ("id", 5), ("id", ""), ("prompt", None), ("prompt", 5), ("prompt", ""), ("prompt", " "),
    ("prompt", ["a"]), ("prompt", "a\0b"), ("prompt", "x" * 20_000), ("task", 5), ("task", None),
    ("metadata", None), ("metadata", "{"), ("metadata", "[]"), ("metadata", 5), ("metadata", "[" * 100_000),
]  # fmt: skip
OWN = {
    "rows": [
        ("question", "taste"), ("question", None), ("label", "maybe"), ("label", True), ("label", None),
        ("agreement", None), ("agreement", 1), ("step", 7), ("step", -1), ("step", None), ("step", "six"),
        ("step", 6.0), ("steps", 5), ("steps", 10**9), ("seed", None), ("seed", "x"), ("seed", 1.5),
        ("codes", [-1, 2, 3, 4]), ("codes", [1, 2, 3]), ("codes", []), ("codes", [1, 2, 3, 40_000]),
        ("codes", [1, 2, 3, None]), ("codes", "1234"), ("codes", [1.0, 2.0, 3.0, 4.0]), ("reasons", 5),
        ("image", None), ("image", "a.png"), ("image", {"path": "a.png", "bytes": None}), ("image", {"path": "a.png"}),
        ("image", {"path": None, "bytes": b""}), ("image", {"path": None, "bytes": b"\x89PNG"}),
        ("image", {"path": None, "bytes": png(torch.zeros(3, 8, 8))[:-40]}),
        ("image", {"path": None, "bytes": b"%!PS-Adobe"}), ("image", [1, 2]),
    ],
    "pairs": [
        ("chosen", None), ("rejected", "a.png"), ("chosen", {"bytes": None, "path": "x"}), ("chosen_seed", None),
        ("rejected_seed", "x"), ("chosen_codes", [-1, 2, 3, 4]), ("rejected_codes", [1, 2]),
        ("before_codes", [1]), ("told", 5),
    ],
    "groups": [
        ("reasons", None), ("reasons", ""), ("reasons", 5), ("rejected_codes", None), ("accepted_codes", []),
        ("rejected_codes", [1, 2, 3]), ("accepted_codes", [1, 2, 3, 99_999]), ("rejected_seed", None),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("kind", "name", "value"), [(k, *c) for k in KINDS for c in (*CHANGES, *OWN[k])])
def test_a_wrong_value_is_named_with_file_row_and_field(tmp_path, kind, name, value):
    rows, read = columns(kind), KINDS[kind][3]
    # One row changed where Parquet can hold that beside the others, else all of them.
    for changed, number in (
        ([rows[0], {**rows[1], name: value}, *rows[2:]], 1),
        ([{**r, name: value} for r in rows], 0),
    ):
        try:
            write(tmp_path / "d", kind, changed)
        except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError):
            continue
        with pytest.raises(ImagecotError, match=rf"row (0|{number}) of .*00000\.parquet: ") as it:
            list(read(tmp_path / "d"))
        said = name if name not in ("step", "steps") else "step"
        assert said in str(it.value)
        assert "\n" not in str(it.value) and len(str(it.value)) < 700
        return
    pytest.fail("Parquet holds none of these")


@pytest.mark.parametrize("kind", KINDS)
def test_ids_that_are_there_twice_are_named(tmp_path, kind):
    rows, read = columns(kind), KINDS[kind][3]
    write(tmp_path / "d", kind, [rows[0], {**rows[1], "id": rows[0]["id"]}])
    with pytest.raises(ImagecotError, match="is there twice"):
        list(read(tmp_path / "d"))


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_shards_are_one_sentence(tmp_path, kind):
    *_, keep, read = KINDS[kind]
    keep(tmp_path / "d")
    file = tmp_path / "d/data/00000.parquet"
    whole = file.read_bytes()
    for damaged in (b"", b"PAR1", whole[:100], whole[:-1], whole[:-200], b"x" * 500, whole[: len(whole) // 2] * 2):
        file.write_bytes(damaged)
        with pytest.raises(ImagecotError, match=r"00000\.parquet"):
            list(read(tmp_path / "d"))
    pyarrow.parquet.write_table(pyarrow.table({"id": ["a"]}), file)
    with pytest.raises(ImagecotError, match="lacks the column prompt"):
        list(read(tmp_path / "d"))
    file.unlink()
    file.mkdir()
    with pytest.raises(ImagecotError, match="is no regular file"):
        list(read(tmp_path / "d"))
    file.rmdir()
    os.mkfifo(file)
    with pytest.raises(ImagecotError, match="is no regular file"):
        list(read(tmp_path / "d"))
    file.unlink()
    for nothing in (tmp_path / "d", tmp_path / "none", tmp_path / "d/README.md"):
        with pytest.raises(UsageError, match="holds no curated data"):
            list(read(nothing))


@SLOW
@given(st.integers(0, 4000), st.binary(min_size=1, max_size=6))
def test_a_shard_with_other_bytes_is_read_or_refused(tmp_path, position, other):
    folder = tmp_path / "d"
    if not folder.exists():
        RankingData(folder, {}).keep(0, ROWS)
        shutil.copy(folder / "data/00000.parquet", tmp_path / "whole")
    data = bytearray((tmp_path / "whole").read_bytes())
    position %= len(data)
    data[position : position + len(other)] = other
    (folder / "data/00000.parquet").write_bytes(data)
    try:
        list(read_rows(folder))
    except ImagecotError as error:
        assert "00000.parquet" in str(error)


def test_a_shard_that_is_not_there_is_missed(tmp_path):
    data = RankingData(tmp_path / "d", {})
    for unit in range(3):
        data.keep(unit, ROWS[unit : unit + 1])
    data.shard(1).unlink()
    with pytest.raises(ImagecotError, match=r"00001\.parquet is missing"):
        list(read_rows(tmp_path / "d"))


def test_a_picture_too_large_is_refused(tmp_path):
    write(tmp_path / "d", "rows", [{**columns("rows")[0], "image": {"bytes": bomb(), "path": None}}])
    with pytest.raises(ImagecotError, match=r"row 0 of .*: the image has 12000 x 12000 pixels"):
        list(read_rows(tmp_path / "d"))


def test_an_image_of_both_labels_is_no_pair(tmp_path):
    write(tmp_path / "d", "pairs", [{**columns("pairs")[0], "chosen": columns("pairs")[0]["rejected"]}])
    with pytest.raises(ImagecotError, match="chosen and rejected are the same image"):
        list(read_pairs(tmp_path / "d"))
    twin = replace(ROWS[0], id="twin", label="yes")
    with pytest.raises(ImagecotError, match="has both labels"):
        make_pairs([ROWS[0], twin], 0)
    with pytest.raises(ImagecotError, match="differ in their codes"):
        make_pairs([row(APPLE, 1, True), row(APPLE, 2, False, (1, 2))], 0)
    with pytest.raises(ImagecotError, match="differ in their codes"):
        make_corrections(REFLECTED, [row(APPLE, 9, True, (1, 2))], "nearest", 0)


def test_ids_that_meet_stay_different(tmp_path):
    other = [replace(r, image=png(torch.full((3, 8, 8), 0.9 - 0.1 * k))) for k, r in enumerate(ROWS)]
    pairs = make_pairs([*ROWS, *other], 0, 4)
    assert len({pair.id for pair in pairs}) == len(pairs) == 4
    write_pairs(tmp_path / "p", pairs, {})
    assert len(list(read_pairs(tmp_path / "p"))) == 4
