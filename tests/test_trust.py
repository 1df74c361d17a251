"""Whether a judge is to be trusted: right ones pass, and what is wrong with wrong ones is named."""

import json
import re
import shlex
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch

from imagecot.curation.dataset import ranking_row
from imagecot.curation.schema import RANKING
from imagecot.curation.shards import write_shard
from imagecot.errors import ImagecotError, UsageError
from imagecot.evaluation.state import Row
from imagecot.geneval.prompts import single_object_metadata
from imagecot.images import png
from imagecot.trust import Finding, Limit, Report, check_judge
from imagecot.trust.drawn import drawn_material
from imagecot.trust.material import ABSENT, COLOR, NUMBER, OTHER, PLACE, TRUE
from imagecot.worlds.drawn.scenes import KINDS

Run = Callable[..., tuple[int, str, str]]
PAGE = (Path(__file__).parent.parent / "docs" / "judges.md").read_text(encoding="utf-8")
READS = {
    "P(yes), absent object", "P(yes), prompt of another picture", "P(yes), wrong colour", "P(yes), wrong number",
    "P(yes), wrong place",
}  # fmt: skip
EMPTY = {"P(yes), true prompt and plain grey", "P(yes), true prompt and noise"}
OWN_PROMPT, OWN_PICTURE = "a picture's own prompt gets more", "a prompt's own picture gets more"
FITS = {"AUROC", "balanced accuracy", "calibration error"}
SHARE = "share of yes, where half is true"
APART = "share of different answers among 20 pictures"
CHANGE = "largest change of P(yes) by order or batch"


def faults(report: Report) -> set[str]:
    return {finding.name for finding in report.faults}


# --- the pictures


def test_pictograms_are_those_that_they_are_said_to_be() -> None:
    material, again = drawn_material(), drawn_material()
    assert material.cases == again.cases
    assert all(torch.equal(a, b) for a, b in zip(material.pictures, again.pictures, strict=True))
    counts = {kind: len(material.of(kind)) for kind in (TRUE, ABSENT, COLOR, NUMBER, PLACE, OTHER)}
    assert {**counts, PLACE: 0} == {TRUE: 48, ABSENT: 48, COLOR: 48, NUMBER: 48, PLACE: 0, OTHER: 48}
    assert counts[PLACE] >= 16
    assert len({picture.numpy().tobytes() for picture in material.pictures}) == 48 + 3 * 20
    for k in material.of(OTHER):
        case = material.cases[k]
        assert case.owner is not None
        assert material.cases[case.owner].prompt == case.prompt
        assert material.cases[case.owner].fits


# --- judges


@cache
def shipped(name: str) -> Report:
    return check_judge(name)


@pytest.mark.parametrize("name", ["tiny-orm", "tiny-zero-shot"])
def test_shipped_judges_can_be_trusted(name: str) -> None:
    report = shipped(name)
    assert report.trusted, report.sentence
    assert report.sentence.startswith(f"{name} can be trusted: ")
    assert {finding.verdict for finding in report.findings} <= {"good", "weak"}
    assert report.answers == 560


@pytest.mark.parametrize(("name", "column"), [("tiny-zero-shot", 2), ("tiny-orm", 3)])
def test_the_table_of_the_page_has_the_limits_and_what_is_measured(name: str, column: int) -> None:
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in PAGE.splitlines() if line.startswith("| ")]
    told = {cells[0]: cells for cells in rows}
    for finding in shipped(name).findings:
        cells = told[finding.name.removesuffix(" in float32")]
        assert cells[1] == str(finding.limit)
        assert finding.value == pytest.approx(float(cells[column]), abs=0.003)


