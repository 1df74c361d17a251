"""Names of generators, verifiers, detectors, searches and worlds: one table for commands, recipes and functions.

A name is one of the table or of a shipped checkpoint, a folder, a hub id (`owner/name`, `owner/name:folder`,
`owner/name@revision`), `package.module:Class`, or what an installed package calls so in the role's group of entry
points. Verifiers can be written too, such as `mean(a,b)`: `imagecot.forms`. A folder may have several roles: the one
that is asked for decides.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Literal, TypeVar, overload

from imagecot import forms, judging
from imagecot.contracts.values import JSON
from imagecot.errors import UsageError, nearest
from imagecot.forms import form_of
from imagecot.imported import Code, code_named, entry_point, entry_points, meeting, raised_by
from imagecot.precision import Device, Dtype

if TYPE_CHECKING:
    from imagecot.contracts import Detector, Generator, Strategy, Verifier, World
    from imagecot.families import Config, Family
    from imagecot.search_config import SearchDefaults

Found = TypeVar("Found")
Name = str | Path


@dataclass(frozen=True)
class Role:
    """What can be named in one role.

    protocol     the protocol of `imagecot.contracts` that an object meets
    promises     the function of `imagecot.promises` that tells what is wrong with its attributes
    group        entry points of installed packages
    classes      our own classes by their names
    folders      where other names of shipped checkpoints stand, a mapping
    checkpoints  whether a folder or a hub id can be named
    older        how names were spelt before
    """

    protocol: str
    promises: str
    group: str
    classes: Mapping[str, str] = field(default_factory=dict)
    folders: str = ""
    checkpoints: bool = False
    older: Mapping[str, str] = field(default_factory=dict)


ROLES: dict[str, Role] = {
    "generator": Role("Generator", "wrong_generator", "imagecot.generators", checkpoints=True),
    "verifier": Role("Verifier", "wrong_verifier", "imagecot.verifiers", checkpoints=True),
    "detector": Role(
        "Detector",
        "wrong_detector",
        "imagecot.detectors",
        folders="imagecot.worlds.drawn.shipped:DETECTORS",
        checkpoints=True,
    ),
    "search": Role(
        "Strategy",
        "wrong_search",
        "imagecot.searches",
        classes={
            "single": "imagecot.strategies.single:Single",
            "best-of-n": "imagecot.strategies.best_of_n:BestOfN",
            "stepwise": "imagecot.strategies.stepwise:Stepwise",
            "parm": "imagecot.strategies.parm:Parm",
            "parm++": "imagecot.strategies.parm_plus_plus:ParmPlusPlus",
            "adaptive": "imagecot.strategies.adaptive:Adaptive",
            "beam": "imagecot.strategies.beam:Beam",
            "hierarchical": "imagecot.strategies.hierarchical:Hierarchical",
            "resample": "imagecot.strategies.resample:Resample",
            "rewind": "imagecot.strategies.rewind:Rewind",
        },
    ),
    "world": Role(
        "World",
        "wrong_world",
        "imagecot.worlds",
        classes={
            "drawn": "imagecot.worlds.drawn.world:Drawn",
            "drawn-harder": "imagecot.worlds.drawn.world:Harder",
            "geneval": "imagecot.worlds.geneval:GenEval",
        },
        older={"tiny": "drawn"},
    ),
}
_ANY_WORLD = "geneval"  # of a generator that says nothing
# By what a config.json shows its world in folders that are older than their `search_config.json`.
_SIGNS = {"drawn": "imagecot.worlds.drawn.older:drew_pictograms"}


@overload
def load(role: Literal["generator"], name: Name, *, device: Device = ..., dtype: Dtype = ...) -> "Generator": ...
@overload
def load(role: Literal["verifier"], name: Name, *, device: Device = ..., dtype: Dtype = ...) -> "Verifier": ...
@overload
def load(role: Literal["detector"], name: Name, *, device: Device = ..., dtype: Dtype = ...) -> "Detector": ...
@overload
def load(role: Literal["search"], name: Name) -> "Strategy": ...
@overload
def load(role: Literal["world"], name: Name) -> "World": ...
@overload
def load(role: str, name: Name, *, device: Device = ..., dtype: Dtype = ...) -> object: ...
def load(role: str, name: Name, *, device: Device = None, dtype: Dtype = None) -> object:
    """Load what a name stands for in a role, which is as of `check`.

    device  of a model: the GPU where there is one, else the CPU
    dtype   of a model's weights, as a type or one of `imagecot.precision.PRECISIONS`; by default the loader's choice

    A class or function of another module is called with those of the two that it takes and that are given, just as they
    are. What it makes must meet the role's protocol.

    UsageError for a name that is nothing of these, an object that lacks something of the protocol, or a dtype that is
    not taken; ImagecotError where a checkpoint cannot be had or read, and for whatever other people's code raises.
    """
    text = check(role, name)
    form = form_of(_role(role), text)
    if form is not None:
        return form.spelling.load(text, device, dtype)
    code = _code(role, text)
    judges = _role(role) == "verifier"
    there = judging.lent(text, device, dtype) if judges else None
    if code is None:
        make = partial(_load_checkpoint, role, text, device, dtype, there)
        return judging.shared(text, device, dtype, make) if judges else make()
    given = {"device": device, "dtype": dtype}
    found = there if isinstance(there, _protocol(role)) else code.make(_protocol(role), given)
    return met(role, text, found) if is_code(role, text) else found


def met(role: str, name: str, found: Found) -> Found:
    """Return an object that keeps what its role promises; errors as of `load`."""
    meeting(found, role, name, _protocol(role))
    with raised_by(f"{name} cannot be used"):
        wrong: str | None = resolve_name(f"imagecot.promises:{ROLES[_role(role)].promises}")(found)
    if wrong:
        raise UsageError(f"{name} is no {role} that can be used: {wrong}.")
    return found


def check(role: str, name: object) -> str:
    """Return the name as text; UsageError, with the nearest known name, for one that can be nothing in a role.

    role  one of ROLES, or what somebody in that role is called: `verifier_base`, `corrector` (a generator)

    Nothing is loaded: whether the hub has such a model, and whether a class is what it should be, shows `load`.
    """
    from imagecot.hub import check_name, hub_id, locate

    spec, text = ROLES[_role(role)], check_name(role, name)
    form = form_of(_role(role), text)
    if form is not None:
        forms.check(form, text, check)
        return text
    code = _code(role, text)
    if code is not None:
        code.check()
        return text
    if "://" in text:
        raise UsageError(f"{text} is a URL, and a {role} that is served cannot be had; name one that runs here.")
    if spec.checkpoints:
        from imagecot.families import check_installed
        from imagecot.models import HUB_MODELS

        parts = [known for known in HUB_MODELS if known.startswith(f"{text}:")]
        if parts:
            raise UsageError(f"{text} holds more than one model; name one: {', '.join(parts)}.")
        here = text in _folders(role) or locate(text) is not None or _family_of_weights(role, text) is not None
        if here or hub_id(text) is not None:
            check_installed(_role(role), text)
            return text
    others = "a folder, another hub id or module:Class" if spec.checkpoints else "module:Class"
    raise nearest(role, text, names(_role(role)), f", or give {others}")


def names(role: str) -> list[str]:
    """All names that are known in a role: of the table, of shipped checkpoints, the hub, and installed packages."""
    spec, aliases = ROLES[role], _folders(role)
    found = [*spec.classes, *aliases]
    if spec.checkpoints:
        from imagecot.models import known

        found += [name for name in known(role) if name not in aliases.values()]
    return list(dict.fromkeys([*found, *entry_points(spec.group)]))


def called(role: str, found: object) -> str:
    """The name of an object's class in a role: that of the table, else `package.module:Class`."""
    target = f"{type(found).__module__}:{type(found).__qualname__}"
    return next((name for name, own in ROLES[role].classes.items() if own == target), target)


