"""The report of a study: its numbers are those of the verdicts and of the paper's file, whatever is missing."""

import io
import json
import math
import re
import shutil
import tokenize
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from imagecot.errors import ImagecotError, UsageError
from imagecot.geneval.prompts import TASKS
from imagecot.report import figures, first_page, gallery, paper, readme_fragment, write
from imagecot.report.blocks import Code, Fold, Items, Paragraph, Picture, Strong, Table
from imagecot.report.gallery import sorted_exhibits
from imagecot.report.read import read
from imagecot.report.render import document, page, plain
from imagecot.study.names import readable
from imagecot.study.summary import Exhibit, Summary
from invented_study import GENERATORS, ROWS, invent, judged, small

VOID = {"meta", "img", "br", "hr", "link"}
PAPER = json.loads((Path(paper.__file__).parent / "paper.json").read_text())


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study, its report, its summary and its verdicts."""
    folder = tmp_path_factory.mktemp("study")
    summary, observed = invent(folder)
    write(folder, folder / "report")
    return folder, summary, observed


@pytest.fixture
def unpainted(monkeypatch):
    """Figures are drawn, but not painted, which takes seconds."""
    monkeypatch.setattr(figures, "png_of", lambda figure: figure.get_size_inches().tobytes())
    monkeypatch.setattr(gallery, "png", lambda figure, dpi: figure.get_size_inches().tobytes())


class Page(HTMLParser):
    """Checks that every tag is closed in its turn, and keeps what refers to something."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.images = 0
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "iframe", "link", "object")
        self.images += tag == "img"
        self.references += [value or "" for key, value in attrs if key in ("src", "href", "srcset", "data")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(html: str) -> Page:
    found = Page()
    found.feed(html)
    found.close()
    assert found.open == []
    return found


def markdown_table(text: str, title: str) -> dict[str, dict[str, str]]:
    """The first table under a title, by the first cell of a row and the head of a column."""
    lines = text.split(f"## {title}\n", 1)[1].splitlines()
    first = next(k for k, line in enumerate(lines) if line.startswith("|"))
    cells = [
        [re.sub(r"\\(.)|\*\*", r"\1", cell.strip()) for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in lines[first:]
        if line.startswith("|")
    ]
    end = next((k for k, line in enumerate(lines[first:]) if not line.startswith("|")), len(cells))
    head, _, *rows = cells[:end]
    assert all(len(row) == len(head) for row in rows)
    return {row[0]: dict(zip(head, row, strict=True)) for row in rows}


def by_hand(observed: dict[str, Any], name: str, judge: int) -> tuple[dict[str, float], float, float]:
    """Tasks, their mean, and its standard error clustered by prompt, in plain arithmetic."""
    kind, _, generator = name.partition("@")
    rows = observed[generator or ROWS[name][0]]
    tasks, variances = {}, []
    for task in TASKS:
        shares = []
        for row in rows:
            if row["metadata"]["tag"] == task:
                values = [v["correct"] for v in judged([row], kind, judge)]
                shares.append(sum(values) / len(values))
        tasks[task] = mean = sum(shares) / len(shares)
        spread = sum((share - mean) ** 2 for share in shares) / (len(shares) - 1)
        variances.append(spread / len(shares))
    return tasks, sum(tasks.values()) / len(tasks), math.sqrt(sum(variances)) / len(tasks)


def test_the_main_table_is_that_of_the_verdicts_and_of_the_paper(study):
    folder, summary, observed = study
    table = markdown_table((folder / "report" / "report.md").read_text(), "Scores")
    assert len(table) == len(summary["rows"]) == len(ROWS) + 2 * len(GENERATORS)
    labels = {name: read(folder).label(name) for name in summary["rows"]}
    base = by_hand(observed, "baseline", 0)[1]
    for name, label in labels.items():
        row = table[label]
        tasks, overall, error = by_hand(observed, name, 0)
        theirs = dict(zip(PAPER["columns"], PAPER["show_o"].get(name, []), strict=False))
        for task in TASKS:
            shown = f"{tasks[task]:.2f}" + (f" / {theirs[task]:.2f}" if theirs else "")
            assert row[task.replace("_", " ")] == shown
        assert row["overall"] == f"{overall:.3f} (±{error:.3f})"
        _, second, second_error = by_hand(observed, name, 1)
        assert row["second judge"] == f"{second:.3f} (±{second_error:.3f})"
        assert row["paper"] == (f"{theirs['overall']:.2f}" if theirs else "–")
        if name in ROWS and name != "baseline":
            assert row["gain"] == f"{100 * (overall - base):+.1f}"  # all of them are gains
            gap = theirs["overall"] - PAPER["show_o"]["baseline"][-1]
            assert row["paper's gain"] == f"{100 * gap:+.1f}"


def test_costs_count_seconds_a_right_image(study):
    folder, summary, _ = study
    table = markdown_table((folder / "report" / "report.md").read_text(), "What an image costs")
    row, source = table["orm fine tuned"], summary["rows"]["orm_fine_tuned"]
    assert float(row["s / correct image"]) == pytest.approx(source["seconds_per_image"] / source["overall"], abs=0.005)
    assert (row["generator"], row["verifier"], row["N"], row["generator rows"]) == ("tiny", "tiny-orm", "8", "288")
    assert table["baseline"]["search"] == "single"


def test_the_page_is_whole_and_needs_nothing_else(study):
    folder, summary, _ = study
    html = (folder / "report" / "report.html").read_text()
    found = parsed(html)
    assert all(reference.startswith(("data:image/png;base64,", "#")) for reference in found.references)
    assert "url(" not in html and "@import" not in html
    shown = sum(len(exhibit["images"]) for exhibit in summary["gallery"])
    assert found.images == shown + len(list((folder / "report" / "figures").glob("*.png"))) - 2  # the gallery's sheets
    assert html.count("1&thinsp;✓") + html.count("1&thinsp;✗") == shown
    for words in ("ORM", "PRM", "PARM", "DPO", "GenEval", "drawn world", "Two judges", "oracle", "Path"):
        assert words in found.text


def test_the_markdown_shows_every_figure(study):
    folder, _, _ = study
    text = (folder / "report" / "report.md").read_text()
    linked = re.findall(r"!\[[^\]]*\]\((figures/[^)]+)\)", text)
    assert sorted(linked) == sorted(f"figures/{p.name}" for p in (folder / "report" / "figures").iterdir())
    for link in linked:
        with Image.open(folder / "report" / link) as image:
            assert min(image.size) > 200


def test_failures_of_the_best_come_first_and_are_not_outnumbered(study):
    folder, _, _ = study
    summary = read(folder)
    best = first_page.best_of(summary)
    failed, others = sorted_exhibits(summary, best)
    assert failed and others and len(failed) + len(others) == len(summary.gallery)
    html = (folder / "report" / "report.html").read_text()
    shown = html.split('<h2 id="gallery">')[1].split("<h2")[0]
    prompts = re.findall(r"<p><strong>(a photo of thing \d+)</strong>", shown)
    assert prompts[: len(failed)] == [exhibit.prompt for exhibit in failed]
    before = shown.split("<details>")[0].count("<strong>")
    assert before == len(failed) + min(len(others), max(len(failed), 2))
    unknown = Summary.model_validate({**small(a=0.1), "gallery": [Exhibit(prompt="p", correct={"a": [True, None]})]})
    assert sorted_exhibits(unknown, "a")[0] == []


def test_odd_characters_mean_themselves(study, tmp_path):
    summary = json.loads(json.dumps(study[1]))
    shutil.copytree(study[0] / "gallery", tmp_path / "gallery")
    summary["gallery"] = summary["gallery"][:2]
    del summary["curves"]["iterative_dpo"], summary["steps"]["parm+iterative_dpo"]
    odd = 'a|b <script>x</script> $x^ *y* `z` [l](u) & "q" ☃\n#'
    summary["rows"]["parm"]["label"] = odd
    summary["recipe"]["rows"]["parm"]["note"] = odd
    summary["gallery"][0]["prompt"] = odd
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    write(tmp_path, tmp_path / "out")
    assert "<script>x</script>" in parsed((tmp_path / "out" / "report.html").read_text()).text
    table = markdown_table((tmp_path / "out" / "report.md").read_text(), "Scores")
    assert any(name.startswith('a|b <script>x</script> $x^ *y* `z` [l](u) & "q" ☃ #') for name in table)


def test_blocks_render_alike():
    assert plain("a_b|c*\n<d>") == r"a\_b\|c\* \<d\>"
    blocks = [
        Paragraph(("x ", Strong("<b>"), " ", Code("a|b"))),
        Items(["one"]),
        Table(["n", "v"], [["r", Strong("1")]]),
        Fold("more", [Picture("f", b"\x89", "alt")]),
    ]
    text = document("T", blocks)
    assert "x **\\<b\\>** `a\\|b`" in text and "| r | **1** |" in text and "![alt](figures/f.png)" in text
    html = page("T", blocks)
    assert "<td><strong>1</strong></td>" in html and "x <strong>&lt;b&gt;</strong> <code>a|b</code>" in html
    assert 'src="data:image/png;base64,iQ=="' in html


def test_names_for_people():
    assert readable("parm+iterative_dpo") == "PARM + iterative DPO"
    assert readable("parm++_with_reflection") == "PARM++ with reflection"
    assert readable("random@dpo") == "random on DPO"


def only(*names: str):
    def keep(summary: dict[str, Any]) -> None:
        summary["rows"] = {name: summary["rows"][name] for name in names}

    return keep


def lose(*path: str, value: Any = None):
    def change(summary: dict[str, Any]) -> None:
        place = summary
        for key in path[:-1]:
            place = place[key]
        if value is None:
            del place[path[-1]]
        else:
            place[path[-1]] = value

    return change


def no_seconds(summary: dict[str, Any]) -> None:
    for row in summary["rows"].values():
        row["seconds_per_image"] = None
    for curve in (curve for curves in summary["curves"].values() for curve in curves.values()):
        for point in curve:
            point["seconds"] = None


def one_judge(summary: dict[str, Any]) -> None:
    for row in summary["rows"].values():
        row["second_judge"] = None
    for curve in (curve for curves in summary["curves"].values() for curve in curves.values()):
        for point in curve:
            point["second"] = point["second_se"] = None
    for pair in summary["comparisons"]:
        pair["second_judge"] = None
    for exhibit in summary["gallery"]:
        exhibit["correct"] = {name: verdicts[:1] for name, verdicts in exhibit["correct"].items()}
    summary["agreement"] = dict.fromkeys(summary["agreement"])


PARTS = ("self_correction", "curves", "reliability", "steps", "gallery", "recipe", "comparisons")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([only("baseline")], ["Rows of the paper that were not run"]),
        ([only("parm")], ["no row for a single path"]),
        (
            [lose(part) for part in PARTS],
            [
                "(Table 5) were not run", "no record for: curves over N", "no record for: reliability",
                "no record for: use of the steps", "no record for: gallery", "≈",
                "imagecot study recipes/study/tiny.yaml",
            ],
        ),
        (
            [
                no_seconds,
                lose("self_correction", "rows", "parm"),
                lose("rows", "parm", "prompts", value=12),
                lose("gallery", value=[{"prompt": "p", "images": {"parm": "gallery/none.png"}}]),
                lose("command", value="an 'open quote"),
            ],
            [
                "No row has measured seconds", "Rows of Table 5 that were not run: PARM.",
                "On fewer than 30 prompts: parm (12).", "1 picture of the gallery", "imagecot study RECIPE.yaml",
            ],
        ),
        (
            [
                one_judge,
                lose("rows", "parm", "seconds_per_image"),
                lose("rows", "baseline", "tasks", value={"colors": 0.5}),
                lose("rows", "baseline", "overall_se"),
            ],
            [
                "No row has the second judge's verdict", "Without measured seconds: parm.", "0.50 / 0.82",
                "undecided, same direction",
            ],
        ),
    ],
)  # fmt: skip
def test_what_is_missing_is_said(study, tmp_path, unpainted, changes, said):
    summary = json.loads(json.dumps(study[1]))
    for change in changes:
        change(summary)
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    shutil.copytree(study[0] / "gallery", tmp_path / "gallery")
    write(tmp_path, tmp_path / "out")
    text = re.sub(r"\\(.)", r"\1", (tmp_path / "out" / "report.md").read_text())
    assert [words for words in said if words not in text] == []
    parsed((tmp_path / "out" / "report.html").read_text())


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (None, UsageError),
        ("{", ImagecotError),
        ("[]", ImagecotError),
        ("{}", ImagecotError),
        ('{"rows": {}}', ImagecotError),
        ('{"rows": {"parm": {"label": "no scores"}}}', ImagecotError),
        ("\x00\xff", ImagecotError),
    ],
)
def test_a_folder_without_a_good_summary_is_refused_in_one_sentence(tmp_path, imagecot, text, error):
    folder = tmp_path / "study"
    folder.mkdir()
    if text is not None:
        (folder / "summary.json").write_text(text, encoding="latin-1")
    code, out, err = imagecot("report", str(folder))
    assert code == error.exit_code and out == ""
    assert err.startswith("error: ") and len(err.strip().splitlines()) == 1
    assert [p.name for p in folder.iterdir()] == ([] if text is None else ["summary.json"])


