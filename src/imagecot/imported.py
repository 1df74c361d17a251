"""Objects of other people's modules: `package.module:Class`, and entry points of installed packages.

What is named is a class or a function that makes an object, or the object itself. The current folder can be imported
from, as with other tools that take such a name.
"""

import hashlib
import importlib
import importlib.util
import inspect
import os
import re
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from imagecot import interruption
from imagecot.errors import ImagecotError, UsageError, first_line
from imagecot.memory import is_out_of_memory
from imagecot.naming import printable

Found = TypeVar("Found")

_NAME = re.compile(r"(?:[^\W\d]\w*\.)*[^\W\d]\w*:[^\W\d]\w*(?:\.[^\W\d]\w*)*")
_OURS = f"{__name__.partition('.')[0]}."  # how the names of our own modules begin
_LONGEST = 300  # characters that are told of an exception


@dataclass(frozen=True)
class Code:
    """What a name stands for: an attribute of a module.

    name    as it was asked for
    target  `package.module:attribute`
    """

    name: str
    target: str

    @property
    def module(self) -> str:
        """The module's name."""
        return self.target.partition(":")[0]

    def find(self) -> object:
        """Import the module and return what is named.

        UsageError where there is no such module or attribute; ImagecotError for whatever the module raises.
        """
        module, _, path = self.target.partition(":")
        self.check()
        with raised_by(f"{self.name} cannot be imported"), _current_folder_first():
            found: object = importlib.import_module(module)
        for attribute in filter(None, path.split(".")):
            with raised_by(f"{attribute} of {module} cannot be had"):
                if not hasattr(found, attribute):
                    raise UsageError(f"{self.name}: {module} has no {attribute!r}; check its spelling.")
                found = getattr(found, attribute)
        return found

    def check(self) -> None:
        """UsageError where there is no such module; nothing but the packages that it is in is imported for that."""
        with raised_by(f"{self.name} cannot be imported"), _current_folder_first():
            parts = self.module.split(".")
            for module in (".".join(parts[: end + 1]) for end in range(len(parts))):
                if module not in sys.modules and not _is_there(module):
                    raise UsageError(
                        f"{self.name}: there is no module {module!r} in the current folder or installed; check its "
                        "spelling, or install it."
                    )

    def make(self, protocol: type, given: Mapping[str, object]) -> object:
        """Return the object: what is named, or what the class or function makes.

        protocol  what makes an object of a module one that need not be called
        given     arguments by name, of which the class or function gets those that it takes; None is not given

        UsageError where it takes no `dtype` but one is given, or needs others; ImagecotError for whatever it raises.
        """
        found = self.find()
        with raised_by(f"{self.name} cannot be used"):
            if not isinstance(found, type) and isinstance(found, protocol):
                return found
            if not callable(found):
                raise UsageError(f"{self.name} is neither a class nor a function, but a {type(found).__name__}.")
        if inspect.isbuiltin(found):  # such as input, which would wait for ever
            raise UsageError(f"{self.name} is a built-in function, which makes nothing of the kind; name another.")
        arguments = self._arguments(found, {name: value for name, value in given.items() if value is not None})
        with raised_by(f"{self.name} cannot be made"):
            return found(**arguments)

    def _arguments(self, found: Callable[..., object], given: dict[str, object]) -> dict[str, object]:
        """Those of the given arguments that a class or function takes."""
        try:
            signature = inspect.signature(found)
        except (TypeError, ValueError):  # some of those that are not written in Python have none
            return {}
        parameters = signature.parameters.values()
        named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        anything = any(p.kind is p.VAR_KEYWORD for p in parameters)
        taken = {name: value for name, value in given.items() if anything or name in named}
        if "dtype" in given and "dtype" not in taken:
            raise UsageError(f"{self.name} takes no dtype, so it has one number format; leave the precision out.")
        try:
            signature.bind(**taken)
        except TypeError as error:
            raise UsageError(
                f"{self.name} cannot be made without arguments ({first_line(error)}); give them defaults, or name a "
                "function that makes one."
            ) from None
        return taken

    def digest(self) -> str | None:
        """SHA-256 of the source of what is named: its file, and those of the classes that it inherits from.

        Files of installed packages are left out, as versions tell them apart. None where there is no file. Imports the
        module.
        """
        found = self.find()
        if inspect.isfunction(found):
            homes = [found.__module__]
        elif isinstance(found, type):
            homes = [kind.__module__ for kind in found.__mro__]
        else:  # an instance is made by its module
            homes = [self.module, *(kind.__module__ for kind in type(found).__mro__)]
        files = [_source(sys.modules.get(home)) for home in dict.fromkeys(homes)]
        digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in dict.fromkeys(filter(None, files))]
        if len(digests) < 2:
            return digests[0] if digests else None
        return hashlib.sha256(" ".join(digests).encode()).hexdigest()


