"""What a room offers by its own name without loading it: attributes of a package that are imported when asked for."""

from collections.abc import Callable, Mapping
from pkgutil import resolve_name


def attributes(package: str, homes: Mapping[str, str]) -> Callable[[str], object]:
    """A `__getattr__` for a package: `homes` says in which of its modules a name is found."""

    def get(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found: object = resolve_name(f"{package}.{homes[name]}:{name}")
        return found

    return get
