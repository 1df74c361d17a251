"""README and documentation work as written: every block of code runs, in the order of its page."""

import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from imagecot.strategies.trace import Trace

ROOT = Path(__file__).parent.parent
ELSEWHERE = {"extend", "results"}  # tests/test_extend_docs.py; reports of studies
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *(page for page in sorted((ROOT / "docs").rglob("*.md")) if not ELSEWHERE & set(page.parts)),
]
# Sections whose blocks other tests run, with what they need: a server, a hub, or a judge that fails.
APART = {
    "judges.md": {
        "Served judges": "tests/test_served_runs.py",
        "The generator judges itself": "tests/test_judging.py",
        "Is this judge to be trusted": "tests/test_trust.py",
    },
    "share.md": dict.fromkeys(
        ("Publish and load", "Scores on the card", "Data and results"), "tests/test_hub_results.py"
    ),
}
SHOWN = {"yaml", "text"}  # files, and commands that need a terminal of their own
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
Run = Callable[..., tuple[int, str, str]]


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """Language and text of the blocks of code of a page, but those that other tests run."""
    for section in re.split(r"^## ", page.read_text(encoding="utf-8"), flags=re.M):
        if section.partition("\n")[0] not in APART.get(page.name, {}):
            yield from re.findall(r"^```(\w*)\n(.*?)^```", section, re.S | re.M)


def lines(block: str) -> list[str]:
    """The commands of a block, without the comments behind them."""
    found = [line.split("  #")[0].strip() for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in found if line]


def follow(command: str, imagecot: Run) -> None:
    """Run a command of ours; of make and git look whether there is such a thing, for they install and run for hours."""
    program, *words = shlex.split(command)
    if program == "imagecot":
        code, _, err = imagecot(*words)
        assert code == 0, (command, err)
    else:
        assert program == "make" and words[0] in TARGETS, command


@pytest.mark.parametrize(
    "page", [page for page in PAGES if [*blocks(page)]], ids=lambda page: str(page.relative_to(ROOT))
)
def test_every_block_of_code_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, imagecot: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.set_num_threads(1)
    scope: dict[str, Any] = {"__name__": "__main__"}
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["imagecot"])
    for language, block in blocks(page):
        if language == "python":
            exec(compile(block, page.name, "exec"), scope)
        elif language not in SHOWN:
            assert language == "bash", (page, language)
            for command in lines(block):
                follow(command, imagecot)
    if page.name == "README.md":
        the_example_of_the_readme_tells_what_it_says(scope["trace"])


def the_example_of_the_readme_tells_what_it_says(trace: Trace) -> None:
    assert len(trace.candidates) == 20 and trace.image.size == (64, 64)
    assert max(c.score for c in trace.candidates if c.truncated_at is None) == trace.choice.score
    stops = [c.truncated_at or 18 for c in trace.candidates]
    assert trace.cost.generator_rows == 2 * sum(stops)


def test_there_is_something_to_run() -> None:
    commands = [
        line for page in PAGES for language, block in blocks(page) if language == "bash" for line in lines(block)
    ]
    assert {"make demo", "make test", "make docs"} <= set(commands)
    assert sum(line.startswith("imagecot ") for line in commands) >= 15
