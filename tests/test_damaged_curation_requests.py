"""Impossible requests of the curations: a sentence each, and no folder taken."""

import shutil
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from curated import APPLE, GROUPS, REFLECTED, ROWS, row
from imagecot.contracts.metadata import Need
from imagecot.curation.corrections import write_corrections
from imagecot.curation.dataset import RankingData, ranking_row
from imagecot.curation.label import Labeller
from imagecot.curation.prompts import prompts_of, read_names
from imagecot.curation.recipes import CurateOrm
from imagecot.errors import UsageError
from imagecot.geneval.prompts import colors_metadata

torch.set_num_threads(1)
ASKED = replace(APPLE, prompt="one apple, please", text="")


@pytest.fixture
def orm(tmp_path):
    RankingData(tmp_path / "orm", {}).keep(0, ROWS)
    RankingData(tmp_path / "reflection", {}).keep(0, REFLECTED)
    return tmp_path / "orm"


COMMANDS = {
    "pairs": ("pairs", "--data", "orm"),
    "reflection": ("reflection", "--data", "orm"),
    "corrections": ("corrections", "--data", "reflection", "--images", "orm"),
}


@pytest.fixture
def drawn(tmp_path):
    """Images of the drawn world, which the shipped detector can look at."""
    rows = [
        ranking_row(
            need,
            "orm",
            torch.full((3, 64, 64), 0.05 * seed),
            step=6,
            steps=6,
            seed=seed,
            label=seed > 2,
            codes=torch.arange(4),
        )
        for seed, need in enumerate([colors_metadata("cup", "red")] * 5)
    ]
    RankingData(tmp_path / "orm", {}).keep(0, rows)
    return rows


@pytest.mark.parametrize("name", COMMANDS)
def test_changed_data_under_the_same_path_are_another_curation(drawn, tmp_path, imagecot, name):
    rejected = [replace(r, id=f"x-{r.id}", question="reflection", reasons="no.") for r in drawn[:3]]
    RankingData(tmp_path / "reflection", {}).keep(0, rejected)
    command = ("curate", *COMMANDS[name])
    assert imagecot(*command, "--out", "out")[0] == 0
    before = {file: file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file()}
    assert imagecot(*command, "--out", "out")[0] == 0
    shutil.copytree("orm", "elsewhere")
    moved = tuple("elsewhere" if word == "orm" else word for word in command)
    assert imagecot(*moved, "--out", "out")[0] == 0
    data = RankingData(tmp_path / "orm", {})
    data.shard(0).unlink()  # what is there is never written over
    data.keep(0, drawn[1:])
    code, _, err = imagecot(*command, "--out", "out")
    assert code == 2
    assert "sha256" in err and "holds another curation" in err
    kept = {file: file.read_bytes() for file in before}
    readme = tmp_path / "out/README.md"  # names the folder, which was moved
    assert {f: d for f, d in kept.items() if f != readme} == {f: d for f, d in before.items() if f != readme}


def test_the_same_data_twice_are_refused(orm, imagecot, tmp_path):
    for command in (
        ("pairs", "--data", "orm", "--data", "orm"),
        ("corrections", "--data", "reflection", "--images", "orm", "--images", "./orm/"),
    ):
        code, _, err = imagecot("curate", *command, "--out", "out")
        assert code == 2
        assert "names the same data twice" in err
    assert not (tmp_path / "out").exists()


def test_all_right_images_have_no_reasons(tmp_path, imagecot):
    RankingData(tmp_path / "orm", {}).keep(0, ROWS[3:])
    code, _, err = imagecot("curate", "reflection", "--data", "orm", "--out", "out")
    assert code == 2
    assert "has no rejected images" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["reflection", "repairs"])
