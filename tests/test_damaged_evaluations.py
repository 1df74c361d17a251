"""Finished and interrupted evaluations with damaged files: a sentence each, or made whole again."""

import json
import os
import shutil
from pathlib import Path

import pytest

from imagecot.errors import ImagecotError
from imagecot.evaluation.folder import read_folder
from imagecot.worlds.drawn.scenes import KINDS
from scored import score


@pytest.fixture(scope="session")
def finished(six, tmp_path_factory) -> Path:
    """A finished evaluation of the set, beside it, and one with all of its parts."""
    from imagecot.evaluation import EvaluationRecipe
    from imagecot.evaluation.evaluate import Models, Scoring
    from imagecot.evaluation.follow import follow
    from imagecot.evaluation.job import Job
    from imagecot.evaluation.state import Evaluation, pieces_of
    from imagecot.worlds.drawn.detector import load_detector

    folder = tmp_path_factory.mktemp("finished")
    shutil.copytree(six, folder / "im")
    before = Path.cwd()
    os.chdir(folder)
    try:
        recipe = EvaluationRecipe(images="im", samples=2, detector="pictograms", clip="none", output="o")
        source = read_folder(Path("im"), 2, KINDS)
        job = Job(recipe, source, Path("o"), "pictograms", "geneval")
        follow(job)
        state = Evaluation(Path("begun"), job.identity)
        models = Models(load_detector("pictograms"), load_detector("pictograms-2"))
        for piece in pieces_of(source.entries, 2):
            Scoring(source, models).work(piece, state)()
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def again(imagecot, finished, tmp_path):
    """The finished evaluation in this test's own folder; call to run the same command again."""
    for name in ("im", "o", "begun"):
        shutil.copytree(finished / name, tmp_path / name)

    def call(*more: str, out: str = "o") -> tuple[int, dict, str]:
        return score(imagecot, "--clip", "none", *more, out=out)

    return call


DAMAGES = [b"", b"{}", b"[]", b"null", b"7", b"\xff\xfe", b'{"score": NaN}', b'{"a": 1}\n{"b": 2}\n', b"[" * 5000, b"{"]


@pytest.mark.parametrize("content", DAMAGES)
@pytest.mark.parametrize("name", ["summary.json", "evaluation.json"])
def test_damaged_files_of_a_finished_evaluation(again, name, content):
    Path("o", name).write_bytes(content)
    code, _, err = again()
    assert code in (1, 2)
    assert f"o/{name}" in err or "o holds another evaluation" in err
    assert err.count("\n") == 1


