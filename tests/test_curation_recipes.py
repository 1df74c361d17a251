"""Curations from Python: a recipe for each kind, what `run` returns and tells, and bounds that hold everywhere."""

from contextlib import contextmanager

import pytest
import torch
from pydantic import ValidationError

from imagecot.curation import (
    CurateCorrections,
    CurateExport,
    CurateImport,
    CurateOrm,
    CuratePairs,
    CurateParm,
    CuratePrm,
    CuratePrompts,
    CurateRedraws,
    CurateReflection,
    CurateRepairs,
    run,
)
from imagecot.curation.corrections import read_corrections
from imagecot.curation.dataset import read_rows
from imagecot.curation.pairs import read_pairs
from imagecot.errors import UsageError
from imagecot.watch import Watch

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def quick(quick_tiny) -> str:
    return str(quick_tiny)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, quick):
    """Curations that the others start from."""
    place = tmp_path_factory.mktemp("curated")
    run(CuratePrompts(output=place / "prompts.jsonl", per_task=1, seed=3))
    lines = (place / "prompts.jsonl").read_text().splitlines(keepends=True)
    (place / "one.jsonl").write_text(lines[0])
    (place / "two.jsonl").write_text("".join(lines[:2]))
    run(CurateOrm(prompts=place / "prompts.jsonl", output=place / "orm", paths=4, keep=4, generator=quick))
    run(CurateReflection(data=place / "orm", output=place / "reflection"))
    run(CurateRepairs(data=place / "orm", output=place / "repairs"))
    images = [place / "orm", place / "repairs"]
    run(CurateCorrections(data=[place / "reflection"], images=images, output=place / "corrections", most=2))
    return place


def test_every_curation_returns_what_it_wrote(folder, quick, tmp_path):
    one, orm = folder / "one.jsonl", folder / "orm"
    imported = {"file": tmp_path / "llava/data.json", "images": tmp_path / "llava"}
    for recipe in (
        CuratePrm(prompts=one, output=tmp_path / "prm", generator=quick),
        CurateParm(prompts=one, output=tmp_path / "parm", paths=2, keep=2, generator=quick),
        CurateRepairs(scenes=3, output=tmp_path / "near"),
        CurateRedraws(
            data=folder / "corrections", output=tmp_path / "redraws", groups=1, paths=2, keep=2, generator=quick
        ),
        CurateExport(data=orm, output=tmp_path / "llava"),
        CurateImport(**imported, output=tmp_path / "imported"),
    ):
        found = run(recipe)
        assert sum(found.counts.values()) > 0
        assert found.told == ", ".join(f"{count} {name}" for name, count in found.counts.items())
        if isinstance(recipe, CurateExport):
            assert found.place == tmp_path / "llava/data.json"
            assert found.counts == {"conversations": len(list(read_rows(orm)))}
        else:
            rows = [f"{row.question}/{row.label}" for row in read_rows(recipe.output)]
            assert found.counts == {name: rows.count(name) for name in sorted({*rows})}
            assert run(recipe) == found  # nothing is left to do
    pairs = run(CuratePairs(data=[orm, folder / "repairs"], output=tmp_path / "pairs", per_prompt=2))
    prompts = [pair.prompt for pair in read_pairs(tmp_path / "pairs")]
    assert pairs.counts == {"pairs": len(prompts), "prompts": len({*prompts})}
    assert pairs.told == f"{len(prompts)} pairs of {len({*prompts})} prompts"
    assert len(list(read_corrections(folder / "corrections"))) == 2


def test_the_command_the_file_and_python_write_the_same(folder, quick, tmp_path, imagecot):
    asked = ("--prompts", str(folder / "two.jsonl"), "--paths", "2", "--keep", "2", "--seed", "7", "--generator", quick)
    code, by_command, _ = imagecot("curate", "orm", *asked, "--out", "command")
    assert code == 0
    lines = f"kind: curate-orm\nprompts: {folder}/two.jsonl\noutput: file\npaths: 2\nkeep: 2\nseed: 7\n"
    lines += f"generator: {quick}\n"
    (tmp_path / "orm.yaml").write_text(lines)
    code, by_file, _ = imagecot("run", "orm.yaml")
    assert code == 0
    python = CurateOrm(
        prompts=folder / "two.jsonl", output=tmp_path / "python", paths=2, keep=2, seed=7, generator=quick
    )
    found = run(python)
    assert by_command == f"{found.told}: command\n"
    assert by_file == f"{found.told}: file\n"
    for name in ("command", "file"):
        assert list(read_rows(tmp_path / name)) == list(read_rows(python.output))
        for file in ("data/00000.parquet", "README.md", "curation.json"):
            assert (tmp_path / name / file).read_bytes() == (python.output / file).read_bytes()