def test_metadata_that_no_detector_can_judge_name_their_row(tmp_path, imagecot, command):
    for metadata in ("{}", '{"include": 3}', replace(APPLE, include=(Need("unicorn"),), text="").text):
        RankingData(tmp_path / "orm", {}).keep(0, [replace(r, metadata=metadata) for r in ROWS])
        code, _, err = imagecot("curate", command, "--data", "orm", "--out", "out")
        assert code == 1
        assert "orm-0-6" in err
    assert not (tmp_path / "out").exists()


def test_what_the_drawn_world_has_no_room_for_is_not_put_right(tmp_path, imagecot):
    many = replace(APPLE, include=(Need("apple", 9),), text="")
    RankingData(tmp_path / "orm", {}).keep(0, [row(many, 1, False)])
    code, _, err = imagecot("curate", "repairs", "--data", "orm", "--out", "out")
    assert code == 1
    assert "asks for 9 objects" in err
    assert not (tmp_path / "out").exists()


NONE = ("inf", "nan", "-inf", "-1", "1e300", "101", "x")
HUGE = ("0", "-1", "1111111111111111111111", "1000000000000", "x", "1.5", "")
WRONG = [
    *((("orm", "--prompts", "p"), "--temperature", value) for value in NONE),
    *((("prm", "--prompts", "p"), "--temperature", value) for value in NONE[:2]),
    *((("redraws", "--data", "groups"), "--temperature", value) for value in NONE[:2]),
    *((("orm", "--prompts", "p"), "--paths", value) for value in HUGE),
    *((("orm", "--prompts", "p"), "--keep", value) for value in HUGE),
    *((("redraws", "--data", "groups"), "--groups", value) for value in HUGE),
    *((("pairs", "--data", "orm"), option, value) for option in ("--most", "--per-prompt") for value in HUGE),
    *((("corrections", "--data", "r", "--images", "orm"), "--most", value) for value in HUGE),
    *((("repairs",), "--scenes", value) for value in HUGE),
    *((("prompts",), "--per-task", value) for value in HUGE),
    *(
        (command, "--seed", value)
        for command in (("prompts",), ("pairs", "--data", "orm"), ("reflection", "--data", "orm"), ("repairs",))
        for value in ("9223372036854775808", "-9223372036854775809", "1111111111111111111111", "x", "1.5")
    ),
    (("orm", "--prompts", "p"), "--precision", "float64"),
    (("orm", "--prompts", "p"), "--generator", "nobody"),
    (("orm", "--prompts", "p"), "--generator", ""),
    (("orm", "--prompts", "p"), "--detector", "nobody"),
    (("orm", "--prompts", "p"), "--detector", ""),
    (("reflection", "--data", "orm"), "--detector", "pictogram"),
    (("repairs", "--scenes", "3"), "--generator", "tinny"),
    (("repairs", "--scenes", "3"), "--data", "orm"),
    (("corrections", "--data", "r", "--images", "orm"), "--pairing", "neerest"),
    (("orm",), "--prompts", "none.jsonl"),
    (("orm",), "--prompts", "folder"),
    (("prompts",), "--world", "none.txt"),
    (("prompts",), "--world", "folder"),
    *(((name,), "--data", value) for name in ("pairs", "reflection", "repairs", "redraws", "export")
      for value in ("nowhere", "folder", "p")),
    (("import", "--images", "folder"), "--file", "nowhere"),
    (("import", "--images", "folder"), "--file", "folder"),
    (("import", "--file", "list.json"), "--images", "nowhere"),
    (("import", "--file", "list.json"), "--images", "p"),
]  # fmt: skip


