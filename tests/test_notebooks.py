"""The notebooks run as written, from top to bottom, at a smaller size where their first cell says one."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "docs" / "notebooks"
# Smaller values of what the cell with the tag `parameters` assigns.
SMALL: dict[str, dict[str, int]] = {
    "1-first-image": {"PATHS": 4},
    "2-own-verifier": {"PATHS": 4},
    "3-own-search": {"PATHS": 4},
    "4-curate-finetune-align": {
        "PROMPTS_PER_TASK": 3,
        "PATHS": 4,
        "EPOCHS": 1,
        "TEST_PROMPTS_PER_TASK": 2,
        "TEST_PATHS": 2,
    },
}

SLOW = {"4-curate-finetune-align"}


def notebooks() -> list[Path]:
    return sorted(FOLDER.glob("*.ipynb"))


def cells(file: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Kind, text and tags of each cell."""
    for cell in json.loads(file.read_text(encoding="utf-8"))["cells"]:
        yield cell["cell_type"], "".join(cell["source"]), cell["metadata"].get("tags", [])


def assigned(code: str) -> set[str]:
    """The names that a cell assigns."""
    found = [node.targets[0] for node in ast.parse(code).body if isinstance(node, ast.Assign)]
    return {target.id for target in found if isinstance(target, ast.Name)}


def test_every_notebook_is_run() -> None:
    assert [file.stem for file in notebooks()] == list(SMALL)


RUN = [pytest.param(file, marks=[pytest.mark.slow] if file.stem in SLOW else [], id=file.stem) for file in notebooks()]


@pytest.mark.parametrize("file", RUN)
def test_a_notebook_runs(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    smaller = dict(SMALL[file.stem])
    for number, (kind, text, tags) in enumerate(cells(file)):
        if kind != "code":
            continue
        exec(compile(text, f"{file.name}[{number}]", "exec"), names)
        if "parameters" in tags:
            assert set(smaller) <= assigned(text)
            names |= smaller
            smaller = {}
    assert not smaller  # some cell has the tag
    assert capsys.readouterr().out


@pytest.mark.parametrize("file", notebooks(), ids=lambda file: file.stem)
def test_notebooks_hold_no_results_and_lines_that_fit(file: Path) -> None:
    book = json.loads(file.read_text(encoding="utf-8"))
    assert (book["nbformat"], book["nbformat_minor"]) == (4, 5)
    code = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert len({cell["id"] for cell in book["cells"]}) == len(book["cells"])
    long = [line for _, text, _ in cells(file) for line in text.splitlines() if len(line) > 120]
    assert long == []
