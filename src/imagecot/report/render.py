"""A report as text, by the templates beside this file: each of its words is escaped wherever a template writes it."""

import re
from base64 import b64encode
from collections.abc import Callable, Sequence
from functools import cache
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from imagecot.naming import printable
from imagecot.report import blocks as kinds
from imagecot.report.blocks import Block, Line, Picture, Span, Table

KINDS = (*kinds.BLOCKS, kinds.Strong, kinds.Code)


def page(title: str, blocks: Sequence[Block]) -> str:
    """One HTML page that needs nothing else."""
    return _html().get_template("report.html").render(title=title, blocks=blocks)


def document(title: str, blocks: Sequence[Block], figures: str = "figures") -> str:
    """Markdown for docs; pictures are looked for in the folder `figures` beside it."""
    return _markdown().get_template("report.md").render(title=title, blocks=blocks, figures=figures)


def fragment(rows: Table, prompts: str, date: str, command: str, curves: Sequence[Picture], figures: str) -> str:
    """What a README shows: a table, how it came about, and curves that lie in the folder `figures`."""
    told = {"rows": rows, "prompts": prompts, "date": date, "command": command, "curves": curves, "figures": figures}
    return _markdown().get_template("readme.md").render(told)


def plain(text: str) -> str:
    """Text whose characters mean themselves in Markdown, on one line."""
    return re.sub(r"([\\`*_|<>\[\]#~&$])", r"\\\1", printable(re.sub(r"\s+", " ", text)))


def slug(text: str) -> str:
    """Words as an identifier."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "x"


@cache
def _html() -> Environment:
    found = _environment(printable)
    found.filters |= {"slug": slug, "base64": lambda data: b64encode(data).decode()}
    return found


@cache
def _markdown() -> Environment:
    found = _environment(lambda text: Markup(plain(text)))
    found.filters |= {
        "address": lambda text: Markup(quote(text)),
        "code": _code,
        "fence": _fence,
        "html": lambda text: escape(printable(text)),
        "verbatim": lambda text: Markup(printable(text)),
    }
    return found


def _environment(written: Callable[[str], str]) -> Environment:
    """Templates in which every text is put through `written`, then escaped for HTML, but for what is `Markup`."""
    found = Environment(
        loader=PackageLoader("imagecot.report"),
        autoescape=True,
        finalize=lambda value: value if isinstance(value, Markup) else written(str(value)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.tests |= {kind.__name__.lower(): _is(kind) for kind in KINDS}
    found.filters["parts"] = _parts
    return found


def _is(kind: type) -> Callable[[object], bool]:
    return lambda block: isinstance(block, kind)


def _parts(line: Line) -> tuple[Span, ...]:
    return line if isinstance(line, tuple) else (line,)


def _code(text: str) -> Markup:
    """Something to type within a line; it cannot end the span, nor the cell of a table, nor be a comment's mark."""
    inside = printable(" ".join(text.split())).replace("`", "'").replace("|", "\\|").replace("<!--", "<! --")
    return Markup(f"`{inside}`")


def _fence(text: str) -> Markup:
    """What begins and ends a block of code, and stands nowhere in it."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    return Markup("`" * max(3, longest + 1))
