"""A whole study on the shipped weights with few steps: killed and resumed, or shared by processes, it is the same."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from imagecot.errors import ImagecotError, UsageError
from imagecot.hub import CHECKPOINTS
from imagecot.recipes import check, read_yaml
from imagecot.report.read import read
from imagecot.study import CorrectionsRecipe, StudyRecipe, draw, run
from imagecot.study.folder import claim_folder
from imagecot.study.follow import chosen, typed
from imagecot.study.summary import Summary, write_summary
from imagecot.watch import Watch
from small_models import write_verifier

torch.set_num_threads(1)
RECIPES = Path(__file__).parent.parent / "recipes" / "study"
TIMES = ("began", "ended")


@pytest.fixture(scope="module")
def quick_tiny(tmp_path_factory) -> Path:
    """The shipped generator, drawing in 2 steps; beside it a small verifier, `judge`."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    shutil.copytree(CHECKPOINTS / "tiny", folder)
    settings = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps({**settings, "steps": 2}))
    write_verifier(folder.parent / "judge")
    return folder


def recipe(output: Path, tiny: Path) -> StudyRecipe:
    judge = str(tiny.parent / "judge")
    return StudyRecipe(
        output=output, n=3, prompts_per_task=1, timed_prompts=1, gallery=1,
        generators={"baseline": str(tiny), "other": str(tiny)},
        rows={
            "baseline": {"generator": "baseline"},
            "orm": {"generator": "baseline", "search": "best-of-n", "verifier": judge},
            "prm": {"generator": "baseline", "search": "stepwise", "verifier": judge},
            "parm+other": {"generator": "other", "search": "parm", "verifier": judge},
        },
    )  # fmt: skip


def candidates(folder: Path) -> dict[str, list[dict]]:
    """What the stores hold but for the times."""
    return {
        file.name: [
            {key: value for key, value in json.loads(line).items() if key not in TIMES}
            for line in file.read_text().splitlines()
        ]
        for file in sorted((folder / "candidates").glob("*.jsonl"))
    }


def numbers(summary: Summary) -> dict:
    """The parts of a summary that are the same however long the study took."""
    rows = {name: row.model_dump(exclude={"seconds_per_image"}) for name, row in summary.rows.items()}
    same = {"comparisons", "reliability", "steps", "agreement", "gallery"}
    return {"rows": rows, **summary.model_dump(include=same)}


def test_killed_or_shared_it_ends_the_same(tmp_path, quick_tiny, monkeypatch):
    told: list[str] = []
    whole = run(recipe(tmp_path / "whole", quick_tiny), command="imagecot study x", watch=Watch(tell=told.append))
    assert told == ["11 of 12 pools to draw, about 1 minutes"]
    found = candidates(tmp_path / "whole")
    assert {name: len(rows) for name, rows in found.items()} == {"baseline.jsonl": 6, "other.jsonl": 6}
    # The pools of two generators that are one model are the same pictures.
    assert [row["correct"] for row in found["baseline.jsonl"]] == [row["correct"] for row in found["other.jsonl"]]
    assert whole.rows["prm"].prompts == 6
    assert all(row.seconds_per_image > 0 for row in whole.methods.values())
    assert whole.curves["other"]["parm+other"][-1].seconds > 0
    assert whole.seconds > 0
    assert whole.command == "imagecot study x"
    assert whole.self_correction is None
    assert read(tmp_path / "whole") == whole
    for entry in whole.gallery:
        assert set(entry.images) == set(entry.correct) == {"baseline", "orm", "prm", "parm+other"}
        for file in entry.images.values():
            with Image.open(tmp_path / "whole" / file) as picture:
                assert picture.size == (64, 64)

    calls: list[tuple[str, int]] = []
    observe = draw.observe

    def killed(recipe, unit, models, judges):
        if len(calls) == 8:
            calls.append(("killed", 0))
            raise KeyboardInterrupt
        calls.append((unit.generator, unit.number))
        return observe(recipe, unit, models, judges)

    monkeypatch.setattr(draw, "observe", killed)
    untimed = {"timed_prompts": 0}
    parts = recipe(tmp_path / "parts", quick_tiny).model_copy(update=untimed)
    with pytest.raises(KeyboardInterrupt):
        run(parts)
    partial = json.loads((tmp_path / "parts/summary.json").read_text())
    assert partial["rows"]["orm"]["prompts"] == 6
    assert partial["rows"]["parm+other"]["prompts"] == 2
    assert partial["rows"]["orm"]["seconds_per_image"] is None
    resumed = run(parts)
    assert sorted(set(calls) - {("killed", 0)}) == sorted((key, k) for key in parts.generators for k in range(6))
    assert len(calls) == 13
    assert candidates(tmp_path / "parts") == found
    assert numbers(resumed) == numbers(whole)

    shared = run(recipe(tmp_path / "shared", quick_tiny).model_copy(update=untimed), workers=2)
    assert candidates(tmp_path / "shared") == found
    assert numbers(shared) == numbers(whole)

    with pytest.raises(UsageError, match="holds another study"):
        run(parts.model_copy(update={"seed": 1}))


