"""GenEval's files and requests, damaged in every way: refused or listed in a sentence, and never scored in silence."""

import json
import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from imagecot.contracts.metadata import Metadata
from imagecot.errors import ImagecotError, UsageError
from imagecot.evaluation.folder import read_folder, read_image, write_entry
from imagecot.evaluation.report import table
from imagecot.evaluation.summary import Found, Record
from imagecot.geneval import judge_detections, make_prompts, summarize
from imagecot.geneval.metadata import parse_metadata, read_prompts
from imagecot.geneval.prompts import OBJECT_NAMES, counting_metadata, load_benchmark_prompts
from imagecot.geneval.reading import read_prompt
from imagecot.geneval.summary import compare
from imagecot.processes import share
from imagecot.reflection.discrepancies import from_reason, parse, to_text
from imagecot.worlds.drawn.captions import held_out_prompts
from imagecot.worlds.drawn.scenes import KINDS, compose, draw

KNOWN = frozenset(OBJECT_NAMES)
APPLE = {"class": "apple", "count": 1, "color": "red"}
GOOD = {"tag": "colors", "include": [APPLE], "prompt": "a photo of a red apple"}
TWO = {
    "tag": "position",
    "include": [{"class": "cat", "count": 1}, {"class": "dog", "count": 1, "position": ["left of", 0]}],
    "exclude": [{"class": "cup", "count": 2}],
    "prompt": "a photo of a dog left of a cat",
}
STRANGE = [None, True, 0, -1, 1.5, 10**30, "", "x", "\u2028", [], [[]], {}, {"a": 1}, ["left of", 0]]


def without(key: str) -> dict:
    return {name: value for name, value in GOOD.items() if name != key}


def needing(**changes: object) -> dict:
    return {**GOOD, "include": [{**APPLE, **changes}]}


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


# --- folders of images


def rendered(metadata: Metadata) -> torch.Tensor:
    picture = draw(compose(metadata, random.Random(0)))
    return torch.tensor(list(picture.tobytes())).view(64, 64, 3).permute(2, 0, 1).float() / 255


@pytest.fixture(scope="session")
def six(tmp_path_factory) -> Path:
    """A prompt of each task, two images each."""
    folder = tmp_path_factory.mktemp("six") / "im"
    folder.mkdir()
    for k, metadata in enumerate(held_out_prompts(1)):
        image = rendered(metadata)
        write_entry(folder / f"{k:05d}", metadata, torch.stack([image, image.flip(2)]))
    return folder


@pytest.fixture
def images(six, tmp_path) -> Path:
    shutil.copytree(six, tmp_path / "im")
    return tmp_path / "im"


def problems(folder: Path, samples: int = 2, **more) -> list[str]:
    found = read_folder(folder, samples, KINDS, **more)
    return [*found.problems, *(problem for entry in found.entries for problem in entry.problems)]


def test_a_whole_set_has_no_problems(images):
    found = read_folder(images, 2, KINDS, benchmark=held_out_prompts())
    assert problems(images, benchmark=held_out_prompts()) == []
    assert found.remarks == []
    assert len(found.entries) == 6


def test_gaps_are_problems(images):
    shutil.rmtree(images / "00003")
    assert any("no folder 00003: 1 prompt" in told for told in problems(images))
    assert any("has nothing of colors" in told for told in problems(images))
    (images / "00000").rename(images / "00009")
    assert any("00000, 00003, 00006 to 00008: 5 prompt" in told for told in problems(images))
    (images / "00009").rename(images / "999999999999")
    assert any("00006 to 999999999998" in told for told in problems(images))


def test_the_end_of_a_set_is_missed_where_the_set_is_known(images):
    prompts = held_out_prompts(1)
    shutil.rmtree(images / "00005")
    assert any("no folder 00005" in told for told in problems(images, prompts=prompts))
    assert any("no folder 00005" in told for told in problems(images, benchmark=prompts))
    other = [prompts[1], *prompts[1:]]
    told = problems(images, prompts=other)
    assert any("00000 does not hold prompt 1 of --prompts" in line for line in told)
    assert any("beyond the 2 prompts" in line for line in problems(images, prompts=prompts[:2]))
    assert not any("has nothing of" in line for line in problems(images, prompts=prompts))