def lines_of_results(finished: Path) -> list[dict]:
    return [json.loads(line) for line in (finished / "o/results.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("content", [*DAMAGES[1:], b'{"tag": "colors", "metadata": "m", "correct": "False"}'])
def test_damaged_results_to_compare_with(again, finished, content):
    Path("other").mkdir()
    rows = lines_of_results(finished)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    Path("other/results.jsonl").write_bytes(text.encode() + content)
    code, _, err = again("--against", "other")
    assert code == 2
    assert f"line {len(rows) + 1} of other/results.jsonl" in err or "other/results.jsonl is not UTF-8" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("value", ["False", "True", 1, 0, None, 0.0, [], "\u2028"])
@pytest.mark.parametrize("key", ["correct", "tag", "metadata"])
def test_every_row_to_compare_with_is_read_strictly(again, finished, key, value):
    rows = lines_of_results(finished)
    rows[4][key] = value
    Path("other.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, _, err = again("--against", "other.jsonl")
    assert code == 2
    assert err.count("\n") == 1
    if not isinstance(value, str) or key == "correct":
        assert "line 5 of other.jsonl" in err


def test_what_cannot_be_compared_with(again, finished):
    Path("empty").mkdir()
    Path("short").mkdir()
    rows = (finished / "o/results.jsonl").read_text().splitlines(keepends=True)
    Path("short/results.jsonl").write_text("".join(rows[:-1]))
    os.mkfifo("pipe")
    for against, told in (
        ("o", "which this evaluation writes"), ("./o/../o", "which this evaluation writes"),
        ("o/results.jsonl", "which this evaluation writes"), ("nowhere", "holds no finished evaluation"),
        ("empty", "holds no finished evaluation"), ("short", "has 1 images where this evaluation has 2"),
        ("pipe", "no regular file"),
    ):  # fmt: skip
        code, _, err = again("--against", against)
        assert code == 2
        assert told in err
        assert err.count("\n") == 1
    assert again()[0] == 0  # the results themselves are whole


def test_judges_that_differ_are_named(again, finished, imagecot):
    shutil.copytree(finished / "o", "other")
    same = again("--against", "other")[1]["against"]
    assert same["p_value"] == 1
    assert "judges_differ" not in same
    summary = json.loads(Path("other/summary.json").read_text())
    summary["record"]["detector"]["weights"] = "of another training"
    Path("other/summary.json").write_text(json.dumps(summary))
    code, compared, _ = again("--against", "other")
    assert code == 0
    assert "weights" in compared["against"]["judges_differ"]
    assert compared["against"]["p_value"] is None
    code, out, _ = imagecot(
        *("evaluate", "geneval", "--images", "im", "--detector", "pictograms", "--samples", "2", "--clip", "none"),
        *("--out", "o"),
    )
    assert "but the judges differ" in out
    assert "p =" not in out
    Path("other/summary.json").unlink()
    assert "not known" in again("--against", "other")[1]["against"]["judges_differ"]


@pytest.mark.parametrize("gone", ["summary.json", "results.jsonl", "table.md", "failures.png", "results-second.jsonl"])
def test_a_finished_evaluation_that_lost_a_file_is_whole_again(again, finished, gone):
    Path("o", gone).unlink()
    code, summary, _ = again()
    assert code == 0
    if gone != "results-second.jsonl":
        assert Path("o", gone).read_bytes() == (finished / "o" / gone).read_bytes()
    assert summary["score"]["total_images"] == 12


@pytest.mark.parametrize("gone", ["detectors.json", "unit", "all", "results", "nothing"])
def test_a_kill_between_two_files_leaves_what_the_same_command_finishes(again, finished, gone):
    """Whatever had been written and deleted when it came."""
    parts = Path("begun/parts")
    units = sorted(parts.glob("0*.json"))
    if gone == "results":
        shutil.copy(finished / "o/results.jsonl", "begun")
    if gone != "nothing":
        for file in {"detectors.json": [parts / "detectors.json"], "unit": units[:1]}.get(gone, list(parts.iterdir())):
            file.unlink()
    code, _, _ = again(out="begun")
    assert code == 0
    assert not parts.exists()
    assert Path("begun/results.jsonl").read_bytes() == (finished / "o/results.jsonl").read_bytes()


@pytest.mark.parametrize("content", [*DAMAGES, b'{"rows": [1]}', b'{"rows": null}', b'{"cost": {"a": "b"}}'])
@pytest.mark.parametrize("name", ["unit", "detectors.json"])
def test_damaged_parts(finished, tmp_path, name, content):
    from imagecot.evaluation.state import Evaluation, pieces_of

    shutil.copytree(finished / "begun", tmp_path / "begun")
    entries = read_folder(finished / "im", 2, KINDS).entries
    todo = pieces_of(entries, 2)
    identity = json.loads((tmp_path / "begun/evaluation.json").read_text())
    state = Evaluation(tmp_path / "begun", identity)
    assert all(state.file(piece).is_file() for piece in todo)
    file = tmp_path / "begun/parts" / (name if name != "unit" else f"{todo[1].name}.json")
    file.write_bytes(content)
    try:
        state.whole(todo)
        state.judges()
    except ImagecotError as error:
        assert str(file) in str(error)
        assert "delete it and run the same command again" in str(error)
    else:
        assert (name, content) == ("unit", b"{}")


def test_repaired_images_are_scored_again_and_others_not(again, finished):
    before = Path("o/results.jsonl").stat().st_mtime_ns
    assert again()[0] == 0
    assert Path("o/results.jsonl").stat().st_mtime_ns == before
    image = Path("im/00000/samples/0001.png")
    image.unlink()
    code, summary, err = again()
    assert code == 1
    assert "the images have changed since o was written; they are scored again" in err
    assert summary["score"]["total_images"] == 11
    shutil.copy(finished / image, image)
    code, summary, _ = again()
    assert code == 0
    assert summary["problems"] == []
    assert Path("o/results.jsonl").read_bytes() == (finished / "o/results.jsonl").read_bytes()
    metadata = Path("im/00000/metadata.jsonl")
    metadata.write_text(metadata.read_text().replace('"count": 1', '"count": 9'))
    assert again()[1]["score"]["overall"] < summary["score"]["overall"]


def test_only_what_has_changed_is_judged_again(six, tmp_path):
    from imagecot.evaluation.state import pieces_of

    shutil.copytree(six, tmp_path / "im")
    first = pieces_of(read_folder(tmp_path / "im", 2, KINDS).entries, 2)
    (tmp_path / "im/00003/samples/0001.png").write_bytes(b"changed")
    second = pieces_of(read_folder(tmp_path / "im", 2, KINDS).entries, 2)
    assert [a == b for a, b in zip(first, second, strict=True)] == [True, False, True]


def test_nothing_to_score_leaves_the_folder_free(imagecot, images, six):
    for file in images.glob("*/samples/*.png"):
        file.write_bytes(b"")
    code, _, err = score(imagecot)
    assert code == 1
    assert "not one image could be scored" in err
    shutil.rmtree(images)
    shutil.copytree(six, "im2")
    code, _, _ = imagecot(
        *("evaluate", "geneval", "--images", "im2", "--detector", "pictograms", "--samples", "2", "--out", "o")
    )
    assert code == 0
