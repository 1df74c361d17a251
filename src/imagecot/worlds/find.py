"""Worlds by name, and by the name of a detector: what it finds, what it is asked, and who judges beside it.

from imagecot.worlds.find import load_judges, world

prompts = world("drawn").prompts()
first, *others = load_judges("pictograms")
"""

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from imagecot import models, registry
from imagecot.contracts.metadata import Metadata
from imagecot.errors import ImagecotError, UsageError
from imagecot.imported import calling
from imagecot.promises import wrong_prompts
from imagecot.worlds.geneval import GenEval

if TYPE_CHECKING:
    from imagecot.contracts.detector import Detector
    from imagecot.contracts.world import Prompts, World


@runtime_checkable
class Composed(Protocol):
    """A world whose detectors ask other models too."""

    def parts(self, colors: str | None = None) -> Mapping[str, str]:
        """The names of these models by their roles, of `load_judges(name, colors)`."""
        ...


def is_world(name: str) -> bool:
    """Whether a name can only be that of a world: a known one, or `package.module:Class`. Nothing is loaded."""
    return name in registry.names("world") or name in registry.ROLES["world"].older or registry.is_code("world", name)


def world(name: str) -> "World":
    """The world of a name; UsageError where there is none."""
    found: World = registry.load("world", name)
    return found


def world_of(detector: str, first: str | None = None) -> "World":
    """The world by whose prompts a detector judges: the one that lists it, else GenEval's.

    first  the name of a world that is asked before all others, such as one that is given as a class
    """
    for name in ([first] if first else []) + registry.names("world"):
        found = world(name)
        if detector in found.judges:
            return found
    return GenEval()


def prompts_of(home: "World", name: str | None = None) -> list[Metadata]:
    """The prompts that a world is tested by; UsageError where they are none."""
    return _checked(home, name, "prompts", home.prompts)


def training_prompts_of(home: "World", per_task: int, seed: int, name: str | None = None) -> list[Metadata]:
    """Other prompts of its kind, as `World.training_prompts` says; UsageError where they are none."""
    return _checked(home, name, "training_prompts", lambda: home.training_prompts(per_task, seed))


def _checked(home: "World", name: str | None, method: str, ask: "Callable[[], Prompts]") -> list[Metadata]:
    """The prompts that a method of a world returns, as they are or as GenEval writes them."""
    with calling(home, method):
        found = ask()
    plain = [m.as_json() if isinstance(m, Metadata) else m for m in found] if isinstance(found, list) else found
    wrong = wrong_prompts(home, plain)
    if wrong:
        raise UsageError(f"{name or type(home).__qualname__} is no world that can be used: {wrong}.")
    from imagecot.geneval.metadata import parse_metadata

    known = frozenset(home.classes)
    try:
        return [
            m if isinstance(m, Metadata) else parse_metadata(json.dumps(m), f"prompt {k}", known)
            for k, m in enumerate(found, 1)
        ]
    except ImagecotError as error:
        raise UsageError(f"{name or type(home).__qualname__} is no world that can be used: {error}") from None


def load_judges(detector: str, colors: str | None = None, first: str | None = None) -> "list[Detector]":
    """Load a detector by its name, then the others that its world judges by.

    colors  the CLIP that names colours beside a Mask2Former
    first   as of `world_of`

    UsageError for a name that is none; ImagecotError where one cannot be had or read.
    """
    home = world_of(detector, first)
    if registry.is_code("detector", detector) and detector not in home.judges:
        return [registry.load("detector", detector)]
    with calling(home, "load_judges"):
        loaded = list(home.load_judges(detector, colors))
    if not loaded:
        raise ImagecotError(f"{type(home).__qualname__}.load_judges returns nobody; let it return a detector at least.")
    return [registry.met("detector", type(one).__qualname__, one) for one in loaded]


def judges_of(detector: str, first: str | None = None) -> list[str]:
    """The names of those that `load_judges` loads."""
    home = world_of(detector, first)
    listed = home.judges if detector in home.judges else ()
    return [detector, *(name for name in listed if name != detector)]


def classes_of(detector: str, first: str | None = None) -> tuple[str, ...]:
    """The classes that a detector finds; only one that is given as a class is loaded for it."""
    home = world_of(detector, first)
    if registry.is_code("detector", detector) and detector not in home.judges:
        return tuple(registry.load("detector", detector).classes)
    return home.classes


def digests(detector: str) -> dict[str, str]:
    """SHA-256 by role of all that a detector consists of, as far as it is on disk."""
    found = registry.digests("detector", detector)
    home = world_of(detector)
    if isinstance(home, Composed) and not registry.is_code("detector", detector):
        for role, name in home.parts().items():
            found |= models.weights_of(role, name)
    return found


def benchmark_of(detector: str, first: str | None = None) -> list[Metadata]:
    """The prompts that the world of a detector is tested by."""
    return prompts_of(world_of(detector, first))


def held_out_of(detector: str) -> list[str]:
    """The texts of the prompts that any world of a detector is tested by, which no training may see."""
    homes = {name: world(name) for name in registry.names("world")}
    tested = [prompts_of(home, name) for name, home in homes.items() if detector in home.judges]
    return [metadata.prompt for prompts in tested or [benchmark_of(detector)] for metadata in prompts]
