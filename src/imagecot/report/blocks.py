"""What a report is made of, before templates write it as HTML and as Markdown (`render.py`), which escape all of it."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Strong:
    """Words in bold."""

    text: str


@dataclass(frozen=True)
class Code:
    """Something to type, or a name of the program."""

    text: str


Span = str | Strong | Code
Line = Span | tuple[Span, ...]


@dataclass(frozen=True)
class Heading:
    """The title of a section."""

    text: str


@dataclass(frozen=True)
class Paragraph:
    """Sentences."""

    line: Line


@dataclass(frozen=True)
class Items:
    """A list."""

    lines: list[Line]


@dataclass(frozen=True)
class Command:
    """What to type in a terminal."""

    text: str


@dataclass(frozen=True)
class Table:
    """Cells under a head, the first column left, the others right."""

    head: list[str]
    rows: list[list[Line]]


@dataclass(frozen=True)
class Picture:
    """A PNG with what it shows in words; `name` is its file's, without the ending."""

    name: str
    png: bytes
    alt: str


@dataclass(frozen=True)
class Pictures:
    """Pictures that stand side by side where there is room."""

    pictures: list[Picture]


@dataclass(frozen=True)
class Card:
    """The image that row `name` chose and the judges' verdicts on it (None: unknown); a coarse one shows its pixels."""

    name: str
    label: str
    png: bytes
    marks: list[bool | None]
    coarse: bool


@dataclass(frozen=True)
class Gallery:
    """Cards under the title of each prompt; `sheet` shows the same as one picture."""

    prompts: list[tuple[Line, list[Card]]]
    sheet: Picture | None = None


@dataclass(frozen=True)
class Fold:
    """Blocks that are opened on request."""

    title: str
    blocks: list["Block"] = field(default_factory=list)


Block = Heading | Paragraph | Items | Command | Table | Picture | Pictures | Gallery | Fold
BLOCKS = Heading, Paragraph, Items, Command, Table, Picture, Pictures, Gallery, Fold


def pictures(blocks: list[Block]) -> list[Picture]:
    """Every picture that is a file of its own, in order."""
    found: list[Picture] = []
    for block in blocks:
        match block:
            case Picture():
                found.append(block)
            case Pictures():
                found += block.pictures
            case Gallery(sheet=Picture() as sheet):
                found.append(sheet)
            case Fold():
                found += pictures(block.blocks)
    return found
