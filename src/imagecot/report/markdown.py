"""A report as Markdown for docs, its pictures beside it."""

import re
from urllib.parse import quote

from imagecot.naming import printable
from imagecot.report.blocks import (
    Block,
    Command,
    Fold,
    Gallery,
    Heading,
    Items,
    Line,
    Paragraph,
    Picture,
    Pictures,
    Table,
    joined,
)
from imagecot.report.html import escape


def document(title: str, blocks: list[Block], figures: str = "figures") -> str:
    """The whole text; pictures are looked for in the folder `figures` beside it."""
    return f"# {plain(title)}\n\n" + _text(blocks, figures)


def _text(blocks: list[Block], figures: str) -> str:
    return "\n\n".join(_block(block, figures) for block in blocks) + "\n"


def plain(text: str) -> str:
    """Text whose characters mean themselves, on one line."""
    return re.sub(r"([\\`*_|<>\[\]#~&$])", r"\\\1", printable(re.sub(r"\s+", " ", text)))


def table(block: Table) -> str:
    """A table alone."""
    lines = ["| " + " | ".join(map(plain, block.head)) + " |", "|---" + "|--:" * (len(block.head) - 1) + "|"]
    lines += ["| " + " | ".join(map(_line, row)) + " |" for row in block.rows]
    return "\n".join(lines)


def picture(block: Picture, figures: str) -> str:
    """A picture by its relative address."""
    return f"![{plain(block.alt)}]({quote(figures)}/{block.name}.png)"


def _block(block: Block, figures: str) -> str:
    match block:
        case Heading(text):
            return f"## {plain(text)}"
        case Paragraph(line):
            return _line(line)
        case Items(lines):
            return "\n".join(f"- {_line(line)}" for line in lines)
        case Command(text):
            longest = max(map(len, re.findall("`+", text)), default=0)
            fence = "`" * max(3, longest + 1)  # what is inside cannot end it
            return f"{fence}bash\n{printable(text)}\n{fence}"
        case Table():
            return table(block)
        case Picture():
            return picture(block, figures)
        case Pictures(pictures):
            return " ".join(picture(one, figures) for one in pictures)
        case Gallery(sheet=Picture() as sheet):
            return picture(sheet, figures)
        case Gallery():
            return ""
        case Fold(title, blocks):
            return f"<details>\n<summary>{escape(title)}</summary>\n\n{_text(blocks, figures)}\n</details>"


def _line(line: Line) -> str:
    return joined(line, plain, lambda text: f"**{plain(text)}**", code)


def code(text: str) -> str:
    """Something to type within a line; it cannot end the span, nor the cell of a table, nor be a comment's mark."""
    inside = printable(" ".join(text.split())).replace("`", "'").replace("|", "\\|").replace("<!--", "<! --")
    return f"`{inside}`"
