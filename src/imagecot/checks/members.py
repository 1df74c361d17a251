"""Whether an object has all that a protocol says.

Here, and nowhere else outside of the registry, is looked at what a class lacks, so as to say it by name.
"""

import inspect
from typing import Any

_NOTHING = object()


def lacking(model: Any, protocol: type) -> list[str]:
    """The methods and attributes of a protocol that an object does not have, or that are no methods."""
    declared = {**vars(protocol), **protocol.__annotations__}
    members = [name for name in declared if not name.startswith("_")]
    found = {name: inspect.getattr_static(model, name, _NOTHING) for name in members}
    return [
        name
        for name, value in found.items()
        if value is _NOTHING or (inspect.isfunction(declared[name]) and not callable(getattr(model, name)))
    ]


def lacks(model: Any, protocol: type) -> str | None:
    """What an object lacks of a protocol, in a sentence; None where it has all."""
    names = lacking(model, protocol)
    if not names:
        return None
    return f"it has no {', '.join(names)}; imagecot.contracts.{protocol.__name__} says what that is."
