"""Reports of damaged, foreign and hostile summaries: one sentence, or a page on which all words mean themselves."""

import copy
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from imagecot.errors import ImagecotError, UsageError
from imagecot.report import figures, gallery, publish, write
from imagecot.report.read import read
from invented_study import invent
from test_damaged_study import DELETED, damaged, places, put, said

HOSTILE = (
    "x $y^ {z} <script>alert(1)</script> <!-- /study --> `a` ``` | [l](javascript:1) \x1b[31m\x07 \u2028 \u202e\ndone"
)
EXAMPLES = settings(max_examples=150, deadline=None)


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    """The folder of a study and its summary, with few of each kind."""
    folder = tmp_path_factory.mktemp("study")
    summary = json.loads(json.dumps(invent(folder)[0]).replace("NaN", "null"))
    summary["gallery"] = summary["gallery"][:2]
    summary["comparisons"] = summary["comparisons"][:4]
    for name in list(summary["rows"])[3:-2]:
        del summary["rows"][name]
    return folder, summary


@pytest.fixture
def unpainted(monkeypatch):
    """Figures are drawn, but not painted, which takes seconds."""
    monkeypatch.setattr(figures, "png_of", lambda figure: figure.get_size_inches().tobytes())
    monkeypatch.setattr(gallery, "png", lambda figure, dpi: figure.get_size_inches().tobytes())


def placed(folder: Path, summary: Any) -> Path:
    """A folder with a summary; its pictures are left out."""
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


@given(st.data())
@EXAMPLES
def test_any_field_of_a_summary(study, tmp_path_factory, data):
    folder = placed(tmp_path_factory.mktemp("damaged"), damaged(data, study[1]))
    try:
        assert read(folder).methods
    except ImagecotError as error:
        text = str(error)
        assert "summary.json" in text and text.endswith(".") and "\n" not in text


@given(st.data())
@settings(max_examples=12, deadline=None)
def test_what_is_read_is_written(study, tmp_path_factory, data):
    folder = placed(tmp_path_factory.mktemp("damaged"), damaged(data, study[1]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "png_of", lambda figure: figure.get_size_inches().tobytes())
        patch.setattr(gallery, "png", lambda figure, dpi: figure.get_size_inches().tobytes())
        try:
            read(folder)
        except ImagecotError:
            return
        assert (folder / "out" / "report.md") in write(folder, folder / "out")


@pytest.mark.parametrize(
    ("summary", "words"),
    [
        ({"overall": 0.5, "tasks": {"colors": 0.5}, "images": 3}, ["is not the summary of a study", "rows is missing"]),
        ({"rows": {}}, ["has no scores yet"]),
        ({"rows": {"random@x": {"overall": 0.5}}}, ["has no scores yet"]),
        ({"rows": {"a": {"overall": None}}}, ["rows.a.overall"]),
        ({"rows": {"a": {"overall": float("nan")}}}, ["rows.a.overall"]),
        ({"rows": {"a": {"overall": float("inf")}}}, ["rows.a.overall"]),
        ({"rows": {"a": {"overall": 2}}}, ["rows.a.overall"]),
        ({"rows": {"a": {"overall": "0.5"}}}, ["rows.a.overall"]),
        ({"rows": [{"overall": 0.5}]}, ["rows: "]),
        ([], ["is not the summary of a study"]),
        (None, ["is not the summary of a study"]),
    ],
)
def test_a_summary_of_another_kind(tmp_path, imagecot, summary, words):
    code, out, err = imagecot("report", str(placed(tmp_path, summary)))
    assert (code, out) == (1, "")
    assert len(err.strip().splitlines()) == 1 and all(word in err for word in words)
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]


def test_a_folder_that_holds_no_study(tmp_path, imagecot):
    file, empty, other = tmp_path / "file", tmp_path / "empty", tmp_path / "other"
    file.touch()
    empty.mkdir()
    other.mkdir()
    (other / "summary.json").mkdir()
    corrections = tmp_path / "corrections"
    corrections.mkdir()
    placed(corrections, {"images": 3, "ways": {}})
    for folder, code, words in [
        (file, 2, "is a file; give the folder of a study"),
        (empty, 2, "holds no study (summary.json is missing)"),
        (tmp_path / "none", 2, "holds no study (summary.json is missing)"),
        (other, 1, "summary.json is a folder"),
        (corrections, 2, "holds a study of corrections, whose report is"),
    ]:
        found, out, err = imagecot("report", str(folder))
        assert (found, out) == (code, "")
        assert words in err and len(err.strip().splitlines()) == 1


@pytest.mark.parametrize("path", ["../secret.png", "/etc/passwd", "gallery/../../secret.png", "link.png", "a\0b"])
def test_a_picture_outside_of_the_folder_is_refused(study, tmp_path, path):
    folder = tmp_path / "study"
    folder.mkdir()
    Image.new("RGB", (8, 8), "red").save(tmp_path / "secret.png")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    summary = put(study[1], ("gallery", 0, "images", "baseline"), path)
    with pytest.raises(ImagecotError) as error:
        write(placed(folder, summary), folder / "report")
    said(error, "the gallery's image", "leads out of")
    assert not (folder / "report").exists()