def test_the_command_writes_prints_and_fills_the_readme(study, tmp_path, imagecot, unpainted):
    folder, summary, _ = study
    readme = tmp_path / "docs" / "README.md"
    readme.parent.mkdir()
    readme.write_text("before\n<!-- study -->\nold\n<!-- /study -->\nafter\n")
    out = tmp_path / "out"
    code, printed, _ = imagecot("report", str(folder), "--out", str(out), "--readme", str(readme), "--json")
    files = [Path(name) for name in json.loads(printed)["files"]]
    assert code == 0 and files[0] == out / "report.html" and files[-1] == readme
    assert {p for p in out.rglob("*") if p.is_file()} == set(files[:-1])
    text = readme.read_text()
    assert text.startswith("before\n<!-- study -->\n") and text.endswith("\n<!-- /study -->\nafter\n")
    assert "old" not in text
    for row in (summary["rows"]["baseline"], summary["rows"]["parm+iterative_dpo"]):
        assert f"**{row['overall']:.3f} (±{row['overall_se']:.3f})**" in text
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert (readme.parent / link).is_file()
    again = text
    assert imagecot("report", str(folder), "--out", str(out), "--readme", str(readme))[0] == 0
    assert readme.read_text() == again


def test_a_readme_without_marks_is_refused_before_anything_is_written(study, tmp_path, imagecot):
    readme = tmp_path / "README.md"
    readme.write_text("<!-- study --> never closed")
    code, _, err = imagecot("report", str(study[0]), "--out", str(tmp_path / "out"), "--readme", str(readme))
    assert code == 2 and "<!-- /study -->" in err and not (tmp_path / "out").exists()
    assert readme.read_text() == "<!-- study --> never closed"