def _source(module: ModuleType | None) -> Path | None:
    """The source file of a module of somebody's own; None for one that is installed, or has no file."""
    file = Path(getattr(module, "__file__", None) or "")
    installed = (sysconfig.get_path(place) for place in ("stdlib", "purelib", "platlib"))
    own = [Path(__file__).parent, *map(Path, filter(None, installed))]
    return file if file.is_file() and not any(file.is_relative_to(folder) for folder in own) else None


def code_named(name: str) -> Code | None:
    """What `package.module:Class` stands for; None for a name that is not of this form."""
    return Code(name, name) if _NAME.fullmatch(name) else None


def entry_point(group: str, name: str) -> Code | None:
    """What an installed package calls by this name in a group of entry points; None where none does."""
    return next((Code(name, _target(point)) for point in metadata.entry_points(group=group, name=name)), None)


def entry_points(group: str) -> list[str]:
    """The names that installed packages give in a group of entry points."""
    return sorted({point.name for point in metadata.entry_points(group=group)})


def _target(point: metadata.EntryPoint) -> str:
    return f"{point.module}:{point.attr}" if point.attr else f"{point.module}:"


def meeting(found: Found, role: str, name: str, protocol: type) -> Found:
    """Return an object that meets a protocol; UsageError naming what it lacks, ImagecotError for what it raises."""
    members = [member for member in {**vars(protocol), **protocol.__annotations__} if not member.startswith("_")]
    nothing = object()
    lacking = [member for member in members if inspect.getattr_static(found, member, nothing) is nothing]
    for member in members:
        if member in lacking:
            continue
        try:
            value = getattr(found, member)
        except Exception as error:
            raise ImagecotError(f"{name}: its {member} cannot be had ({told(error)}); mend it.") from error
        if inspect.isfunction(vars(protocol).get(member)) and not callable(value):
            lacking.append(member)
    if lacking:
        raise UsageError(
            f"{name} is no {role}: it has no {', '.join(lacking)}; imagecot.contracts.{protocol.__name__} says what "
            "that is."
        )
    return found


def _is_there(module: str) -> bool:
    """Whether a module can be found; the packages that it is in are imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError as error:
        if error.name != module:  # one of the packages misses another module
            raise
        return False  # what it should be in is no package


@contextmanager
def _current_folder_first() -> Iterator[None]:
    """Let modules of the current folder be found before all others, and afterwards behind them."""
    here = os.getcwd()
    sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(here)
        if here not in sys.path:
            sys.path.append(here)  # for what the module itself imports later


@contextmanager
def raised_by(what: str) -> Iterator[None]:
    """Turn whatever other people's code raises inside into an ImagecotError: `what (exception)`."""
    try:
        yield
    except ImagecotError:
        raise
    except BaseException as error:
        # Where Ctrl-C is caught, whatever looks like it comes from the code itself.
        asked = isinstance(error, KeyboardInterrupt) and not interruption.catching()
        if asked or isinstance(error, interruption.Stopped | GeneratorExit) or is_out_of_memory(error):
            raise
        raise ImagecotError(f"{what} ({told(error)}); mend it, or name another.") from error


@contextmanager
def calling(model: object, method: str) -> Iterator[None]:
    """Turn what a method of other people's classes raises inside into an ImagecotError; ours raise what they raise."""
    if type(model).__module__.startswith(_OURS):
        yield
        return
    with raised_by(f"{type(model).__qualname__}.{method} fails"):
        yield


def told(error: BaseException) -> str:
    """What an exception is and says, in one printable line."""
    said = printable(first_line(error)).rstrip(".")
    kind = type(error).__name__
    text = kind if said == kind else f"{kind}: {said}"
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