def test_pictures_that_are_none_are_counted(study, tmp_path, unpainted):
    shutil.copytree(study[0] / "gallery", tmp_path / "gallery")
    first, second = list(study[1]["gallery"][0]["images"].values())[:2]
    (tmp_path / first).write_bytes(b"no picture")
    (tmp_path / second).unlink()
    (tmp_path / second).mkdir()
    write(placed(tmp_path, study[1]), tmp_path / "out")
    assert "2 pictures of the gallery cannot be read" in (tmp_path / "out" / "report.md").read_text()


class Tags(HTMLParser):
    """The tags of a page, and their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, list[str]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, [name for name, _ in attrs]))


def hostile(value: Any, kept: frozenset[str] = frozenset({"images"})) -> Any:
    """The same with hostile words in the place of all texts and before all names."""
    if isinstance(value, dict):
        return {key: item if key in kept else hostile(item) for key, item in value.items()}
    if isinstance(value, list):
        return [hostile(item) for item in value]
    return HOSTILE if isinstance(value, str) else value


def test_hostile_words_mean_themselves(study, tmp_path, monkeypatch):
    shutil.copytree(study[0] / "gallery", tmp_path / "gallery")
    summary = hostile(study[1])
    summary["rows"] = {**summary["rows"], HOSTILE: copy.deepcopy(summary["rows"]["baseline"])}
    summary["curves"] = {HOSTILE: {HOSTILE: study[1]["curves"]["baseline"]["parm"]}}
    summary["steps"] = {HOSTILE: study[1]["steps"]["parm"]}
    summary["reliability"] = {HOSTILE: study[1]["reliability"]["orm_zero_shot"]}
    summary["gallery"][0]["correct"][HOSTILE] = [True, None]
    readme = tmp_path / "README.md"
    readme.write_text("a\r\n<!-- study -->\n<!-- /study -->\r\nb\n", newline="")
    files = write(placed(tmp_path, summary), tmp_path / "out (a b)", readme)
    page, text = ((tmp_path / "out (a b)" / name).read_text() for name in ("report.html", "report.md"))
    found = Tags()
    found.feed(page)
    assert {tag for tag, _ in found.found}.isdisjoint({"script", "iframe", "a:href"})
    assert not any(name.startswith("on") for _, names in found.found for name in names)
    for written in (page, text, readme.read_text()):
        assert re.search(r"[\x00-\x08\x0b-\x1f\x7f\u2028\u202e]", written.replace("\r\n", "\n")) is None
    outside = re.sub(r"^(`{3,})bash\n.*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    outside = re.sub(r"(?<!\\)`[^`\n]*`", "", outside)
    assert re.search(r"(?<!\\)<(?!/?details>|/?summary>)", outside) is None
    assert len(files) == 1 + len(set(files[:-1]))
    monkeypatch.setattr(publish, "contents", lambda summary, folder: [])
    monkeypatch.setattr(figures, "curve", lambda *_: b"painted before")
    for _ in range(2):  # the marks of a README are found again
        write(tmp_path, tmp_path / "out (a b)", readme)
        assert readme.read_bytes().startswith(b"a\r\n<!-- study -->\n")
        assert readme.read_bytes().endswith(b"\n<!-- /study -->\r\nb\n")
        assert "(out%20%28a%20b%29/figures/curve-" in readme.read_text()


def test_a_study_of_many_rows_and_prompts_has_figures_of_bounded_size(study, tmp_path, monkeypatch):
    sizes = []

    def unpainted(figure) -> bytes:
        sizes.append(max(figure.get_size_inches()) * 120)
        return b""

    monkeypatch.setattr(figures, "png_of", unpainted)
    monkeypatch.setattr(gallery, "png", lambda figure, dpi: unpainted(figure))
    (tmp_path / "gallery").mkdir()
    Image.new("RGB", (8, 8), "red").save(tmp_path / "gallery" / "a.png")
    row, summary = study[1]["rows"]["baseline"], copy.deepcopy(study[1])
    summary["rows"] = {f"row {k}": {**row, "label": "long " * 100} for k in range(150)}
    summary["gallery"] = [{"prompt": "p " * 900, "images": {"row 1": "gallery/a.png"}} for _ in range(120)]
    write(placed(tmp_path, summary), tmp_path / "out")
    assert max(sizes) < 2**15


@pytest.mark.parametrize("kind", ["missing", "folder", "bytes", "unmarked"])
def test_a_readme_that_is_none(study, tmp_path, kind):
    readme = tmp_path / "README.md"
    match kind:
        case "folder":
            readme.mkdir()
        case "bytes":
            readme.write_bytes(b"<!-- study -->\xff<!-- /study -->")
        case "unmarked":
            readme.write_text("<!-- /study --> <!-- study -->")
    with pytest.raises(UsageError) as error:
        write(placed(tmp_path, study[1]), tmp_path / "out", readme)
    said(error, "README.md")
    assert not (tmp_path / "out").exists()


def test_a_link_in_the_place_of_the_figures_is_refused(study, tmp_path, unpainted):
    (tmp_path / "out").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "out" / "figures").symlink_to(tmp_path / "outside")
    with pytest.raises(ImagecotError) as error:
        write(placed(tmp_path, study[1]), tmp_path / "out")
    said(error, "figures is a link")
    assert list((tmp_path / "outside").iterdir()) == []


def test_the_places_of_a_value():
    value = {"a": [1, {"b": 2}]}
    assert places(value) == [(), ("a",), ("a", 0), ("a", 1), ("a", 1, "b")]
    assert put(value, ("a", 1, "b"), 3) == {"a": [1, {"b": 3}]}
    assert put(value, ("a", 0), DELETED) == {"a": [{"b": 2}]}
