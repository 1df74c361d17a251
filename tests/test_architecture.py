"""Rooms and their arrows are those that docs/architecture.md draws; nothing asks for a name, or around a protocol.

And nothing grows beyond what is read at one go: functions, files, lines, and types that say nothing.
"""

import ast
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from imagecot import registry
from imagecot.models import HUB_MODELS

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "imagecot"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
_ASKS = ("startswith", "endswith", "removeprefix", "removesuffix")
MOST_LINES, MOST_POSITIONAL = 60, 6  # of a function; keyword-only parameters do not count
MOST_OF_A_FILE, WIDEST = 400, 120  # lines, columns
FEW = 60  # lines of the source that say Any
EXEMPT = ("docs/results/", "tests/data/")  # written by programs
# A line that is links or images and nothing else.
LINKS = re.compile(r"\s*(?:[-*] )?(?:(?:!?\[[^]]*\]\([^)]*\)|\[[^]]*\]: \S+|<?https?://\S+?>?)[.,;]?\s*)+")
PACKAGE = "imagecot"  # the room of the package's own `__init__.py`

# Where attributes are looked for by name: never on a generator, verifier, search, world or detector, but for the one
# function that says what such an object lacks.
BY_NAME = {
    "contracts/tree.py": "parts of dataclasses, and what tells named tuples from others",
    "generators/showo/prefix.py": "operations that a build of torch may lack",
    "geneval/mask2former.py": "configurations of transformers",
    "imported.py": "what a module has, and what an object lacks of a protocol, so as to say it",
    "verifiers/any_vlm.py": "processors of transformers",
    "verifiers/chat.py": "configurations of transformers",
}


@dataclass(frozen=True)
class Arrow:
    """An import: which module imports which room, when, and whether the code names it in a string alone."""

    module: str
    source: str
    target: str
    at_once: bool


def modules() -> Iterator[tuple[str, Path, ast.Module]]:
    for file in sorted(SOURCE.rglob("*.py")):
        name = ".".join(file.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__")
        yield name, file, ast.parse(file.read_text(encoding="utf-8"))


def room(module: str) -> str:
    """The folder or file directly in the package; the package itself for what it says of itself."""
    name = module.split(".")[1] if "." in module else ""
    there = bool(name) and ((SOURCE / name).is_dir() or (SOURCE / f"{name}.py").is_file())
    return name if there else PACKAGE


def imports(tree: ast.AST, at_once: bool = True, package: str = PACKAGE) -> Iterator[tuple[str, bool]]:
    """The modules that a tree imports, or names for a later import, and whether on its own import.

    package  the module's own name, of which `lazily.attributes` names the parts
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for one in node.orelse:
                yield from imports(one, at_once, package)
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{PACKAGE}.{one.name}" for one in node.names] if node.module == PACKAGE else [node.module]
            yield from ((name, at_once) for name in names)
        elif isinstance(node, ast.Import):
            yield from ((one.name, at_once) for one in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if re.fullmatch(rf"{PACKAGE}(\.\w+)+:\w+", node.value):
                yield node.value.partition(":")[0], False
        elif isinstance(node, ast.Call) and "import_module" in ast.dump(node.func) and node.args:
            said = node.args[0]
            if isinstance(said, ast.Constant) and isinstance(said.value, str):
                yield said.value, False
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "attributes":
            homes = [home for table in node.args if isinstance(table, ast.Dict) for home in table.values]
            yield from ((f"{package}.{home.value}", False) for home in homes if isinstance(home, ast.Constant))
        later = not at_once or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from imports(node, not later, package)


def filled(tree: ast.Module) -> ast.Module:
    """The tree with plain strings in place of f-strings that are made of the module's constants."""
    known = {
        name.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for name in node.targets
        if isinstance(name, ast.Name)
    }

    class Filling(ast.NodeTransformer):
        def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.expr:
            names = [part.value for part in node.values if isinstance(part, ast.FormattedValue)]
            if not all(isinstance(name, ast.Name) and isinstance(known.get(name.id), str) for name in names):
                return node
            parts = (part.value if isinstance(part, ast.Constant) else known[part.value.id] for part in node.values)
            return ast.Constant("".join(parts))

    return Filling().visit(tree)


@cache
def arrows() -> frozenset[Arrow]:
    found = {
        Arrow(name, room(name), room(target), at_once)
        for name, _, tree in modules()
        for target, at_once in imports(filled(tree), package=name)
        if target.split(".")[0] == PACKAGE
    }
    return frozenset(arrow for arrow in found if arrow.source != arrow.target)


def levels() -> dict[str, int]:
    """The number of each room in the page's list, from the ground up."""
    found: dict[str, int] = {}
    section = PAGE.partition("## Arrows go down")[2].partition("\n## ")[0]
    for line in re.findall(r"^(?:\d+\. .*(?:\n   .*)*)", section, re.M):
        number, _, text = line.partition(". ")
        for name in re.findall(r"`(\w+)`", text.partition(":")[0] if ":" in text else text):
            assert name not in found, f"{name} is listed twice"
            found[name] = int(number)
    return found


def allowed() -> set[tuple[str, str]]:
    """The arrows up that the page names, each with its reason."""
    section = PAGE.partition("## Arrows up")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| (.+) \|$", section, re.M)
    assert all(len(why) > 20 for _, _, why in rows)
    return {(source, target) for source, target, _ in rows}


def test_the_page_lists_every_room_once():
    rooms = {file.name for file in SOURCE.iterdir() if file.is_dir() and [*file.glob("*.py")]}
    rooms |= {file.stem for file in SOURCE.glob("*.py")} - {"__init__"} | {PACKAGE}
    assert {*levels()} == rooms


def test_arrows_go_down_but_for_those_that_the_page_names():
    level, up = levels(), {}
    for arrow in arrows():
        if level[arrow.source] < level[arrow.target]:
            up.setdefault((arrow.source, arrow.target), set()).add(arrow.module)
    assert {pair: modules for pair, modules in up.items() if pair not in allowed()} == {}
    assert allowed() - {*up} == set(), "arrows that are named and not there"


def test_no_circle_of_rooms_is_imported_at_once():
    after: dict[str, set[str]] = {}
    for arrow in arrows():
        if arrow.at_once:
            after.setdefault(arrow.source, set()).add(arrow.target)
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join((*way[way.index(name) :], name))
        if name not in done:
            for target in sorted(after.get(name, ())):
                visit(target, (*way, name))
            done.add(name)

    for name in sorted(after):
        visit(name, ())


def test_contracts_import_nothing_of_the_package():
    assert {arrow.target for arrow in arrows() if arrow.source == "contracts"} == {"lazily"}


def test_attributes_are_looked_for_by_name_only_where_it_says_why():
    found = set()
    for _, file, tree in modules():
        relative = file.relative_to(SOURCE)
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in ("getattr", "hasattr")
            ):
                found.add(relative.as_posix())
    assert found == {*BY_NAME}


