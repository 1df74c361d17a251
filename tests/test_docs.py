"""Pages keep their form: parts of experiments, links that lead somewhere, lines that fit, files that commands name."""

import re
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXPERIMENTS = ROOT / "docs" / "experiments"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *(page for page in sorted((ROOT / "docs").rglob("*.md")) if "results" not in page.parts),
    *sorted((ROOT / "src" / "imagecot" / "checkpoints").glob("*/README.md")),
]
TOPICS = [page for page in sorted(EXPERIMENTS.glob("*.md")) if page.stem not in ("index", "next")]
REMOVED = "no longer in the repository"
PARTS = ("Question", "Command", "Result", "Conclusion")
STATUS = r"(holds|negative result|open|superseded by \[[^\]]+\]\([^)]+\))"
FACTS = re.compile(rf"\d{{4}}-\d{{2}}-\d{{2}} · [^·]+ · [^·]*(seed|random moments)[^·]* · status: {STATUS}")


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(text: str) -> str:
    """The text without its blocks of code."""
    return re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)


def without_code(text: str) -> str:
    return re.sub(r"`[^`]*`", "", prose(text))


# --- experiments


def sections(page: Path) -> list[tuple[str, str]]:
    """Heading and body of each experiment of a page."""
    _, *found = re.split(r"^## ", text_of(page), flags=re.M)
    return [(section.split("\n", 1)[0], section.split("\n", 1)[1]) for section in found]


def sentences(text: str) -> int:
    """How many sentences a text has, where points of numbers and of code are none."""
    return len(re.findall(r"[.?!][\"*)]*(?=\s|$)", re.sub(r"`[^`]*`", "x", text).strip()))


def faults(body: str) -> list[str]:
    """What an experiment lacks of the form that docs/experiments/index.md asks for."""
    facts, *rest = body.strip().split("\n\n")
    found = [] if FACTS.fullmatch(" ".join(facts.split())) else [f"no line of facts: {facts!r}"]
    heads = re.findall(r"^\*\*(\w+)\.\*\*\s", "\n".join(rest), re.M)
    if tuple(heads) != PARTS:
        return [*found, f"parts are {heads}"]
    _, question, command, result, conclusion = re.split(
        r"^\*\*(?:Question|Command|Result|Conclusion)\.\*\*\s", body, flags=re.M
    )
    if not 1 <= sentences(question) <= 2:
        found.append(f"a question of {sentences(question)} sentences")
    if not ("`" in command or re.match(r"No( full)? command", command)):
        found.append("neither a command nor a word that there was none")
    if not re.search(r"^\|[-:|]+\|$", result, re.M):
        found.append("no table of results")
    if not 1 <= sentences(conclusion) <= 3:
        found.append(f"a conclusion of {sentences(conclusion)} sentences")
    return found


@pytest.mark.parametrize("page", TOPICS, ids=lambda page: page.stem)
def test_experiments_have_the_fixed_form(page: Path) -> None:
    found = sections(page)
    assert found
    assert {heading: faults(body) for heading, body in found if faults(body)} == {}


def test_a_section_that_lacks_a_part_is_seen() -> None:
    good = (
        "2026-01-01 · two cores · seed 0 · status: superseded by [b](#b)\n\n**Question.** Does .5 do?\n\n"
        "**Command.** `imagecot models`\n\n**Result.**\n\n| a |\n|--:|\n| .5 (.1) |\n\n**Conclusion.** It does.\n"
    )
    assert faults(good) == []
    for was, wrong in (
        ("seed 0", "a machine"),
        ("status: superseded by [b](#b)", "status: replaced"),
        ("**Question.** ", ""),
        ("`imagecot models`", "We trained it."),
        ("|--:|\n", ""),
        ("It does.", "It does. It does. It does. It does."),
    ):
        assert faults(good.replace(was, wrong)), wrong


