"""Ways to damage a record or a file, for tests that want a sentence and nothing else."""

import copy
from typing import Any

from hypothesis import strategies as st

JUNK = (
    None,
    True,
    False,
    "",
    "x",
    "\u2028",
    "$a$",
    -1,
    0,
    2**63,
    10**400,
    0.5,
    1e308,
    [],
    [[]],
    {},
    {"": None},
    [None],
)


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """The paths of all values inside a value of JSON, itself left out."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, item in items for place in [(*path, key), *places(item, (*path, key))]]


def replaced(value: Any, path: tuple, junk: Any) -> Any:
    """A copy of a value of JSON with something else at `path`."""
    changed = copy.deepcopy(value)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = junk
    return changed


def removed(value: Any, path: tuple) -> Any:
    """A copy of a value of JSON without what stands at `path`."""
    changed = copy.deepcopy(value)
    place = changed
    for key in path[:-1]:
        place = place[key]
    del place[path[-1]]
    return changed


@st.composite
def damaged(draw: st.DrawFn, value: Any) -> Any:
    """A value of JSON in which one thing is gone or something else."""
    path = draw(st.sampled_from(places(value)))
    if draw(st.booleans()):
        return removed(value, path)
    return replaced(value, path, draw(st.sampled_from(JUNK)))


@st.composite
def damaged_bytes(draw: st.DrawFn, data: bytes) -> bytes:
    """Bytes that are cut, or of which some are others."""
    at = draw(st.integers(0, max(0, len(data) - 1)))
    if draw(st.booleans()):
        return data[:at]
    there = draw(st.binary(min_size=1, max_size=4))
    return data[:at] + there + data[at + len(there) :]
