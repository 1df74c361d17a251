"""A report as one HTML page that needs nothing else: no script, no other file, light and dark, any width."""

import html
import re
from base64 import b64encode

from imagecot.naming import printable
from imagecot.report.blocks import (
    Block,
    Card,
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

STYLE = """
:root { color-scheme: light dark; --ink: #22242a; --soft: #62666f; --paper: #fbfaf7; --line: #dcdad3; --shade: #f1efe9;
  --right: #16693f; --wrong: #b3261e; --link: #2459a9; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e4df; --soft: #a3a6ad; --paper: #17181b; --line: #3a3c42;
  --shade: #222429; --right: #6fd19c; --wrong: #ff8f86; --link: #8fb8f5; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.25rem 1rem 4rem; max-width: 84rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; } h2 { font-size: 1.25rem; margin: 2.6rem 0 .6rem; }
p, ul { max-width: 46rem; overflow-wrap: anywhere; } li { margin: .25rem 0; } a { color: var(--link); }
nav { display: flex; flex-wrap: wrap; gap: .3rem 1rem; font-size: .9rem; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .55rem; text-align: right; white-space: nowrap; vertical-align: top;
  border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; min-width: 9rem; white-space: normal; position: sticky; left: 0;
  background: var(--paper); }
th { color: var(--soft); font-weight: 600; vertical-align: bottom; white-space: normal; }
pre { background: var(--shade); padding: .7rem .9rem; border-radius: 6px; font-size: .84rem; white-space: pre-wrap;
  overflow-wrap: anywhere; }
code { font-size: .9em; }
.side { display: flex; flex-wrap: wrap; gap: 1rem; } .side figure { flex: 1 1 20rem; }
figure { margin: 1rem 0; } figure img { max-width: 100%; border-radius: 6px; background: #fff; }
@media (max-width: 40rem) { .wide img { max-width: 46rem; } }
.cards { display: flex; flex-wrap: wrap; gap: .9rem .7rem; margin: .4rem 0 1.6rem; }
.card { width: 7rem; font-size: .78rem; line-height: 1.3; overflow-wrap: anywhere; }
.card img { width: 7rem; height: 7rem; object-fit: contain; display: block; border-radius: 4px; background: #fff; }
.coarse { image-rendering: pixelated; } .marks { font-weight: 700; margin: .15rem 0; }
.right { color: var(--right); } .wrong { color: var(--wrong); } .unknown { color: var(--soft); }
details { margin: 1rem 0; } summary { cursor: pointer; color: var(--link); }
""".strip()


def escape(text: str) -> str:
    """Text whose characters mean themselves; control characters are spelt out."""
    return html.escape(printable(text))


def page(title: str, blocks: list[Block]) -> str:
    """The whole page."""
    links = [f'<a href="#{slug(b.text)}">{escape(b.text)}</a>' for b in blocks if isinstance(b, Heading)]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{STYLE}\n</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n"
        f"<nav>{' '.join(links)}</nav>\n" + "\n".join(map(_block, blocks)) + "\n</body>\n</html>\n"
    )


def slug(text: str) -> str:
    """Words as an identifier."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "x"


def _block(block: Block) -> str:
    match block:
        case Heading(text):
            return f'<h2 id="{slug(text)}">{escape(text)}</h2>'
        case Paragraph(line):
            return f"<p>{_line(line)}</p>"
        case Items(lines):
            return "<ul>\n" + "\n".join(f"<li>{_line(line)}</li>" for line in lines) + "\n</ul>"
        case Command(text):
            return f"<pre>{escape(text)}</pre>"
        case Table(head, rows):
            top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
            body = "\n".join("<tr>" + "".join(f"<td>{_line(cell)}</td>" for cell in row) + "</tr>" for row in rows)
            return f'<div class="wide"><table>\n<tr>{top}</tr>\n{body}\n</table></div>'
        case Picture():
            return _figure(block, ' class="wide"')
        case Pictures(pictures):
            return f'<div class="side">{"".join(map(_figure, pictures))}</div>'
        case Gallery(prompts):
            return "\n".join(
                f'<p>{_line(title)}</p>\n<div class="cards">{"".join(map(_card, cards))}</div>'
                for title, cards in prompts
            )
        case Fold(title, blocks):
            inside = "\n".join(map(_block, blocks))
            return f"<details>\n<summary>{escape(title)}</summary>\n{inside}\n</details>"


def _figure(picture: Picture, kind: str = "") -> str:
    return f"<figure{kind}>{_image(picture.png, picture.alt)}</figure>"


def _image(png: bytes, alt: str, kind: str = "") -> str:
    return f'<img src="data:image/png;base64,{b64encode(png).decode()}" alt="{escape(alt)}"{kind}>'


def _card(card: Card) -> str:
    marks = " ".join(map(_mark, range(1, len(card.marks) + 1), card.marks))
    image = _image(card.png, card.label, ' class="coarse"' if card.coarse else "")
    return f'<div class="card">{image}<div class="marks">{marks}</div>{escape(card.label)}</div>'


def _mark(number: int, right: bool | None) -> str:
    kind, sign = {True: ("right", "✓"), False: ("wrong", "✗"), None: ("unknown", "?")}[right]
    return f'<span class="{kind}" title="judge {number}: {kind}">{number}&thinsp;{sign}</span>'


def _line(line: Line) -> str:
    return joined(
        line, escape, lambda text: f"<strong>{escape(text)}</strong>", lambda text: f"<code>{escape(text)}</code>"
    )
