"""Work in units: what is to be done, unit by unit, and who does it.

A unit is a name and a durable result, which is written whole. What it holds depends on the recipe alone, so the results
are the same whoever takes part.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

Keep = Callable[[], object]
"""Writes the result of a unit; where there is one already, that one counts."""


@dataclass(frozen=True)
class Unit:
    """A piece of work.

    name    good for the name of a file
    marker  the file that is its result, within the folder of the work
    group   units of one group need the same models
    weight  about how long it takes, beside others
    """

    name: str
    marker: str
    group: str = ""
    weight: int = 1


class Worker(Protocol):
    """Who does units, with all models loaded."""

    def do(self, unit: Unit, /) -> Keep:
        """Make the result of a unit, and return what keeps it."""
        ...


class Work(Protocol):
    """What is to be done; it can be sent to another process."""

    @property
    def folder(self) -> Path:
        """Where the results lie."""
        ...

    @property
    def doing(self) -> str:
        """A word for it."""
        ...

    @property
    def units(self) -> Sequence[Unit]:
        """All units, in order."""
        ...

    def missing(self) -> list[Unit]:
        """Those that are not done, in order; none once all of them were joined to a whole."""
        ...

    def done(self, unit: Unit, /) -> bool:
        """Whether a unit that `missing` told has been done since."""
        ...

    def load(self) -> Worker:
        """Load the models; UsageError for what they cannot do."""
        ...


def absent(folder: Path, units: Iterable[Unit]) -> list[Unit]:
    """The units whose markers are not there: each folder of them is read once."""
    there: dict[str, set[str]] = {}
    found = []
    for unit in units:
        place, _, name = unit.marker.rpartition("/")
        if place not in there:
            there[place] = _names(folder / place)
        if name not in there[place]:
            found.append(unit)
    return found


def _names(folder: Path) -> set[str]:
    try:
        return {*os.listdir(folder)}
    except (FileNotFoundError, NotADirectoryError):
        return set()