def test_a_watch_sees_the_models_and_the_units_and_nobody_else_is_told(folder, quick, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr("imagecot.curation.job.UNIT", 2)
    seen = []

    @contextmanager
    def progress(what: str):
        yield lambda done, of, note="": seen.append((what, done, of))

    @contextmanager
    def waiting(what: str):
        seen.append(what)
        yield

    recipe = CurateOrm(prompts=folder / "two.jsonl", output=tmp_path / "orm", paths=2, keep=1, generator=quick)
    run(recipe, watch=Watch(progress=progress, waiting=waiting))
    assert seen == [("curating", 0, 2), "loading the models", ("curating", 1, 2), ("curating", 2, 2)]
    run(CuratePairs(data=[folder / "orm"], output=tmp_path / "pairs"))
    assert capfd.readouterr() == ("", "")


NEEDED = {
    CuratePrompts: {},
    CurateOrm: {"prompts": "p"},
    CuratePrm: {"prompts": "p"},
    CurateParm: {"prompts": "p"},
    CuratePairs: {"data": ["d"]},
    CurateReflection: {"data": "d"},
    CurateRepairs: {"data": "d"},
    CurateCorrections: {"data": ["d"], "images": ["i"]},
    CurateRedraws: {"data": "d"},
    CurateExport: {"data": "d"},
    CurateImport: {"file": "f", "images": "i"},
}
WRONG = [
    *((kind, {name: ""}) for kind, needed in NEEDED.items() for name in ("output", *needed)),
    *((kind, {"more": 1}) for kind in NEEDED),
    *((kind, {"kind": "curate-others"}) for kind in NEEDED),
    *((kind, {"seed": value}) for kind in (CuratePrompts, CuratePairs, CurateRedraws) for value in (2**63, "1", 0.5)),
    *((CuratePairs, {name: value}) for name in ("per_prompt", "most") for value in (0, 10**12, "1", True)),
    (CuratePairs, {"data": []}),
    (CurateCorrections, {"images": []}),
    (CurateCorrections, {"pairing": "neerest"}),
    (CurateRepairs, {"scenes": 3}),
    (CurateRepairs, {"data": None}),
    (CurateRepairs, {"data": None, "scenes": 10_000_001}),
    (CurateReflection, {"model": "m"}),
    (CurateReflection, {"endpoint": "http://host/v1"}),
    (CurateRedraws, {"groups": 0}),
    (CuratePrompts, {"per_task": 100_001}),
    (CurateOrm, {"precision": "float64"}),
    (CurateOrm, {"generator": " "}),
]


@pytest.mark.parametrize(("kind", "change"), WRONG)
def test_recipes_refuse_what_is_out_of_bounds(kind, change):
    kind(output="out", **NEEDED[kind])
    with pytest.raises(ValidationError):
        kind(**{"output": "out", **NEEDED[kind], **change})


def test_a_recipe_stays_as_it_is():
    recipe = CurateOrm(prompts="p", output="out")
    with pytest.raises(ValidationError, match="frozen"):
        recipe.paths = 3


def test_names_that_there_are_not_are_said_before_anything_is_read(tmp_path):
    for recipe in (
        CurateOrm(prompts="nowhere", output=tmp_path / "out", generator="nobody"),
        CuratePrm(prompts="nowhere", output=tmp_path / "out", detector="nobody"),
        CurateRedraws(data="nowhere", output=tmp_path / "out", generator="nobody"),
        CurateReflection(data="nowhere", output=tmp_path / "out", detector="nobody"),
        CurateRepairs(data="nowhere", output=tmp_path / "out", generator="nobody"),
    ):
        with pytest.raises(UsageError, match="nobody"):
            run(recipe)
    assert not (tmp_path / "out").exists()