@pytest.mark.parametrize(("command", "option", "value"), WRONG)
def test_requests_that_make_no_sense_are_refused_and_claim_nothing(orm, tmp_path, imagecot, command, option, value):
    (tmp_path / "p").write_text(ASKED.text + "\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "list.json").write_text("[]")
    write_corrections(tmp_path / "groups", GROUPS, {})
    shutil.copytree("reflection", "r")
    code, out, err = imagecot("curate", *command, f"{option}={value}", "--out", "out")
    assert (code, out) == (2, "")
    assert err.strip()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "command",
    [("orm", "--prompts", "p"), ("prompts",), ("pairs", "--data", "orm"), ("export", "--data", "orm"),
     ("reflection", "--data", "orm"), ("corrections", "--data", "reflection", "--images", "orm")],
)  # fmt: skip
def test_where_a_file_or_something_else_stands_nothing_is_written(orm, tmp_path, imagecot, command):
    (tmp_path / "p").write_text(ASKED.text + "\n")
    (tmp_path / "file").write_text("mine")
    code, _, err = imagecot("curate", *command, "--out", "file/below" if command == ("prompts",) else "file")
    assert code in (1, 2)
    assert err.startswith("error: ")
    assert (tmp_path / "file").read_text() == "mine"


def test_the_same_prompt_twice_is_refused_before_anything_is_drawn(tmp_path, imagecot):
    line = ASKED.text + "\n"
    (tmp_path / "p").write_text(line * 2)
    code, _, err = imagecot("curate", "orm", "--prompts", "p", "--out", "out")
    assert code == 2
    assert "twice" in err
    assert not (tmp_path / "out").exists()


def test_a_long_prompt_is_refused_before_anything_is_drawn(tmp_path, imagecot):
    lines = [ASKED, replace(APPLE, prompt="an apple " * 200, text="")]
    (tmp_path / "p").write_text("".join(line.text + "\n" for line in lines))
    for kind in ("orm", "prm", "parm"):
        code, _, err = imagecot("curate", kind, "--prompts", "p", "--out", "out")
        assert code == 2
        assert "an apple an apple" in err and "tokens" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options",
    [{"paths": 0}, {"paths": 10**12}, {"paths": "4"}, {"paths": 4.0}, {"paths": True}, {"keep": 0}, {"keep": None},
     {"seed": 2**63}, {"seed": 0.5}, {"seed": None}],
)  # fmt: skip
def test_the_python_interface_refuses_the_same(options):
    with pytest.raises(UsageError):
        Labeller(None, None, **options)
    with pytest.raises(ValidationError, match=next(iter(options))):
        CurateOrm(prompts="p", output="out", **options)


@pytest.mark.parametrize("temperature", [float("nan"), float("inf"), -0.1, 1e9, "1", True])
def test_temperatures_that_are_none(temperature):
    with pytest.raises(ValidationError, match="temperature"):
        CurateOrm(prompts="p", output="out", temperature=temperature)


@pytest.mark.parametrize("per_task", [0, -1, 10**12, 1.5, "3", None])
def test_numbers_of_prompts_that_are_none(per_task):
    with pytest.raises(UsageError, match="per_task"):
        prompts_of("drawn", per_task, 0)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"", "holds 0 names"),
        (b"cat\n", "holds 1 names"),
        (b"cat\ndog\ncat\n", "line 3 of .* has the name of line 1"),
        (b"cat\n\x1b[31mdog\n", "line 2 of .* is no name"),
        (b"cat\n" + b"x" * 200, "line 2 of .* is no name"),
        (b"cat\n---\n", "line 2 of .* is no name"),
        (b"\xff\xfe", "is not UTF-8"),
        ("cat\u2028dog\nbird\n".encode(), "line 1 of .* is no name"),
    ],
)
def test_vocabularies_that_are_none(tmp_path, imagecot, text, told):
    (tmp_path / "names").write_bytes(text)
    with pytest.raises(UsageError, match=told):
        read_names(tmp_path / "names")
    assert imagecot("curate", "prompts", "--world", "names", "--out", "out")[0] == 2


def test_a_vocabulary_of_another_editor(tmp_path, imagecot):
    (tmp_path / "names").write_bytes(b"\xef\xbb\xbfcat\r\n\r\n $dog \r\nbird\r\n")
    assert read_names(tmp_path / "names") == ["cat", "$dog", "bird"]
    assert imagecot("curate", "prompts", "--world", "names", "--per-task", "3", "--out", "out")[0] == 0