def test_what_was_typed_is_recorded_and_rows_are_chosen_by_name(tmp_path, quick_tiny):
    asked = recipe(tmp_path / "out", quick_tiny)
    assert list(chosen(asked, "baseline, orm").rows) == ["baseline", "orm"]
    assert chosen(asked, "") is asked
    with pytest.raises(UsageError, match="no row 'x'"):
        chosen(asked, "x")
    corrections = CorrectionsRecipe(output="o", generator="g", corrector="c", verifier="v")
    with pytest.raises(UsageError, match="no rows to choose from"):
        chosen(corrections, "baseline")
    assert typed(Path("my study.yaml")) == "imagecot study 'my study.yaml'"
    assert typed(Path("a.yaml"), ["n=4"], rows="baseline,orm", workers=2) == (
        "imagecot study a.yaml n=4 --rows baseline,orm --workers 2"
    )


@pytest.mark.parametrize("file", ["summary.json", "parm/summary.json"])
def test_a_summary_is_written_as_it_was_read(file, tmp_path):
    text = (RECIPES.parents[1] / "docs/results/tiny" / file).read_text()
    write_summary(tmp_path, Summary.model_validate_json(text))
    assert (tmp_path / "summary.json").read_text() == text


def test_models_are_looked_for_before_a_folder_is_claimed(tmp_path, quick_tiny):
    wrong = recipe(tmp_path / "x", quick_tiny).model_copy(update={"generators": {"baseline": "tyni", "other": "tiny"}})
    with pytest.raises(UsageError, match="no generator 'tyni'"):
        run(wrong)
    assert not (tmp_path / "x").exists()


def test_the_command_names_what_comes_next(imagecot, tmp_path, quick_tiny):
    values = recipe(tmp_path / "out", quick_tiny).model_dump(mode="json", exclude_unset=True)
    Path("small.yaml").write_text(json.dumps(values))  # JSON is YAML
    changes = ("timed_prompts=0", "gallery=0", "n=1")
    code, out, _ = imagecot("study", "small.yaml", *changes)
    assert code == 0
    assert f"imagecot report {tmp_path}/out" in out
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["command"].startswith("imagecot study small.yaml timed_prompts=0")
    assert summary["rows"]["orm"]["overall_se"] is None  # one prompt a task
    assert summary["gallery"] == []


def early(row) -> dict[str, int]:
    """The first of two steps, where a search has a first one to look at."""
    return dict.fromkeys({"first_step"} & type(row.how.settings).model_fields.keys(), 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "file", sorted(f for f in RECIPES.glob("*.yaml") if f.stem != "corrections"), ids=lambda file: file.stem
)
def test_shipped_studies_run_to_their_end(file, tmp_path, quick_tiny):
    """With small weights under every name: all rows and curves, or Table 5, are in the summary."""
    shipped = check(read_yaml(file), StudyRecipe, file.name)
    small = {"output": tmp_path / "s", "n": 2, "prompts_per_task": 1, "timed_prompts": 1, "detector": "pictograms"}
    rows = {
        name: row.model_copy(update={"verifier": row.verifier and "tiny-zero-shot", **early(row)})
        for name, row in shipped.rows.items()
    }
    names = {"correcting_generator": str(quick_tiny), **dict.fromkeys(("orm", "parm", "parm_plus_plus"), "tiny-parm")}
    part = shipped.self_correction
    update = {
        **small,
        "generators": dict.fromkeys(shipped.generators, str(quick_tiny)),
        "rows": rows,
        "self_correction": part and part.model_copy(update={**names, "more_paths": 3, "first_step": 1}),
    }
    summary = run(shipped.model_copy(update=update))
    assert set(rows) <= set(summary.rows)
    assert set(summary.curves) == set(shipped.generators)
    assert all(summary.rows[name].seconds_per_image > 0 for name in rows)
    if part:
        assert summary.self_correction.prompts == 6


