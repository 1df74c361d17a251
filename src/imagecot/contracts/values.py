"""What JSON holds, as a type."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"
"""A value that JSON holds."""


def rounded(value: JSON, places: int) -> JSON:
    """The same value with so many digits behind the point of every number in it."""
    if isinstance(value, Mapping):
        return {name: rounded(one, places) for name, one in value.items()}
    if isinstance(value, list):
        return [rounded(one, places) for one in value]
    return round(value, places) if isinstance(value, float) else value
