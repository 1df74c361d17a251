"""Damage to the files of a study, whatever it is: one sentence that names file, line and field, or a right result."""

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from imagecot.contracts.metadata import Metadata
from imagecot.errors import ImagecotError, UsageError
from imagecot.hub import CHECKPOINTS
from imagecot.recipes import check
from imagecot.study import CorrectionsRecipe, StudyRecipe, corrections, corrections_table, run, timing
from imagecot.study.analysis import analyse
from imagecot.study.folder import check_folder, correction_store, identity, stores
from imagecot.study.rows import CorrectionsRow, Counts
from imagecot.study.self_correction import LABELS, ROUNDED, shuffled_prompts
from imagecot.study.store import Store
from imagecot.study.table_five import analyse as analyse_corrections
from small_models import write_verifier

torch.set_num_threads(1)
WRONG: list[Any] = [
    *(None, True, -1, 0, 7, 10**30, 0.5, -0.5, 1e300, "", "x", "$", "\u2028", "never"),
    *([], {}, [[]], [None], {"x": 1}, [0], [True], "a" * 30_000),
]
EXAMPLES = settings(max_examples=150, deadline=None)


def recipe(output: Path, tiny: Path) -> StudyRecipe:
    judge = str(tiny.parent / "judge")
    return StudyRecipe(
        output=output, n=2, prompts_per_task=1, timed_prompts=0, gallery=1, generators={"base": str(tiny)},
        rows={
            "baseline": {"generator": "base"},
            "orm": {"generator": "base", "search": "best-of-n", "verifier": judge},
            "kept": {"generator": "base", "search": "parm", "verifier": judge, "keep": 0.5},
        },
    )  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> StudyRecipe:
    """A finished study of six prompts."""
    folder = tmp_path_factory.mktemp("study")
    shutil.copytree(CHECKPOINTS / "tiny", folder / "tiny")
    file = folder / "tiny" / "generation_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "steps": 2}))
    write_verifier(folder / "judge")
    found = recipe(folder / "out", folder / "tiny")
    run(found)
    return found


