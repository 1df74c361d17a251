"""Checkpoint folders as repositories of models: weights in safetensors, settings, and the parts that they name.

A model names its parts and an adapter its base. What others have by that name, a repository of the hub, stays a name.
A part that is here alone travels inside of its model, where it is looked for first. A base has a repository of its own.
"""

from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from safetensors import SafetensorError, safe_open

from imagecot.adapters import is_adapter, read_adapter
from imagecot.checkpoint import ADAPTER, AGAIN, CONFIG, find_weights, is_checkpoint, is_file, parts_of, read_config
from imagecot.errors import ImagecotError, UsageError, first_line
from imagecot.hub import HubId, hub_id, locate, related
from imagecot.models import PART_FIELDS, digest_of, kinds_of_folder, weights_of
from imagecot.publishing.parcel import MODEL, Content, Parcel, rewritten
from imagecot.training.output import FILE as TRAINING
from imagecot.training.output import is_finished

_WEIGHTS = (".safetensors",)
_SETTINGS = ("*.json", "*.jinja", "merges.txt", "vocab.txt", "tokenizer.model", "spiece.model", "LICENSE*", "NOTICE*")
_OURS = (*_SETTINGS[:-2], "*.safetensors", "*.bin", "*.pt")  # what an earlier push may have left


def parcel_of(name: str, folder: Path, base: HubId | None) -> Parcel:
    """A checkpoint as a parcel.

    base  where the base of an adapter is published

    UsageError for what is no whole checkpoint in safetensors, an adapter whose base others cannot have, and a part that
    cannot be found; ImagecotError for weights that are damaged.
    """
    kinds = kinds_of_folder(folder)
    if not kinds:
        raise UsageError(f"{name} is no checkpoint that is known here by its {CONFIG}, or its base is not here.")
    if is_file(folder / TRAINING) and not is_finished(folder):
        raise UsageError(f"{folder} is a training that has not ended; run its command to the end.")
    files = dict(_files(folder))
    if is_adapter(folder):
        files[ADAPTER] = _with_base(name, folder, base)
    elif base is not None:
        raise UsageError(f"{name} is no adapter, so that it has no base; leave out --base.")
    else:
        files |= _with_parts(folder)
    role = next((kind for kind in kinds if " " not in kind), "")
    kind = " and ".join(kinds) + " (an adapter)" * is_adapter(folder)
    digests = weights_of(role, name) if role else {"weights": digest_of(find_weights(folder))}
    return Parcel(kind, MODEL, files, _OURS, digests, kept=True)


def base_of(folder: Path) -> str | None:
    """The name of an adapter's base; None for whole weights."""
    return read_adapter(folder).base_model_name_or_path if is_adapter(folder) else None


def is_elsewhere(folder: Path, name: str) -> bool:
    """Whether a name in a checkpoint stands for a repository of the hub, not for a folder here."""
    return hub_id(name) is not None and not is_checkpoint(Path(name)) and not is_checkpoint(folder / name)


def _files(folder: Path, inside: str = "") -> Iterator[tuple[str, Content]]:
    """Weights and settings of a checkpoint by their names: no states of trainings, no pickles."""
    for place in (folder, *parts_of(folder).values()):
        way = PurePosixPath(inside) / place.relative_to(folder).as_posix()
        found = find_weights(place) if is_checkpoint(place) else []
        for file in found:
            _check_weights(file)
        settings = [file for file in sorted(place.iterdir()) if _is_setting(file) and is_file(file)]
        yield from ((str(way / file.relative_to(place).as_posix()), file) for file in [*found, *settings])


def _is_setting(file: Path) -> bool:
    hidden = file.name.startswith(".") or file.name == TRAINING
    return not hidden and any(fnmatch(file.name, pattern) for pattern in _SETTINGS)


def _check_weights(file: Path) -> None:
    """Raise UsageError for weights in another form than safetensors, ImagecotError for damaged ones."""
    if file.suffix not in _WEIGHTS:
        raise UsageError(
            f"{file} is no safetensors file, and loading it may run code; save the weights with safetensors first."
        )
    try:
        with safe_open(file, framework="numpy") as tensors:
            tensors.keys()
    except (OSError, SafetensorError) as error:
        raise ImagecotError(f"{file} is truncated or corrupt ({first_line(error)}); {AGAIN}.") from None


def _with_base(name: str, folder: Path, base: HubId | None) -> bytes:
    """The adapter's settings, naming a base that others can have."""
    said = read_adapter(folder).base_model_name_or_path
    if base is not None:
        if base.revision != "main":
            raise UsageError(f"--base {base}: an adapter cannot name a revision of its base; leave it out.")
        return rewritten(folder / ADAPTER, base_model_name_or_path=str(base))
    if not is_elsewhere(folder, said):
        raise UsageError(
            f"{name} is an adapter of {said!r}, which is here and not on the hub by that name; push that model too, "
            "and name its repository with --base OWNER/NAME."
        )
    return (folder / ADAPTER).read_bytes()


def _with_parts(folder: Path) -> dict[str, Content]:
    """The parts that a checkpoint names and only this machine has, and its config.json where it must call one anew."""
    if not is_file(folder / CONFIG):
        return {}
    files: dict[str, Content] = {}
    changed: dict[str, str] = {}
    config = read_config(folder)
    for field in PART_FIELDS.values():
        name = config.get(field)
        if not isinstance(name, str) or not name or is_elsewhere(folder, name):
            continue
        place = related(folder, name, locate)
        if place is None or not is_checkpoint(place):
            raise UsageError(f"{folder / CONFIG}: there is no {name[:200]!r} ({field}); name a folder or hub id.")
        inner = name if is_checkpoint(folder / name) and not Path(name).is_absolute() else place.name
        files |= dict(_files(place, inner))
        if inner != name:
            changed[field] = inner
    return files | ({CONFIG: rewritten(folder / CONFIG, **changed)} if changed else {})