def test_the_code_of_the_page_runs(imagecot: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, object]] = []

    def told(name: str, **options: object) -> Report:
        asked.append({"name": name} | {key: value for key, value in options.items() if key != "watch" and value})
        return shipped("tiny-orm")

    page = PAGE.partition("## Is this judge to be trusted")[2].partition("\n## ")[0]
    monkeypatch.setattr("imagecot.trust.check.check_judge", told)
    for code in re.findall(r"```python\n(.*?)```", page, re.S):
        exec(code, {})
    for command in re.findall(r"^imagecot (.*)$", page, re.M):
        assert imagecot(*shlex.split(command))[0] == 0
    assert asked == [
        {"name": "tiny-orm"},
        {"name": "tiny-orm"},
        {"name": "tiny-orm", "precision": "bfloat16"},
        {"name": "owner/vlm", "images": Path("photos.jsonl")},
        {"name": "http://localhost:8000/v1#my-model", "against": "my/folder"},
    ]


def test_who_knows_the_truth_has_only_good_marks() -> None:
    report = check_judge("trust_toys:Right")
    assert {finding.verdict for finding in report.findings} == {"good"}
    assert "17 of 17 checks on 48 drawn pictograms are good" in report.sentence


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("AlwaysYes", READS | EMPTY | {SHARE, "calibration error"}, FITS | {OWN_PROMPT, OWN_PICTURE}),
        ("AlwaysNo", {"P(yes), true prompt", SHARE}, FITS | {OWN_PROMPT, OWN_PICTURE}),
        ("IgnoresItsPicture", EMPTY | {OWN_PICTURE, APART}, READS | FITS | {OWN_PROMPT, "P(yes), true prompt"}),
        ("IgnoresItsPrompt", {OWN_PROMPT}, READS | EMPTY | FITS | {OWN_PICTURE, "P(yes), true prompt", SHARE}),
        ("CountsPlaces", {CHANGE}, {"share of choices that stay"}),
        ("LooksAside", {CHANGE}, set()),
        ("Timid", {"calibration error"}, set()),
        ("Contrary", READS | FITS | {OWN_PROMPT, OWN_PICTURE, "P(yes), true prompt"}, EMPTY),
    ],
)
def test_what_is_wrong_with_a_judge_is_found(name: str, least: set[str], most: set[str]) -> None:
    report = check_judge(f"trust_toys:{name}")
    assert least <= faults(report) <= least | most
    assert report.sentence.startswith(f"trust_toys:{name} should not be trusted: it ")


def test_an_answer_that_ignores_the_prompt_tells_pictures_apart_and_yet_fails() -> None:
    report = check_judge("trust_toys:IgnoresItsPrompt")
    found = {finding.name: finding for finding in report.findings}
    assert found[OWN_PROMPT].value == 0.5
    assert found[APART].verdict == "good"


def test_ties_in_bfloat16_are_found_against_float32() -> None:
    report = check_judge("trust_toys:Coarse", precision="bfloat16")
    assert faults(report) == {f"{APART} in bfloat16"}
    found = {finding.name: finding for finding in report.findings}
    assert found[f"{APART} in float32"].value == 1
    assert found["rank correlation among pictures of a prompt"].verdict == "good"
    assert check_judge("trust_toys:Coarse").trusted


def test_a_copy_that_disagrees_is_found() -> None:
    report = check_judge("trust_toys:Right", against="trust_toys:Copy")
    assert "largest difference of P(yes)" in faults(report)
    assert all(finding.part == "agrees with trust_toys:Copy" for finding in report.faults)
    same = check_judge("trust_toys:Right", against="trust_toys:Right")
    assert same.trusted
    assert max(f.value or 0 for f in same.findings if f.name == "largest difference of P(yes)") == 0