def too_large(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Functions of too many lines or positional parameters, and the line that they begin on."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            taken = [one.arg for one in (*node.args.posonlyargs, *node.args.args) if one.arg not in ("self", "cls")]
            if (node.end_lineno or 0) - node.lineno >= MOST_LINES or len(taken) > MOST_POSITIONAL:
                yield node.name, node.lineno


def test_no_function_is_too_long_or_takes_too_much_by_position():
    found = [f"{name}:{line} {one}" for name, _, tree in modules() for one, line in too_large(tree)]
    assert found == []


def test_functions_that_are_too_large_are_seen():
    code = "def f(self, a, b, c, d, e, g): ...\ndef h(a, b, c, d, e, f, /, g): ...\nasync def i():\n"
    code += 59 * "    pass\n" + "def j(*, a, b, c, d, e, f, g):\n" + 60 * "    pass\n"
    assert [*too_large(ast.parse(code))] == [("h", 2), ("j", 63)]


def test_types_that_say_nothing_are_few():
    lines = [line for _, file, _ in modules() for line in file.read_text(encoding="utf-8").splitlines()]
    assert sum(bool(re.search(r"\bAny\b", line)) for line in lines) < FEW


def test_no_file_of_the_source_is_too_long():
    long = {name: len(file.read_text(encoding="utf-8").splitlines()) for name, file, _ in modules()}
    assert {name: lines for name, lines in long.items() if lines > MOST_OF_A_FILE} == {}


def too_wide(text: str) -> list[int]:
    """The numbers of lines that do not fit, but for those that are a link or an image and nothing else."""
    lines = enumerate(text.splitlines(), 1)
    return [number for number, line in lines if len(line) > WIDEST and not LINKS.fullmatch(line)]


def test_no_line_is_too_wide():
    kinds = ("*.py", "*.md", "*.yaml", "*.toml")
    listed = subprocess.run(["git", "ls-files", "-z", *kinds], cwd=ROOT, capture_output=True, text=True, check=True)
    files = [name for name in listed.stdout.split("\0") if name and not name.startswith(EXEMPT)]
    assert len(files) > 200
    there = [name for name in files if (ROOT / name).is_file()]
    found = [f"{name}:{line}" for name in there for line in too_wide((ROOT / name).read_text(encoding="utf-8"))]
    assert found == []


def test_lines_that_are_too_wide_are_seen():
    link = f"[a](https://{120 * 'x'})"
    assert too_wide(f"{120 * 'x'}\n{121 * 'x'}\n{link}\n![a picture](docs/{120 * 'y'}.png) {link}\nsee {link}\n") == [
        2,
        5,
    ]


def own_files() -> dict[str, str]:
    """Names of strategies, models and worlds, and the room or file whose own they are."""
    shipped = {folder.name for folder in (SOURCE / "checkpoints").iterdir() if folder.is_dir()}
    owners = dict.fromkeys([*shipped, *HUB_MODELS, "pictograms", "pictograms-2"], "")
    for role in ("search", "world"):
        for name, place in registry.ROLES[role].classes.items():
            path = place.partition(":")[0].split(".", 1)[1].replace(".", "/")
            owners[name] = path.rpartition("/")[0] if role == "world" and path.count("/") > 1 else f"{path}.py"
        owners |= dict.fromkeys(registry.ROLES[role].older, "")
    return owners


def texts(node: ast.AST, constants: dict[str, set[str]]) -> set[str]:
    """The strings that an expression holds, those of the module's constants too."""
    found = set()
    for one in ast.walk(node):
        if isinstance(one, ast.Constant) and isinstance(one.value, str):
            found.add(one.value)
        elif isinstance(one, ast.Name):
            found |= constants.get(one.id, set())
    return found


def conditions(tree: ast.Module) -> Iterator[tuple[int, set[str]]]:
    """The strings that a module compares with, and of which it asks whether something begins or ends so."""
    constants: dict[str, set[str]] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                names = target.elts if isinstance(target, ast.Tuple) else [target]
                values = node.value.elts if isinstance(node.value, ast.Tuple) and len(names) > 1 else [node.value]
                for name, value in zip(names, values, strict=False):
                    if isinstance(name, ast.Name) and isinstance(value, ast.Constant | ast.Tuple | ast.List | ast.Set):
                        constants[name.id] = texts(value, {})
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            for side in (node.left, *node.comparators):
                yield node.lineno, texts(side, constants)
        elif isinstance(node, ast.MatchValue):
            yield node.value.lineno, texts(node.value, constants)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _ASKS:
            yield node.lineno, {text.strip("-") for text in texts(node, constants)}


def test_no_name_of_a_strategy_model_or_world_stands_in_a_condition():
    owners = own_files()
    found = []
    for _, file, tree in modules():
        place = file.relative_to(SOURCE).as_posix()
        for line, said in conditions(tree):
            for name in said & owners.keys():
                if not owners[name] or not place.startswith(owners[name]):
                    found.append(f"{place}:{line} {name}")
    assert sorted(found) == []


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("if search == 'parm':\n    pass", 1),
        ("NAME = 'parm'\nx = NAME in names", 2),
        ("A, B = 'geneval', 'tiny'\n\n\nok = world != B", 4),
        ("x = name.startswith('tiny-')", 1),
        ("if search in ('single', 'parm'):\n    pass", 1),
    ],
)
def test_such_conditions_are_seen(code: str, line: int):
    said = [(number, texts & own_files().keys()) for number, texts in conditions(ast.parse(code))]
    assert [number for number, names in said if names] == [line]


def test_imports_are_seen_wherever_they_stand():
    code = """
from typing import TYPE_CHECKING
from imagecot.files import write
if TYPE_CHECKING:
    from imagecot.study import run
def later():
    from imagecot import registry
    import imagecot.hub
LOADER = "imagecot.worlds.drawn.world:Drawn"
ROOM = "imagecot.curation"
OTHER = f"{ROOM}.follow:run"
UNKNOWN = f"imagecot.{room}.follow:run"
__getattr__ = attributes(__name__, {"search": "api"})
"""
    found = [(name, at_once) for name, at_once in imports(filled(ast.parse(code))) if name.startswith(PACKAGE)]
    assert found == [
        ("imagecot.files", True),
        ("imagecot.registry", False),
        ("imagecot.hub", False),
        ("imagecot.worlds.drawn.world", False),
        ("imagecot.curation.follow", False),
        ("imagecot.api", False),
    ]
