"""What packages offer by their own names is there, and is imported when somebody asks for it, not before."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import imagecot

SOURCE = Path(imagecot.__file__).parent
TEXTS = {
    ".".join(("imagecot", *file.relative_to(SOURCE).parent.parts)): file.read_text(encoding="utf-8")
    for file in sorted(SOURCE.rglob("__init__.py"))
}
LAZY = [name for name, text in TEXTS.items() if "__getattr__ = attributes(" in text]


def offered(name: str) -> set[str]:
    """What a package says that it offers: in `__all__`, and to those that check types."""
    tree = ast.parse(TEXTS[name])
    told = {
        one.asname or one.name
        for block in tree.body
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.dump(block.test)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for one in node.names
    }
    return told | {*vars(importlib.import_module(name)).get("__all__", ())}


def test_packages_that_import_on_demand_are_found() -> None:
    assert {"imagecot", "imagecot.contracts", "imagecot.geneval", "imagecot.verifiers"} <= {*LAZY}


@pytest.mark.parametrize("name", LAZY)
def test_all_that_is_offered_is_there(name: str) -> None:
    package = importlib.import_module(name)
    names = offered(name)
    assert names
    for one in names:
        assert getattr(package, one) is not None, one
    with pytest.raises(AttributeError, match="has no attribute 'nothing_of_it'"):
        _ = package.nothing_of_it


def test_packages_are_imported_without_torch() -> None:
    code = f"import sys, {', '.join(LAZY)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