def test_only_questions_that_a_judge_answers_are_asked() -> None:
    assert check_judge("trust_toys:OnlyPrm").question == "prm"
    with pytest.raises(UsageError, match="orm is not known"):
        check_judge("trust_toys:OnlyPrm", question="orm")
    with pytest.raises(UsageError, match="answers none of orm, prm, potential"):
        check_judge("trust_toys:Silent")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("trust_toys:Right", {"question": "beauty"}, "there is no question 'beauty'"),
        ("trust_toys:Right", {"question": "clarity"}, "clarity has no labels; give ranking data"),
        ("trust_toys:Right", {"precision": "float8"}, "there is no precision 'float8'"),
        ("trust_toys:Right", {"against": "tiny-omr"}, "did you mean tiny-orm"),
        ("trust_toys:Dull", {}, "purple is not known"),
    ],
)
def test_requests_that_make_no_sense_are_refused(name: str, options: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_judge(name, **options)  # type: ignore[arg-type]


def test_what_is_no_probability_ends_the_check() -> None:
    with pytest.raises(ImagecotError, match=r"Broken.ask is not a probability"):
        check_judge("trust_toys:Broken")


# --- verdicts


@pytest.mark.parametrize(
    ("value", "error", "limit", "verdict"),
    [
        (0.2, 0.01, Limit(most=0.25), "good"),
        (0.3, 0.04, Limit(most=0.25), "weak"),
        (0.3, 0.01, Limit(most=0.25), "bad"),
        (0.3, None, Limit(most=0.25), "bad"),
        (0.9, 0.05, Limit(0.2, 0.8), "bad"),
        (0.8, 0.1, Limit(least=0.7, chance=0.5), "good"),
        (0.8, 0.2, Limit(least=0.7, chance=0.5), "unsure"),
        (0.65, 0.05, Limit(least=0.7, chance=0.5), "weak"),
        (0.8, None, Limit(least=0.7, chance=0.5), "unsure"),
        (None, None, Limit(most=1), "untried"),
    ],
)
def test_verdicts_by_hand(value: float | None, error: float | None, limit: Limit, verdict: str) -> None:
    assert Finding("part", "name", value, limit, "fails", 9, error).verdict == verdict


# --- pictures of the user's


def photos(folder: Path, count: int = 12) -> list[dict[str, object]]:
    """Pictures of the drawn world as files: of each a true prompt, and of as many one of another colour."""
    material, found = drawn_material(), []
    for number, case in enumerate(material.cases):
        if case.kind in (TRUE, COLOR) and case.picture < count:
            file = folder / f"{number}.png"
            file.write_bytes(png(material.pictures[case.picture]))
            found.append({"image": file.name, "prompt": case.prompt, "label": "yes" if case.fits else "no"})
    return found


def written(file: Path, lines: list[dict[str, object]]) -> Path:
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def test_a_file_of_lines(tmp_path: Path) -> None:
    file = written(tmp_path / "photos.jsonl", photos(tmp_path))
    report = check_judge("trust_toys:Right", images=file)
    assert report.source == f"24 of 24 pictures in {file}"
    assert report.trusted, report.sentence
    assert report.remark == ""
    contrary = check_judge("trust_toys:Contrary", images=str(file))
    assert {"P(yes), true prompt", "P(yes), labelled no", "AUROC", OWN_PROMPT} <= faults(contrary)
    assert "wrong way round" in next(f.fault for f in contrary.findings if f.name == "AUROC")


def test_who_guesses_is_never_trusted_for_luck_with_few_pictures(tmp_path: Path) -> None:
    lines, verdicts = photos(tmp_path, 40), set()
    for first in range(0, 80, 10):
        for part in (lines[first : first + 10], lines[first:] + lines[:first]):
            few = [
                *[one for one in part if one["label"] == "yes"][:5],
                *[one for one in part if one["label"] == "no"][:5],
            ]
            if len(few) == 10:
                report = check_judge("trust_toys:Guesses", images=written(tmp_path / "few.jsonl", few))
                assert not report.trusted
                verdicts |= {finding.verdict for finding in report.findings if finding.name == "AUROC"}
    assert "unsure" in verdicts


def test_ranking_data_and_its_questions(tmp_path: Path) -> None:
    material, rows = drawn_material(), []
    for number, case in enumerate(material.cases):
        if case.kind in (TRUE, COLOR) and case.picture < 12:
            metadata = single_object_metadata(KINDS[0]).worded(case.prompt)
            picture = material.pictures[case.picture]
            for question in ("orm", "clarity"):
                label = case.fits if question == "orm" else not case.fits
                rows.append(ranking_row(metadata, question, picture, step=1, steps=2, seed=number, label=label))
    (tmp_path / "data").mkdir()
    write_shard(tmp_path / "data" / "00000.parquet", rows, RANKING)
    assert check_judge("trust_toys:Right", images=tmp_path).trusted
    clarity = check_judge("trust_toys:Right", images=tmp_path, question="clarity")
    assert (clarity.question, clarity.source) == ("clarity", f"24 of 24 pictures in {tmp_path}")
    assert "AUROC" in faults(clarity)
    with pytest.raises(UsageError, match="0 pictures labelled yes and 0 labelled no about prm"):
        check_judge("trust_toys:Right", images=tmp_path, question="prm")


def test_a_scored_folder_of_images(tmp_path: Path) -> None:
    rows = [
        Row(filename=str(line["image"]), tag="colors", prompt=str(line["prompt"]), correct=line["label"] == "yes",
            reason="", metadata="{}", details="{}")
        for line in photos(tmp_path)
    ]  # fmt: skip
    (tmp_path / "results.jsonl").write_text("".join(row.model_dump_json() + "\n" for row in rows))
    assert check_judge("trust_toys:Right", images=tmp_path).trusted
    with pytest.raises(UsageError, match="has no labels of clarity"):
        check_judge("trust_toys:Right", images=tmp_path, question="clarity")


def test_pictures_that_cannot_be_used(tmp_path: Path) -> None:
    def refused(place: Path, message: str, kind: type[ImagecotError] = UsageError) -> None:
        with pytest.raises(kind, match=message):
            check_judge("trust_toys:Right", images=place)

    refused(tmp_path / "nothing", "holds no labelled pictures; give a .jsonl file")
    refused(tmp_path, "holds no labelled pictures")
    lines = photos(tmp_path)
    refused(written(tmp_path / "few.jsonl", lines[:7]), "7 pictures labelled yes and 0 labelled no about orm")
    refused(written(tmp_path / "bad.jsonl", [lines[0] | {"label": "maybe"}]), "line 1 of .*bad.jsonl: label")
    (tmp_path / "0.png").unlink()
    refused(written(tmp_path / "gone.jsonl", lines), r"0\.png is missing", ImagecotError)
    (tmp_path / "unscored" / "00000").mkdir(parents=True)
    (tmp_path / "unscored" / "00000" / "metadata.jsonl").write_text("{}")
    refused(tmp_path / "unscored", "pictures without labels; run imagecot evaluate geneval")


# --- the command


def test_the_command_prints_one_page_and_ends_with_a_sentence(imagecot: Run) -> None:
    code, out, err = imagecot("judge", "check", "trust_toys:Right")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "trust_toys:Right, question orm, 48 drawn pictograms"
    assert len(lines) < 40
    assert max(map(len, lines)) <= 110
    assert lines[-2].endswith("Pictograms say little about photos: for those give labelled ones with --images.")
    assert lines[-1].startswith("trust_toys:Right can be trusted: 17 of 17 checks")


def test_a_judge_that_is_not_to_be_trusted_ends_with_1(imagecot: Run) -> None:
    code, out, _ = imagecot("judge", "check", "trust_toys:AlwaysYes", "--json")
    found = json.loads(out)
    assert (code, found["trusted"]) == (1, False)
    assert found["sentence"].startswith("trust_toys:AlwaysYes should not be trusted: ")
    share = next(one for one in found["findings"] if one["name"] == SHARE)
    assert (share["value"], share["least"], share["most"], share["verdict"]) == (1, 0.2, 0.8, "bad")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tiny-omr"], "did you mean tiny-orm"),
        (["trust_toys:Right", "--question", "clarity"], "clarity has no labels"),
        (["trust_toys:Right", "--images", "nowhere"], "nowhere holds no labelled pictures"),
    ],
)
def test_mistakes_end_with_2(imagecot: Run, arguments: list[str], message: str) -> None:
    code, out, err = imagecot("judge", "check", *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1
