"""The lock holds every extra, each package with its digests, within the bounds that the project states."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK = (ROOT / "locks/versions.txt").read_text(encoding="utf-8")
PINS = re.findall(r"^([\w.-]+)==([\w.+!-]+)(?: ; ([^\\]+?))? \\\n((?:    --hash=.*\n?)+)", LOCK, re.M)
EXTRAS = {"": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}


def test_every_line_is_a_version_with_digests():
    assert len(PINS) == sum(not line.startswith(" ") for line in LOCK.splitlines())
    assert all("--hash=sha256:" in digests for _, _, _, digests in PINS)
    assert "torch" not in {name for name, *_ in PINS}  # each machine has its own


@pytest.mark.parametrize("extra", EXTRAS)
def test_what_the_project_asks_for_is_there_within_its_bounds(extra):
    for text in EXTRAS[extra]:
        asked = Requirement(text)
        found = [version for name, version, *_ in PINS if canonicalize_name(name) == canonicalize_name(asked.name)]
        assert found or asked.name == "torch", text
        assert all(asked.specifier.contains(version) for version in found), text


def test_what_development_installs_is_a_part_of_the_lock():
    names = (ROOT / "locks/dev.txt").read_text(encoding="utf-8").split()
    assert names == sorted(set(names)) and set(names) < {name for name, *_ in PINS}
    for text in (*EXTRAS[""], *EXTRAS["dev"]):
        name = canonicalize_name(Requirement(text).name)
        assert name in {*names, "torch"}, text


def test_what_is_used_has_bounds_on_both_sides():
    for text in EXTRAS[""]:
        operators = {part.operator for part in Requirement(text).specifier}
        assert operators == {">=", "<"}, text
