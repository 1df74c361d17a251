"""The page as files: `index.html` with its style and its program, and the data as scripts that it loads when needed.

A page that is opened from disk may load scripts but no JSON, so the data are scripts: calls of one function with JSON.
The page's own policy allows its program by digest, data and pictures from its own folder, and nothing else; whatever it
shows it writes as text.
"""

import hashlib
import json
import shutil
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from imagecot import __version__
from imagecot.contracts.values import JSON
from imagecot.errors import ImagecotError, UsageError
from imagecot.files import make_folder, write_folder
from imagecot.view.model import Curve, Entry, Method, Source, as_json
from imagecot.view.pictures import FOLDER, MOST_FILES, Pictures

MOST_SOURCES = 500
INDEX, MARK, DATA = "index.html", "view.json", "data"
_ICON = "icon.svg"
_LISTED, _TOLD = 400, 10  # prompts in a file of the list, and in one of the details
_SCRIPTS = (
    "base.js",
    "data.js",
    "state.js",
    "list.js",
    "grid.js",
    "tree.js",
    "detail.js",
    "overview.js",
    "keys.js",
    "main.js",
)
_CARD = """---
title: {title}
sdk: static
app_file: index.html
pinned: false
---

A page by imagecot {version}: paths, verdicts and choices, step by step. Open `index.html`; it needs no server.
"""


def write_page(out: Path, read: Callable[[Pictures], Sequence[Source]]) -> Path:
    """Write a page into `out` and return its index; `read` is given where pictures go.

    UsageError where `out` holds something else; ImagecotError where it cannot be written.
    """
    _refuse_other(out)

    def write(folder: Path) -> None:
        pictures = Pictures(folder)
        sources = read(pictures)
        _write_data(make_folder(folder / DATA), sources, pictures.left_out)
        title = ", ".join(source.name for source in sources[:3]) + (" and more" if len(sources) > 3 else "")
        (folder / "README.md").write_text(_CARD.format(title=json.dumps(title), version=__version__), encoding="utf-8")
        (folder / INDEX).write_text(page(), encoding="utf-8")
        (folder / _ICON).write_bytes((_room() / _ICON).read_bytes())
        (folder / MARK).write_text(json.dumps({"kind": "view", "version": __version__}) + "\n", encoding="utf-8")
        for old in (DATA, FOLDER):  # only now that all of the new page is there
            shutil.rmtree(out / old, ignore_errors=True)

    write_folder(out, write)
    return out / INDEX


def _refuse_other(out: Path) -> None:
    if out.is_symlink():
        raise ImagecotError(f"{out} is a link, which nothing is written through; remove it or choose another folder.")
    if out.is_file():
        raise UsageError(f"{out} is a file; give a folder to write to.")
    if out.is_dir() and any(out.iterdir()) and not (out / MARK).is_file():
        raise UsageError(f"{out} is not empty and holds no page of imagecot view; choose another folder.")


def page() -> str:
    """The text of `index.html`: the template with style and program, and a policy that allows just these."""
    room = _room()
    style = (room / "view.css").read_text(encoding="utf-8")
    program = "".join((room / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    program = f'"use strict";\n{{\n{program}}}\n'
    text = (room / "view.html").read_text(encoding="utf-8")
    for name, part in (("style", style), ("script", program)):
        text = text.replace(f"@{name}-digest@", _digest(part)).replace(f"@{name}@", part)
    return text


def _room() -> Traversable:
    return files("imagecot.view") / "page"


def _digest(text: str) -> str:
    return "'sha256-" + b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode() + "'"


def script(name: str, value: JSON) -> str:
    """A file of data: no text in it can end a script or begin a tag, wherever it is put."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return f"imagecotView({json.dumps(name)},{text});\n".encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def _write_data(folder: Path, sources: Sequence[Source], left_out: int) -> None:
    prompts, order = _by_prompt(sources)
    listed = [
        _parts(range(0, len(prompts), _LISTED), prompts, _LISTED),
        _parts(range(0, len(prompts), _TOLD), prompts, _TOLD),
    ]
    for kind, parts, row in (("list", listed[0], _in_list), ("told", listed[1], _in_detail)):
        for number, part in enumerate(parts):
            name = f"{kind}-{number}"
            (folder / f"{name}.js").write_text(script(name, [row(key, found) for key, found in part]), encoding="utf-8")
    told: JSON = {
        "version": __version__,
        "prompts": len(prompts),
        "listed": _LISTED,
        "told": _TOLD,
        "sources": [_source(source, left_out) for source in sources],
        "methods": [
            {"source": number, **as_json_of(method), "shown": (number, method.key) in order}
            for number, source in enumerate(sources)
            for method in source.methods
        ],
        "curves": [as_json(curve) for curve in _curves(sources)],
    }
    (folder / "page.js").write_text(script("page", told), encoding="utf-8")


Prompt = tuple[str, str]  # task and text
Found = Mapping[int, Entry]  # what methods made of a prompt, by their numbers


def _by_prompt(sources: Sequence[Source]) -> tuple[list[tuple[Prompt, Found]], set[tuple[int, str]]]:
    """All prompts in their order with what is known of each, and which methods are known anything of.

    A source that knows no task takes part in those that do.
    """
    numbers = {
        (number, method.key): k
        for k, (number, method) in enumerate((n, m) for n, source in enumerate(sources) for m in source.methods)
    }
    tasks: dict[str, str] = {}
    for source in sources:
        for entry in source.entries:
            if entry.task:
                tasks.setdefault(entry.prompt, entry.task)
    found: dict[Prompt, dict[int, Entry]] = {}
    order: set[tuple[int, str]] = set()
    for number, source in enumerate(sources):
        for entry in source.entries:
            key = (entry.task or tasks.get(entry.prompt, ""), entry.prompt)
            found.setdefault(key, {})[numbers[number, entry.method]] = entry
            order.add((number, entry.method))
    return [*found.items()], order


def _parts(
    starts: Iterable[int], prompts: Sequence[tuple[Prompt, Found]], size: int
) -> list[Sequence[tuple[Prompt, Found]]]:
    return [prompts[first : first + size] for first in starts]


def _in_list(prompt: Prompt, found: Found) -> JSON:
    return {"task": prompt[0], "prompt": prompt[1], "by": {str(k): as_json(entry.mark) for k, entry in found.items()}}


def _in_detail(prompt: Prompt, found: Found) -> JSON:
    wanted = next((entry.wanted for entry in found.values() if entry.wanted), "")
    by: dict[str, JSON] = {}
    for k, entry in found.items():
        search = {"search": as_json(entry.search)} if entry.search else {}
        by[str(k)] = {**search, "images": [as_json(image) for image in entry.images]}
    return {"wanted": wanted, "by": by}


def _source(source: Source, left_out: int) -> JSON:
    problems = list(source.problems)
    if left_out:
        problems.append(
            f"{left_out} pictures of this page could not be read, or are beyond the {MOST_FILES:,} that it holds."
        )
    facts: dict[str, JSON] = {**source.facts}
    return {
        "name": source.name, "kind": source.kind, "headline": source.headline, "facts": facts, "problems": [*problems],
    }  # fmt: skip


def as_json_of(method: Method) -> dict[str, JSON]:
    """A method without what is empty."""
    return {name: value for name, value in asdict(method).items() if value not in ((), {}, None)}


def _curves(sources: Sequence[Source]) -> list[Curve]:
    return [curve for source in sources for curve in source.curves]