def test_no_prompt_and_no_image_counts_twice(images):
    shutil.copytree(images / "00000", images / "00006")
    shutil.copytree(images / "00001", images / "1")
    (images / "old copy").mkdir()
    shutil.copy(images / "00000/metadata.jsonl", images / "old copy")
    for name in ("0002.png", "0003.png", "1.png"):
        shutil.copy(images / "00002/samples/0000.png", images / "00002/samples" / name)
    shutil.copy(images / "00003/samples/0000.png", images / "00003/samples/0001.png")
    told = "\n".join(problems(images))
    assert "00006 repeats the prompt of 00000 and is left out" in told
    assert "has the number of " in told
    assert "old copy is not named by a number" in told
    assert "00002 has 4 of 2 images: more images than --samples asks for" in told
    assert "1.png has the number of " in told
    found = read_folder(images, 2, KINDS)
    assert sum(len(entry.images) for entry in found.entries if entry.metadata) == 12
    assert len(found.remarks) == 1
    assert "00003/samples/0001.png is the same picture as 0000.png" in found.remarks[0]


def metadata_lines() -> dict[str, bytes]:
    line = held_out_prompts(1)[0].text
    return {
        "missing": b"", "empty": b"\n", "two lines": f"{line}\n{line}\n".encode(), "null": b"null", "latin": b"\xff",
        "nan": line.replace("1", "NaN").encode(), "deep": b"[" * 100_000, "surrogate": b'{"prompt": "\\ud800"}',
        "tag list": line.replace('"single_object"', '["single_object"]').encode(),
        "tag number": line.replace('"single_object"', "7").encode(),
    }  # fmt: skip


@pytest.mark.parametrize("kind", [*metadata_lines(), "fifo", "folder", "loop"])
def test_damaged_metadata_of_a_folder_is_a_problem(images, kind):
    file = images / "00000/metadata.jsonl"
    file.unlink()
    if kind == "fifo":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    elif kind == "loop":
        file.symlink_to(file)
    elif kind != "missing":
        file.write_bytes(metadata_lines()[kind])
    assert any("00000/metadata.jsonl" in told for told in problems(images))
    assert read_folder(images, 2, KINDS).entries[0].metadata is None


def bomb() -> bytes:
    head = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (50_000).to_bytes(4, "big") * 2 + b"\x08\2\0\0\0"
    return head + b"\0" * 40


@pytest.mark.parametrize("kind", ["empty", "cut", "text", "bomb", "fifo", "folder", "dangling"])
def test_an_unreadable_image_is_a_problem(imagecot, images, kind):
    file = images / "00000/samples/0001.png"
    whole = file.read_bytes()
    file.unlink()
    contents = {"empty": b"", "cut": whole[:200], "text": b"hello", "bomb": bomb()}
    if kind == "fifo":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    elif kind == "dangling":
        file.symlink_to("nowhere.png")
    else:
        file.write_bytes(contents[kind])
    code, summary, _ = score(imagecot)
    assert code == 1
    assert any("00000/samples/0001.png" in told for told in summary["problems"])
    assert summary["score"]["total_images"] == 11


def test_pictures_of_other_kinds_are_the_same_pictures(images, tmp_path):
    file = images / "00000/samples/0000.png"
    with Image.open(file) as picture:
        grey = picture.convert("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    deep.save(tmp_path / "deep.png")
    grey.save(tmp_path / "grey.png")
    grey.save(tmp_path / "moving.png", save_all=True, append_images=[grey])
    assert torch.equal(read_image(tmp_path / "deep.png"), read_image(tmp_path / "grey.png"))
    assert torch.equal(read_image(tmp_path / "moving.png"), read_image(tmp_path / "grey.png"))


# --- whole evaluations


def score(imagecot, *more: str, out: str = "o", detector: str = "pictograms") -> tuple[int, dict, str]:
    code, printed, err = imagecot(
        *("evaluate", "geneval", "--images", "im", "--detector", detector, "--samples", "2"),
        *("--out", out, "--json", *more),
    )
    return code, json.loads(printed) if printed.startswith("{") else {}, err


@pytest.fixture(scope="session")
def finished(six, tmp_path_factory) -> Path:
    """A finished evaluation of the set, beside it, and one with all of its parts."""
    from imagecot.evaluation import EvaluationRecipe
    from imagecot.evaluation.evaluate import Models, work
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
        work(source, pieces_of(source.entries, 2), models, state)
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
    assert not state.missing(todo)
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


# --- processes


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


def refuse(rank: int, workers: int) -> None:
    raise UsageError("this cannot be drawn.")


def die(rank: int, workers: int) -> None:
    os.kill(os.getpid(), 9)


def test_how_a_worker_fails_is_told():
    with pytest.raises(UsageError, match="cannot be drawn"):
        share(refuse, (), 1, lambda: None)
    with pytest.raises(ImagecotError, match="was killed by signal 9"):
        share(die, (), 1, lambda: None)


# --- Python


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