def test_a_study_may_grow_by_generators_and_change_its_labels(tmp_path, quick_tiny):
    asked = recipe(tmp_path / "study", quick_tiny)
    first = {key: row for key, row in asked.rows.items() if row.generator == "baseline"}
    part = asked.model_copy(update={"generators": {"baseline": str(quick_tiny)}, "rows": first})
    weights = {"generators": {"a": {"generator": "1"}}, "verifiers": {}}
    claim_folder(part, weights)
    named = first | {"orm": first["orm"].model_copy(update={"label": "by the ORM"})}
    claim_folder(part.model_copy(update={"rows": named}), weights)
    claim_folder(asked, weights)
    claim_folder(part, weights)
    # Digests that earlier versions did not take yet.
    claim_folder(part, {**weights, "generators": {"a": {"generator": "1", "settings": "9"}}})
    with pytest.raises(UsageError, match="holds another study"):
        claim_folder(part, {**weights, "generators": {"a": {"generator": "1", "settings": "8"}}})
    # What draws and judges is known by both.
    both = {"generators": {"b": {"generator": "1"}}, "verifiers": {"b": {"verifier": "2"}}}
    claim_folder(part, both)
    claim_folder(part, {**both, "verifiers": {}})
    for changed in ({"generators": {"b": {"generator": "2"}}}, {"verifiers": {"b": {"verifier": "1"}}}):
        with pytest.raises(UsageError, match="holds another study"):
            claim_folder(part, both | changed)
    other = first | {"orm": first["orm"].model_copy(update={"verifier": "tiny-orm"})}
    for rows, found in ((other, weights), (first, {**weights, "generators": {"a": {"generator": "2"}}})):
        with pytest.raises(UsageError, match="holds another study"):
            claim_folder(part.model_copy(update={"rows": rows}), found)
    with pytest.raises(UsageError, match=r"holds another study \(n 3, not 4\)"):
        claim_folder(part.model_copy(update={"n": 4}), weights)


def test_other_judges_look_again_and_nothing_is_drawn(tmp_path, quick_tiny, monkeypatch):
    asked = recipe(tmp_path / "study", quick_tiny).model_copy(update={"timed_prompts": 0, "gallery": 0})
    first = run(asked)
    file, drawn = tmp_path / "study/candidates/baseline.jsonl", candidates(tmp_path / "study")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert all(len(row["codes"]) == 3 and len(row["codes"][0]) == 64 for row in rows)

    def reject(row):
        """The row as judges of other weights left it, to whom nothing is right."""
        prm = {**row["searches"]["prm"], "correct": [False, False]}
        return {
            **row, "judges": ["a", "b"], "correct": [[False] * 3] * 2, "reasons": ["?"] * 3,
            "searches": {**row["searches"], "prm": prm},
        }  # fmt: skip

    file.write_text("".join(json.dumps(reject(row)) + "\n" for row in rows))
    assert candidates(tmp_path / "study") != drawn
    monkeypatch.setattr(draw, "observe", None)  # whatever is drawn fails
    again = run(asked)
    assert candidates(tmp_path / "study") == drawn
    assert numbers(again) == numbers(first)

    old = [{name: value for name, value in reject(row).items() if name != "codes"} for row in rows]
    file.write_text("".join(json.dumps(row) + "\n" for row in old))
    with pytest.raises(ImagecotError, match=r"baseline\.jsonl was judged by other weights and keeps no codes; delete"):
        run(asked)