@pytest.fixture
def copied(study, tmp_path) -> StudyRecipe:
    """The same study in a folder of its own."""
    shutil.copytree(study.output, tmp_path / "out")
    return study.model_copy(update={"output": tmp_path / "out"})


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value."""
    found = [at]
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            found += places(item, (*at, key))
    return found


def put(value: Any, at: tuple[Any, ...], wrong: Any) -> Any:
    """A copy with another value at a place; without what is there where that is `DELETED`."""
    if not at:
        return wrong
    changed = copy.deepcopy(value)
    place = changed
    for key in at[:-1]:
        place = place[key]
    if wrong is DELETED:
        del place[at[-1]]
    else:
        place[at[-1]] = wrong
    return changed


DELETED = object()


def damaged(data: st.DataObject, value: Any) -> Any:
    at = data.draw(st.sampled_from(places(value)[1:]))
    return put(value, at, data.draw(st.sampled_from([*WRONG, DELETED])))


def said(error: pytest.ExceptionInfo[ImagecotError], *words: str) -> None:
    text = str(error.value)
    assert "\n" not in text and text.endswith(".")
    assert [word for word in words if word not in text] == []


@given(st.data())
@EXAMPLES
def test_any_field_of_a_pool(study, tmp_path_factory, data):
    lines = (study.output / "candidates" / "base.jsonl").read_text().splitlines()
    line = data.draw(st.integers(0, len(lines) - 1))
    row = damaged(data, json.loads(lines[line]))
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "candidates").mkdir()
    (folder / "candidates" / "base.jsonl").write_text("\n".join([*lines[:line], json.dumps(row), *lines[line + 1 :]]))
    other = study.model_copy(update={"output": folder})
    try:
        rows = stores(other, {})["base"].rows()
    except ImagecotError as error:
        assert f"line {line + 1} of" in str(error) and "base.jsonl" in str(error)
    else:
        assert analyse(other, {"base": rows}, {}).rows["orm"].prompts == len(lines)


def test_scores_that_are_missing(study, tmp_path):
    """Earlier versions asked about no path that was stopped; now a single one cannot be without."""
    rows = [json.loads(line) for line in (study.output / "candidates" / "base.jsonl").read_text().splitlines()]
    asked = study.model_copy(update={"output": tmp_path, "n": 4})
    scored = [(0.5, 1), (0.4, 1), (0.3, 1), (0.9, None)]
    (tmp_path / "candidates").mkdir()

    def read(paths: list[tuple[float | None, int | None]], chosen: int = 3) -> list[dict[str, Any]]:
        found = [{"score": p, "stopped": step, "first_clear": step, "potential": 0.1} for p, step in paths]
        whole = copy.deepcopy(rows)
        for row in whole:
            row["correct"] = [[True] * 4, [True] * 4]
            row["reasons"], row["codes"] = [""] * 4, row["codes"][:1] * 4
            row["atoms"] = None  # earlier versions did not keep them
            cost = row["searches"]["kept"]["cost"]
            row["searches"]["orm"]["paths"] = [{**found[3], "score": 0.5, "stopped": None}] * 4
            row["searches"]["kept"] = {"paths": found, "chosen": chosen, "cost": cost}
        (tmp_path / "candidates" / "base.jsonl").write_text("".join(json.dumps(row) + "\n" for row in whole))
        return stores(asked, {})["base"].rows()

    assert len(read(scored)) == 6
    assert len(read([(None, step) if step else (p, step) for p, step in scored])) == 6
    assert len(read([(0.5, 1), *[(None, 1)] * 3], chosen=0)) == 6  # that of the one that was taken up again is known
    for wrong in ([scored[0], (None, 1), *scored[2:]], [*scored[:3], (None, None)]):
        with pytest.raises(ImagecotError, match=r"line 1 of .*searches\.kept: path \d has no score"):
            read(wrong)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["does not hold the one row"]),
        ("[]", ["line 1 of", "00003.json"]),
        ("null", ["line 1 of"]),
        ('{"number": 3', ["not valid JSON"]),
        ('{"number": NaN}', ["not valid JSON"]),
        ("[" * 100_000, ["not valid JSON"]),
        ("\xff\xfe", ["not UTF-8"]),
        ("{}", ["number is missing", "delete"]),
    ],
)
def test_a_damaged_part(copied, text, words):
    parts = copied.output / "candidates" / "base.parts"
    parts.mkdir()
    (parts / "00003.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ImagecotError) as error:
        run(copied)
    said(error, *words)


def test_a_part_of_another_name_or_kind(copied):
    parts = copied.output / "candidates" / "base.parts"
    parts.mkdir()
    row = (copied.output / "candidates" / "base.jsonl").read_text().splitlines()[0]
    for name in ("x.json", "00001.json", "0.json"):
        (parts / name).write_text(row)
        with pytest.raises(ImagecotError) as error:
            run(copied)
        said(error, name, "does not hold the one row of its number")
        (parts / name).unlink()
    (parts / "00000.json").mkdir()
    with pytest.raises(ImagecotError) as error:
        run(copied)
    said(error, "00000.json is a folder")


def test_what_is_deleted_is_made_again_and_the_summary_is_the_same(copied):
    file = copied.output / "candidates" / "base.jsonl"
    before, summary = file.read_text(), json.loads((copied.output / "summary.json").read_text())
    lines = before.splitlines(keepends=True)
    file.write_text("".join([*lines[:1], lines[1], lines[1], *lines[3:]]))
    with pytest.raises(ImagecotError) as error:
        run(copied)
    said(error, "line 3 of", "repeats the number 1", "delete")
    file.write_text("".join([lines[5], *lines[:1], *lines[3:5]]))
    again = run(copied)
    assert [{**json.loads(a), "began": 0, "ended": 0} for a in file.read_text().splitlines()] == [
        {**json.loads(b), "began": 0, "ended": 0} for b in lines
    ]
    for key in ("rows", "curves", "comparisons", "reliability", "steps", "agreement", "gallery"):
        assert again.model_dump(mode="json", exclude_unset=True)[key] == summary[key]


@pytest.mark.parametrize("parts", [0, None, [], "x", True, [["rows of base"]]])
def test_damaged_parts_of_the_identity(copied, parts):
    file = copied.output / "study.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "parts": parts}))
    with pytest.raises(UsageError) as error:
        run(copied)
    said(error, "study.json is damaged: parts must be an object", "delete")


@given(st.data())
@EXAMPLES
def test_any_field_of_the_identity(study, tmp_path_factory, data):
    folder, weights = tmp_path_factory.mktemp("identity"), {"verifiers": {"tiny-parm": {"verifier": "1"}}}
    whole = json.loads((study.output / "study.json").read_text()) | {"parts": identity(study, weights)[1]}
    wrong = damaged(data, whole)
    (folder / "study.json").write_text(json.dumps(wrong))
    (folder / "candidates").mkdir()
    (folder / "candidates" / "base.jsonl").touch()
    same = all(
        wrong.get(key) == value for key, value in whole.items() if key != "parts"
    ) and isinstance(wrong.get("parts"), dict) and all(
        wrong["parts"].get(name, value) == value for name, value in whole["parts"].items()
    )  # fmt: skip
    same = same and {"generators.base", "rows of base"} <= wrong["parts"].keys()
    try:
        check_folder(study.model_copy(update={"output": folder}), weights)
    except UsageError as error:
        assert not same and "study" in str(error)
    else:
        assert same


MEASURED = {"name": "orm", "n": 2, "prompt": "a", "seconds": 1.5, "began": 1.0, "ended": 2.5}


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_field_of_a_measurement(tmp_path_factory, data):
    file = tmp_path_factory.mktemp("timing") / "timing.jsonl"
    file.write_text(json.dumps(MEASURED) + "\n" + json.dumps(damaged(data, MEASURED)) + "\n")
    try:
        assert timing.means(timing.read(file))["orm"]
    except ImagecotError as error:
        assert "line 2 of" in str(error) and "timing.jsonl" in str(error)


def corrected(asked: StudyRecipe) -> list[dict[str, Any]]:
    """Finished rows of Table 5."""
    cost = dict.fromkeys(Counts.model_fields, 3)
    wrong = {"kind": "color", "object": "cup", "expected": "red", "found": "", "target": ""}
    arm = {"correct": [True, False], "cost": cost}
    rounds = {**arm, "by_round": [[True, False]] * 4, "redrawn": [[False, True]]}
    return [
        {
            "number": number, "metadata": metadata.as_json(),
            "arms": {n: rounds if n in ROUNDED else arm for n in LABELS},
            "said": [{"text": "no", "p_yes": 0.1, "problem": None}], "reasons": "there is no cup.",
            "understood": [wrong], "true": [wrong], "began": 1.0, "ended": 2.0,
        }
        for number, metadata in enumerate(shuffled_prompts(asked))
    ]  # fmt: skip


@given(st.data())
@EXAMPLES
def test_any_field_of_table_five(study, tmp_path_factory, data):
    part = {"correcting_generator": "g", "orm": "o", "parm": "p", "parm_plus_plus": "pp"}
    asked = check({"output": "x", "n": 2, "prompts_per_task": 1, "self_correction": part}, StudyRecipe, "r")
    asked = asked.model_copy(update={"output": tmp_path_factory.mktemp("corrections")})
    rows = corrected(asked)
    line = data.draw(st.integers(0, len(rows) - 1))
    rows[line] = damaged(data, rows[line])
    store = correction_store(asked, {})
    store.folder.mkdir()
    store.file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert asked.self_correction is not None
    try:
        found = store.rows()
    except ImagecotError as error:
        assert f"line {line + 1} of" in str(error)
    else:
        assert analyse_corrections(found, asked, asked.self_correction, {}).prompts == 6


@given(st.data())
@EXAMPLES
def test_any_field_of_a_study_of_corrections(tmp_path_factory, data):
    asked = CorrectionsRecipe(output="x", generator="g", corrector="c", verifier="v")
    wrong = {"kind": "color", "object": "cup", "expected": "red", "found": "", "target": ""}
    image: dict[str, Any] = {"right": {way: [0.25, 1.0] for way in corrections.LABELS}}
    image |= {key: [wrong] for key in ("true", "found", "written")}
    metadata = {"tag": "colors", "prompt": "a red cup"}
    row = {"number": 0, "metadata": metadata, "corrected": [image, image], "told": "", "began": 1.0, "ended": 2.0}
    folder = tmp_path_factory.mktemp("corrections")
    store = Store(
        folder, "c", CorrectionsRow, lambda found: corrections.misfit(asked, {0: Metadata.of(metadata)}, found)
    )
    store.file.write_text(json.dumps(damaged(data, row)) + "\n")
    try:
        found = store.rows()
    except ImagecotError as error:
        assert "line 1 of" in str(error)
    else:
        assert "told" in corrections_table.table(corrections_table.analyse(found))


@pytest.mark.parametrize("name", ["candidates", "gallery"])
def test_a_link_in_the_place_of_its_folder_is_refused(study, tmp_path, name):
    asked = study.model_copy(update={"output": tmp_path / "out"})
    outside = tmp_path / "outside"
    outside.mkdir()
    asked.output.mkdir()
    shutil.copy(study.output / "study.json", asked.output)
    (asked.output / name).symlink_to(outside)
    with pytest.raises(ImagecotError) as error:
        run(asked)
    said(error, f"{name} is a link")
    assert list(outside.iterdir()) == []


def test_codes_that_the_generator_has_not(copied):
    file = copied.output / "candidates" / "base.jsonl"
    rows = [{**json.loads(line), "judges": ["others"]} for line in file.read_text().splitlines()]
    for codes in ([[4096] * 64] * 2, [[0] * 63] * 2):
        file.write_text("".join(json.dumps({**row, "codes": codes}) + "\n" for row in rows))
        with pytest.raises(ImagecotError) as error:
            run(copied)
        said(error, "row 0 of", "has codes that base cannot draw", "delete")


def test_a_mistaken_study_leaves_its_folder_alone(study, tmp_path):
    asked = study.model_copy(update={"output": tmp_path / "out"})
    late = {"kept": asked.rows["kept"].model_copy(update={"first_step": 7})}
    with pytest.raises(UsageError, match=r"rows\.kept: .*first_step: it must be from 1 to 1"):
        run(asked.model_copy(update={"rows": asked.rows | late}))
    assert not asked.output.exists()
    for workers in (0, -1, 10**22, 1.5, True):
        with pytest.raises(UsageError, match="--workers must be"):
            run(asked, workers=workers)
    assert not asked.output.exists()


def test_a_prompt_that_a_model_cannot_read_is_refused_before_anything_is_drawn(study, tmp_path, monkeypatch):
    asked = study.model_copy(update={"output": tmp_path / "out"})
    long = {"tag": "colors", "prompt": "a photo of " + "a red apple and " * 40 + "a cup", "include": [], "exclude": []}
    monkeypatch.setattr("imagecot.study.follow.timed_prompts", lambda recipe: [long["prompt"]])
    with pytest.raises(UsageError, match="a photo of a red apple"):
        run(asked)
    assert not asked.output.exists()


@given(st.data())
@EXAMPLES
def test_any_value_of_a_recipe(data):
    part = {"correcting_generator": "g", "orm": "o", "parm": "p", "parm_plus_plus": "pp", "keep": 0.5}
    whole: dict[str, Any] = {
        "output": "x", "n": 4, "precision": None, "prompts_per_task": 2, "timed_prompts": 1, "gallery": 1, "seed": 0,
        "detector": "pictograms", "generators": {"g": "tiny"},
        "rows": {"r": {"generator": "g", "search": "parm", "verifier": "v", "first_step": 2, "keep": 0.5,
                       "prompts_per_task": 1, "label": "R"}},
        "self_correction": part,
    }  # fmt: skip
    values = damaged(data, whole)
    try:
        found = check(values, StudyRecipe, "recipe")
    except UsageError as error:
        assert "recipe has" in str(error)
    else:
        assert len(shuffled_prompts(found)) <= 600


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"n": 0}, "n: "), ({"n": 10**22}, "n: "), ({"n": True}, "n: "), ({"n": 2.0}, "n: "), ({"n": "4"}, "n: "),
        ({"seed": 2**63}, "seed: "), ({"seed": float("nan")}, "seed: "), ({"seed": False}, "seed: "),
        ({"output": ""}, "output: "), ({"generators": {"a/b": "tiny"}}, "generators"),
        ({"generators": {"g": ""}}, "generators.g: "), ({"gallery": -1}, "gallery: "),
        ({"rows": {"oracle": {"generator": "g"}}}, "rows.oracle: every table has a line of this name"),
        ({"rows": {"r" * 51: {"generator": "g"}}}, "at most 50 characters"),
        ({"rows": {"r": {"generator": "g", "search": "best-of-n", "verifier": ""}}}, "rows.r.verifier"),
        ({"rows": {"r": {"generator": "g", "search": "parm", "verifier": "v", "keep": float("nan")}}}, "rows.r.keep"),
    ],
)  # fmt: skip
def test_bounds_of_a_recipe(changes, told):
    whole = {"output": "x", "generators": {"g": "tiny"}, "rows": {"r": {"generator": "g"}}}
    with pytest.raises(UsageError) as error:
        check(whole | changes, StudyRecipe, "recipe")
    said(error, told)