def test_the_index_lists_every_topic_with_its_newest_date() -> None:
    rows = dict(
        re.findall(r"^\| \[[^\]]+\]\((\w[\w-]*)\.md\).*\| ([\d-]*) ?\|$", text_of(EXPERIMENTS / "index.md"), re.M)
    )
    newest = {page.stem: max(re.findall(r"^(\d{4}-\d\d-\d\d) ·", text_of(page), re.M)) for page in TOPICS}
    assert rows == {**newest, "next": ""}


@pytest.mark.parametrize("page", sorted(EXPERIMENTS.glob("*.md")), ids=lambda page: page.stem)
def test_commands_of_experiments_are_inline(page: Path) -> None:
    assert "```" not in text_of(page)


# --- links


def anchors(page: Path) -> set[str]:
    """What GitHub and MkDocs call the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", prose(text_of(page)), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def links(text: str) -> Iterator[str]:
    """Targets of the relative links of a page; a reference without a target is one that leads nowhere."""
    text = without_code(text)
    targets = dict(re.findall(r"^\[([^\]]+)\]: (\S+)$", text, re.M))
    yield from re.findall(r"\]\(([^)\s]+)\)", text)
    yield from (targets.get(name, f"[{name}]") for name in re.findall(r"\]\[([^\]]+)\]", text))
    yield from targets.values()


def broken(page: Path) -> list[str]:
    found = []
    for link in links(text_of(page)):
        if re.match(r"https?:|mailto:", link):
            continue
        target, _, anchor = link.partition("#")
        file = page.parent / target if target else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    assert broken(page) == []


def test_links_that_lead_nowhere_are_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A head, with `code`\n[a](#a-head-with-code) [b](#b) [c](c.md) [d][e] [f][g]\n\n[g]: h.md\n")
    assert broken(page) == ["#b", "c.md", "[e]", "h.md", "h.md"]


# --- commands


def named_files(text: str) -> Iterator[str]:
    """Files of the repository that the inline commands of a text name; of a paragraph that says they are gone, none."""
    for paragraph in prose(text).split("\n\n"):
        if REMOVED in " ".join(paragraph.split()):
            continue
        for command in re.findall(r"`((?:imagecot|pytest) [^`]+)`", paragraph):
            for word in command.split():
                path = word.rpartition("=")[2]
                if re.match(r"(recipes|src|tests|docs|data)/", path):
                    yield path


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_inline_commands_name_files_that_are_there(page: Path) -> None:
    assert [path for path in named_files(text_of(page)) if not (ROOT / path).exists()] == []


def test_files_of_inline_commands_are_found() -> None:
    text = (
        "`imagecot study recipes/a.yaml\nstart_from=src/b output=runs/c`\n\n`imagecot study recipes/d.yaml` is "
        + REMOVED
    )
    assert [*named_files(text)] == ["recipes/a.yaml", "src/b"]


# --- docstrings


def test_aligned_lists_of_docstrings_are_shown_as_lists() -> None:
    pytest.importorskip("griffe")
    as_lists = runpy.run_path(str(ROOT / "docs" / "_hooks" / "docstrings.py"))["as_lists"]
    text = "Draws.\n\n`a`      one\n         more of it\nb, c_d  two\nIt ends.\n\n    code  # stays\n\nLast."
    assert as_lists(text) == (
        "Draws.\n\n\n- `a`: one\n         more of it\n- `b, c_d`: two\n\nIt ends.\n\n    code  # stays\n\nLast."
    )
    assert as_lists("One line.") == "One line."


def test_a_recipe_is_shown_with_its_keys() -> None:
    griffe = pytest.importorskip("griffe")
    keys = runpy.run_path(str(ROOT / "docs" / "_hooks" / "docstrings.py"))["keys"]
    code = "class A(BaseModel):\n    model_config = 1\n    n: int\n    share: float = 0.5\n    def f(self): ..."
    assert keys(griffe.visit("m", filepath=None, code=code)["A"]) == "\n    n: int\n    share: float = 0.5"
