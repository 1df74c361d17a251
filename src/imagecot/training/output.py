"""Which training a folder belongs to: `training.json`, compared before any training, written with the first state.

The identity is the recipe without what cannot change the result, such as where it is written and how often it is
evaluated, and the content of all that is trained from: a folder that was filled anew is another one.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from imagecot.checkpoint import is_checkpoint
from imagecot.contracts.values import JSON
from imagecot.errors import ImagecotError, UsageError
from imagecot.files import check_writable, make_folder, make_own_folder, write_text
from imagecot.identity import Identity, read_identity, refuse_other
from imagecot.models import weight_files
from imagecot.reading import parse_object, read_lines
from imagecot.registry import digests
from imagecot.training.tracking import check_trackers

FILE = "training.json"
TRAINING = "training"  # the folder of states, curves and caches
_WHAT = "training"
# What can be changed from one command to the next, since the weights come out the same.
_ASIDE = {
    "output",
    "report_to",
    "save_every",
    "evaluate_every",
    "pictures",
    "gradient_checkpointing",
    "shard",
    "prompts_per_task",
    "test_examples",
    "test_seed",
}
_FINISHED = {"finished": True}
_OLD_STATE = "state.pt"  # of earlier versions, for trainings from scratch


class Recipe(Protocol):
    """What every recipe of a training has."""

    output: Path

    @property
    def kind(self) -> str:
        """What is trained by it."""
        ...

    @property
    def report_to(self) -> Sequence[str]:
        """Where the curves go, too."""
        ...

    def model_dump(self, *, mode: str, exclude: set[str]) -> dict[str, JSON]:
        """All of its fields as JSON."""
        ...


@dataclass(frozen=True)
class Output:
    """The folder of a training.

    settings   what of the recipe decides the result, and the content of its files
    models     role and name of the models it is trained from, by the recipe's keys
    report_to  where its curves go, too
    """

    folder: Path
    settings: Identity
    models: Mapping[str, tuple[str, str]]
    report_to: tuple[str, ...] = ()

    @property
    def training(self) -> Path:
        """Where states, curves and caches are kept."""
        return self.folder / TRAINING

    @property
    def logs(self) -> Path:
        """Where trackers write."""
        return self.training / "logs"

    @property
    def identity(self) -> Identity:
        """The settings, and what the weights of the models are now."""
        found = {key: digests(role, name) for key, (role, name) in self.models.items()}
        return {**self.settings, **{f"weights of {key}": weights for key, weights in found.items() if weights}}

    @property
    def finished(self) -> bool:
        """Whether the whole training was done before."""
        return is_finished(self.folder)

    def prepare(self) -> Path:
        """Make both folders and return that of states, curves and caches; ImagecotError for a link in its place."""
        make_folder(self.folder)
        return make_own_folder(self.training)

    def stage(self, name: str = "") -> Path:
        """Like `prepare`, of a stage with a folder of its own inside."""
        folder = self.prepare()
        return make_own_folder(folder / name) if name else folder

    def claim(self, main: bool = True) -> None:
        """Make the folder this training's, before its first state is written; by the main process alone."""
        if main and not (self.folder / FILE).is_file():
            refuse_taken(self.folder, self.identity)
            self.prepare()
            _write(self.folder, self.identity)

    def finish(self) -> None:
        """Note that all weights are written."""
        _write(self.folder, self.identity, finished=True)


def open_output(
    recipe: Recipe, *, models: Mapping[str, tuple[str, str]] | None = None, files: Mapping[str, JSON] | None = None
) -> Output:
    """Return the output of a training, before anything is loaded.

    UsageError where the folder holds another one or cannot hold any, or where the curves cannot go where they shall.

    models  role (of `registry.digests`) and name of what is loaded, by the recipe's keys
    files   what stands in the identity instead of a path, by the recipe's keys: a digest of its content; None where
            the path is a cache
    """
    check_trackers(recipe.report_to)
    folder = recipe.output
    settings = dict(_flat(recipe.model_dump(mode="json", exclude={"output"})))
    for key, content in (files or {}).items():
        settings.pop(key, None)
        if content is not None:
            settings[f"content of {key}"] = content
    output = Output(folder, settings, models or {}, tuple(recipe.report_to))
    refuse_taken(folder, output.identity)
    if not output.finished:
        _refuse_older(output.training)
    check_writable(folder)
    return output


def _refuse_older(training: Path) -> None:
    """Raise UsageError where a training was begun by a version that kept its state in another form."""
    for file in training.rglob(_OLD_STATE):
        raise UsageError(
            f"{file} is the state of a training that an earlier version began, which this one cannot go on with; "
            f"delete {training.parent} to train from the start."
        )


def is_finished(folder: Path) -> bool:
    """Whether a folder holds all that a training leaves."""
    file = folder / FILE
    if not file.is_file() or not _holds_weights(folder):
        return False
    lines = [line for _, line in read_lines(file, failure=UsageError)]
    return len(lines) > 1 and parse_object(lines[1], str(file), advice=f"delete {folder}") == _FINISHED


def _holds_weights(folder: Path) -> bool:
    """Whether weights stand beside what a training writes of itself: those of a checkpoint, or a class's own files."""
    if is_checkpoint(folder):
        return bool(weight_files(folder))
    own = {FILE, TRAINING, "README.md"}
    return any(child.name not in own and not child.name.startswith(".") for child in folder.iterdir())


def refuse_taken(folder: Path, identity: Identity) -> None:
    """Raise UsageError where a folder holds another training, or anything else."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; give a folder to write to.")
    if (folder / FILE).is_file():
        refuse_other(folder, read_identity(folder / FILE), identity, _WHAT)
        return
    if not folder.is_dir():
        return
    others = [child for child in folder.iterdir() if not child.name.startswith(".") and child.name != TRAINING]
    if any((folder / TRAINING).rglob("state*")) or (others and (folder / TRAINING).is_dir()):
        raise UsageError(
            f"{folder} holds a training that does not say what it was made from, as those of earlier versions; "
            "choose another folder or delete it."
        )
    if others:
        raise UsageError(f"{folder} is not empty and holds no {_WHAT}; choose another folder.")


def digest_of(files: Iterable[Path]) -> str:
    """A short name for the content of files, in this order; ImagecotError for one that cannot be read."""
    total = hashlib.sha256()
    for file in files:
        try:
            with file.open("rb") as data:
                total.update(hashlib.file_digest(data, "sha256").digest())
        except OSError as error:
            raise ImagecotError(f"{file} cannot be read ({error.strerror}); check the path.") from None
    return total.hexdigest()[:16]


def shards_of(folder: Path) -> str:
    """A short name for the content of a curated folder; UsageError where there is no such data."""
    files = sorted(folder.glob("data/*.parquet"))
    if not files:
        what = "is a file" if folder.is_file() else "is missing" if not folder.exists() else "holds no data/*.parquet"
        raise UsageError(f"{folder} {what}; give a folder of imagecot curate.")
    return digest_of(files)


def _flat(values: Mapping[str, JSON], prefix: str = "") -> Iterator[tuple[str, JSON]]:
    for key, value in values.items():
        if key in _ASIDE:
            continue
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _write(folder: Path, identity: Identity, *, finished: bool = False) -> None:
    lines = [identity, _FINISHED] if finished else [identity]
    write_text(folder / FILE, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