def is_code(role: str, name: str) -> bool:
    """Whether a name stands for other people's code, whose answers and settings are known only once it is loaded."""
    spec, form = ROLES[_role(role)], form_of(_role(role), name)
    if form is not None:
        return any(is_code(kind, part) for kind, part in form.spelling.parts(name))
    return spec.older.get(name, name) not in spec.classes and _code(role, name) is not None


def digests(role: str, name: str) -> dict[str, str]:
    """SHA-256 of what a name stands for: of all weights and settings of a checkpoint, or of a class's source file.

    role  as of `check`; the keys are made of it

    They are those of the files that are loaded; what the hub's cache lacks is fetched. Empty for our own classes, and
    where there is no such model; ImagecotError where a part is missing or damaged, or a module cannot be imported.
    """
    from imagecot.models import weights_of

    form = form_of(_role(role), name)
    if form is not None:
        return forms.digests(form, name, role, digests)
    code = _code(role, name)
    if code is not None:
        digest = code.digest() if is_code(role, name) else None
        return {role: digest} if digest else {}
    if _family_of_weights(role, name) is not None:
        from imagecot.models import digest_of

        return {role: digest_of([Path(name)])}
    return weights_of(role, _folders(role).get(name, name))


def folder_of(role: str, name: str | Path) -> Path:
    """The folder of a checkpoint by its name; errors as of `load`."""
    from imagecot.hub import FILES, find

    text = check(role, name)
    folder = find(_folders(role).get(text, text), FILES[_role(role)])
    if folder is None:
        raise UsageError(f"{text} is no checkpoint; give a folder, a shipped name or a hub id.")
    return folder


