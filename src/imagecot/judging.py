"""`self` as the name of a verifier: the generator that draws judges too, with the same weights.

Wherever a generator and a verifier are named together, `self` becomes the generator's own name in the verifier's role.
So identities, digests and traces know nothing of it. The weights are loaded once: `beside` lends a generator that is
loaded to the registry, which makes the verifier of the same name around them.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Never, Protocol, cast

from imagecot.errors import ImagecotError, UsageError
from imagecot.imported import code_named
from imagecot.precision import Device, Dtype

if TYPE_CHECKING:
    from imagecot.contracts.verifier import Usage
    from imagecot.families import Family

SELF = "self"
# A name that may hold it: `min(self,tiny-orm)` does, and `./self` does not.
_ALONE = re.compile(rf"(?<![\w./-]){SELF}(?![\w./:-])")


@dataclass(frozen=True)
class _Lent:
    """A generator that is loaded, and how it was asked for."""

    generator: object
    name: str
    device: Device
    dtype: Dtype


class _Counting(Protocol):
    """A verifier of a checkpoint."""

    usage: "Usage"


_LENT: ContextVar[_Lent | None] = ContextVar("lent", default=None)
_SHARED: ContextVar[dict[tuple[str, Device, Dtype], _Counting] | None] = ContextVar("shared", default=None)


def judge_named(verifier: str, generator: str | None) -> str:
    """The name of a verifier, with that of the generator in place of `self`, in forms too.

    generator  who draws; None where nobody does

    UsageError for a `self` where there is no generator, or one that cannot judge.
    """
    from imagecot.forms import form_of

    if verifier == SELF:
        return _able(generator)
    form = form_of("verifier", verifier)
    if form is None or not _ALONE.search(verifier):
        return verifier
    return form.spelling.renamed(verifier, lambda name: judge_named(name, generator))


def _able(generator: str | None) -> str:
    """The generator, which is named and may judge; UsageError where it is not, or cannot."""
    if generator is None:
        _refuse(SELF)
    from imagecot.families import FAMILIES

    family = _family("generator", generator)
    if family is not None and family.name not in [known.name for known in FAMILIES["verifier"]]:
        raise UsageError(
            f"{generator} cannot judge: {family.name} draws and answers no questions, so it cannot be its own verifier "
            f"({SELF}); name another verifier."
        )
    return generator


def _family(role: str, name: str) -> "Family | None":
    """The family of a checkpoint that is on disk, or known by its name; None where nothing is known yet."""
    from imagecot.adapters import lineage
    from imagecot.families import FAMILIES, family_of
    from imagecot.hub import locate

    if code_named(name) is not None:
        return None
    known = next((family for family in FAMILIES[role] if name in family.names), None)
    folder = locate(name)
    try:
        return family_of(role, lineage(folder, locate)[0]) if folder is not None else known
    except ImagecotError:  # whoever loads it says what is wrong
        return known


@contextmanager
def beside(name: str, generator: object, *, device: Device = None, dtype: Dtype = None) -> Iterator[None]:
    """Let verifiers that are loaded meanwhile share the weights of a generator, where they are of its name.

    name, device, dtype  as it was loaded; a verifier that is asked for otherwise has weights of its own
    """
    token = _LENT.set(_Lent(generator, name, device, dtype))
    try:
        yield
    finally:
        _LENT.reset(token)


@contextmanager
def sharing() -> Iterator[None]:
    """Let verifiers of one name, device and number format that are loaded meanwhile share their weights."""
    if _SHARED.get() is not None:
        yield
        return
    token = _SHARED.set({})
    try:
        yield
    finally:
        _SHARED.reset(token)


def shared(name: str, device: Device, dtype: Dtype, load: Callable[[], object]) -> object:
    """What `load` makes; or, with the weights of what it made before under these names, another that counts its own."""
    known = _SHARED.get()
    if known is None:
        return load()
    key = name, device, dtype
    if key in known:
        from imagecot.contracts.verifier import Usage

        twin = copy(known[key])
        twin.usage = Usage()
        return twin
    known[key] = cast(_Counting, load())
    return known[key]


def lent(name: str, device: Device, dtype: Dtype) -> object | None:
    """The generator whose weights a verifier asked for in this way shares; None where there is none."""
    there = _LENT.get()
    if there is None or (there.device, there.dtype) != (device, dtype):
        return None
    return there.generator if there.name == name or _same_folder(there.name, name) else None


def _same_folder(one: str, other: str) -> bool:
    from imagecot.hub import locate

    folders = [Path(place).resolve() for place in (locate(one), locate(other)) if place is not None]
    return len(folders) == 2 and folders[0] == folders[1]


# As a form of `imagecot.forms`: what is left of `self` where no generator stands beside it.
def parts(text: str) -> Never:
    """UsageError: nobody draws."""
    _refuse(text)


def renamed(text: str, rename: Callable[[str], str]) -> Never:
    """UsageError: nobody draws."""
    _refuse(text)


def load(text: str, device: Device, dtype: Dtype) -> Never:
    """UsageError: nobody draws."""
    _refuse(text)


def digests(text: str) -> Mapping[str, str]:
    """UsageError: nobody draws."""
    _refuse(text)


def _refuse(verifier: str) -> Never:
    raise UsageError(f"{verifier} names the generator that draws as the verifier, and none is named; name a verifier.")
