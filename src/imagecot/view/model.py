"""What the page shows, whatever folder it was read from: methods, prompts, and what each method made of each prompt.

A run, a row of a study, an evaluation and a curation are methods alike, so that any two can stand side by side.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

from imagecot.contracts.values import JSON

DISAGREE, WRONG_VERIFIER, RIGHT_STOPPED = "d", "v", "s"  # flags of a mark
Flag = Literal["d", "v", "s"]
Facts = Mapping[str, str]  # names and values for people


@dataclass(frozen=True)
class Asked:
    """An answer of the verifier; `step` is None where only the end is known."""

    step: int | None
    question: str
    p_yes: float
    fill: str | None = None


@dataclass(frozen=True)
class Said:
    """What the verifier said when asked what is wrong with an image, and how that was understood."""

    text: str
    p_yes: float
    understood: Sequence[str] = ()
    problem: str | None = None


@dataclass(frozen=True)
class Path:
    """One path of a search; fields of the same names as of `imagecot.contracts.search.Candidate`.

    pictures  step -> what it showed then
    final     its image, if any
    right     a verdict a judge, where it was judged
    why       what the first judge says
    changed   the share of pixels that differ from the image that it corrects, and a picture of where
    """

    asked: Sequence[Asked]
    score: float | None = None
    seed: int | None = None
    truncated_at: int | None = None
    first_clear: int | None = None
    resumed_at: int | None = None
    round: int = 0
    corrects: int | None = None
    forks: int | None = None
    forked_at: int | None = None
    said: Said | None = None
    pictures: Mapping[int, str] = field(default_factory=dict)
    final: str | None = None
    right: Sequence[bool] | None = None
    why: str = ""
    changed: tuple[float, str] | None = None


@dataclass(frozen=True)
class Search:
    """What a search did with a prompt.

    steps   of a path; None where they are not known
    """

    paths: Sequence[Path]
    chosen: int
    steps: int | None = None
    cost: Facts = field(default_factory=dict)
    story: Sequence[str] = ()


@dataclass(frozen=True)
class Shown:
    """An image with what was said of it: a verdict a judge (or a label), and why."""

    picture: str | None
    right: Sequence[bool | None] = ()
    why: Sequence[str] = ()
    p_yes: float | None = None
    facts: Facts = field(default_factory=dict)


@dataclass(frozen=True)
class Mark:
    """What a list shows of a method and a prompt.

    right    for each judge how many images are right, and of how many
    p_yes    of the choice
    """

    right: Sequence[tuple[int, int]] = ()
    p_yes: float | None = None
    flags: str = ""
    picture: str | None = None


@dataclass(frozen=True)
class Entry:
    """What one method made of one prompt; `wanted` says in words what the judges look for."""

    method: str
    prompt: str
    task: str
    mark: Mark
    wanted: str = ""
    search: Search | None = None
    images: Sequence[Shown] = ()


@dataclass(frozen=True)
class Score:
    """Shares of right images with their standard errors, and what an image takes in seconds."""

    overall: float | None = None
    se: float | None = None
    second: float | None = None
    second_se: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Method:
    """Who drew and chose.

    key     unique in its source
    judges  what the verdicts are called, the first judge first
    """

    key: str
    label: str
    judges: Sequence[str] = ()
    score: Score = field(default_factory=Score)
    facts: Facts = field(default_factory=dict)


@dataclass(frozen=True)
class Point:
    """A score over seconds an image; `n` paths."""

    seconds: float
    overall: float
    se: float | None = None
    n: int | None = None


@dataclass(frozen=True)
class Curve:
    """A line of a figure: a search of one generator, or a method alone."""

    figure: str
    label: str
    points: Sequence[Point]


@dataclass(frozen=True)
class Source:
    """A folder.

    kind      a word for people: run, evaluation, ...
    headline  what it is, in a sentence
    problems  what is missing or odd, a sentence each
    """

    name: str
    kind: str
    headline: str
    methods: Sequence[Method]
    entries: Sequence[Entry]
    facts: Facts = field(default_factory=dict)
    problems: Sequence[str] = ()
    curves: Sequence[Curve] = ()


def as_json(value: object) -> JSON:
    """A dataclass of this file as JSON, without what is empty."""
    return _plain(asdict(value))  # type: ignore[call-overload]


def _plain(value: object) -> JSON:
    match value:
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items() if item not in (None, (), [], {}, "")}
        case str() | bool() | int() | None:
            return value
        case float():
            return round(value, 6)
        case Sequence():
            return [_plain(item) for item in value]
    raise TypeError(f"nothing for a page: {type(value)}")


def flags_of(right: Sequence[bool | None], p_yes: float | None, stopped_right: bool = False) -> str:
    """The flags of a choice: judges disagree, P(yes) is on the wrong side, a stopped path was right."""
    known = [one for one in right if one is not None]
    found = DISAGREE if len(set(known)) > 1 else ""
    if p_yes is not None and known and (p_yes >= 0.5) != known[0]:
        found += WRONG_VERIFIER
    return found + (RIGHT_STOPPED if stopped_right else "")