def search_defaults(name: str) -> "SearchDefaults":
    """How a model that is on disk likes to be searched with; of other people's code nothing is known before."""
    from imagecot.search_config import search_defaults

    return search_defaults(name)


def advice(name: str) -> Mapping[str, Mapping[str, JSON]]:
    """The settings that a verifier likes to be searched with, by the names of searches."""
    form = form_of("verifier", name)
    return search_defaults(name).searches if form is None else forms.advice(form, name, advice)


def world_of(name: str) -> str:
    """The name of a generator's world: as it says itself, or an older folder shows; else that of all photos."""
    said = search_defaults(name).world
    if said is not None:
        return said
    from imagecot.models import base_config

    config = base_config(name)
    signs: dict[str, Callable[[Config], bool]] = {world: resolve_name(sign) for world, sign in _SIGNS.items()}
    return next((world for world, shows in signs.items() if shows(config)), _ANY_WORLD)


def _role(label: str) -> str:
    """The role of ROLES that somebody has who is called so."""
    return next((role for role in ROLES if label.startswith(role)), "generator")


def _folders(role: str) -> Mapping[str, str]:
    """Other names of shipped checkpoints in a role."""
    place = ROLES[_role(role)].folders
    found: Mapping[str, str] = resolve_name(place) if place else {}
    return found


def _protocol(role: str) -> type:
    """The protocol of a role."""
    found: type = resolve_name(f"imagecot.contracts:{ROLES[_role(role)].protocol}")
    return found


def _code(role: str, name: str) -> Code | None:
    """The class that a name stands for, ours or others'; None where it can only be a checkpoint, or nothing."""
    spec = ROLES[_role(role)]
    ours = spec.classes.get(spec.older.get(name, name))
    if ours is not None:
        return Code(name, ours)
    if spec.checkpoints:
        from imagecot.checkpoint import is_checkpoint
        from imagecot.hub import locate

        here = locate(name) if "/" not in name else Path(name)
        if name in _folders(role) or (here is not None and is_checkpoint(here)):
            return None
    return code_named(name) or (entry_point(spec.group, name) if "/" not in name else None)


def _family_of_weights(role: str, name: str) -> "Family | None":
    """The family that reads a file of weights of this name without a folder; None where there is no such file."""
    from imagecot.checkpoint import is_file
    from imagecot.families import family_of_file

    here = ROLES[_role(role)].checkpoints and is_file(Path(name))
    return family_of_file(_role(role), Path(name)) if here else None


def _load_checkpoint(role: str, name: str, device: Device, dtype: Dtype, there: object | None) -> object:
    """Load what a checkpoint is in a role.

    there  the generator that the same checkpoint is, where it is loaded and a verifier can have its weights
    """
    from imagecot.adapters import lineage
    from imagecot.families import Checkpoint, family_of
    from imagecot.hub import FILES, find

    alone = _family_of_weights(role, name)
    if alone is not None:
        return alone.load(Checkpoint(name, (Path(name),)), device, dtype)
    kind = _role(role)
    parts = lineage(folder_of(role, name), lambda wanted: find(wanted, FILES[kind]))
    family, checkpoint = family_of(kind, parts[0]), Checkpoint(name, tuple(parts))
    shared = family.around(there, checkpoint) if there is not None else None
    return family.load(checkpoint, device, dtype) if shared is None else shared