def test_the_readme_shows_at_most_ten_rows():
    names = [*PAPER["show_o"], "own_1", "own_2"]
    summary = Summary.model_validate(small(**{name: 0.5 for name in names}))
    lines = [line for line in readme_fragment(summary).splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 10 and lines[2].startswith("| baseline |")


def test_one_row_is_rerun_by_the_studys_own_recipe(study):
    summary = read(study[0])
    command = summary.command + " n=8 --rows parm,dpo output=there  # a remark"
    summary = summary.model_copy(update={"command": command})
    assert first_page.row_command(summary, "parm+iterative_dpo") == (
        "imagecot study recipes/study/tiny.yaml n=8 --rows baseline,parm+iterative_dpo "
        "output=runs/study/parm+iterative_dpo"
    )


def test_no_score_is_written_in_the_source():
    """Scores are two or three digits behind a point; what else has them here is a length or a colour of a figure."""
    other = ("figures.py", "frontier_figure.py", "gallery.py")
    files = [file for file in Path(paper.__file__).parent.glob("*.py") if file.name not in other]
    assert len(files) >= 6
    for file in files:
        for token in tokenize.tokenize(io.BytesIO(file.read_bytes()).readline):
            if token.type == tokenize.NUMBER:
                assert token.string in {"0", "1", "2", "3", "4", "10", "100", "0.0", "0.01", "1.96"}, (file, token.line)
            elif token.type == tokenize.STRING and not token.string.startswith('"""'):
                words = re.sub(r":[^{}]*}", "}", token.string)  # without the formats of numbers
                assert not re.search(r"(?<!\w)0?\.\d\d|\d ?%(?! interval)|(?<!\w)[+−-]\d", words), (file, token)


def test_the_papers_numbers_come_from_its_file(study, tmp_path, monkeypatch, unpainted):
    changed = json.loads(json.dumps(PAPER))
    changed["show_o"]["parm"] = [0.11] * 6 + [0.99]
    monkeypatch.setattr(paper, "paper", lambda: paper.Paper.model_validate_json(json.dumps(changed)))
    write(study[0], tmp_path / "out")
    table = markdown_table((tmp_path / "out" / "report.md").read_text(), "Scores")
    assert table["parm"]["paper"] == "0.99" and table["parm"]["paper's gain"] == "+46.0"
    assert all(table["parm"][task.replace("_", " ")].endswith(" / 0.11") for task in TASKS)
