"""The folder of a run: new, finished, interrupted, or of another run. Looking at it loads no model and no torch."""

import shutil
from collections.abc import Callable
from pathlib import Path

from imagecot.errors import ImagecotError, UsageError
from imagecot.files import is_temporary
from imagecot.identity import Identity, read_identity, refuse_other
from imagecot.strategies.trace import TRACE, Trace

PARTIAL, RUN = "partial", "run.json"


def open_folder(
    folder: Path, identity: Identity, refuse: Callable[[Path, Identity], None] = lambda folder, there: None
) -> Trace | None:
    """Return the trace of a folder that holds this very run, finished; None where it is new or interrupted.

    identity  of the run as of `Trace.identity`, or the part of it that is known already
    refuse    raises UsageError where the run differs in the rest; it is given the folder and the identity there

    UsageError where the folder is a file, holds another run or anything else; ImagecotError where it cannot
    be read.
    """
    try:
        if not folder.exists():
            return None
        if not folder.is_dir():
            raise UsageError(f"{folder} is a file; give a folder to write to.")
        names = {file.name for file in folder.iterdir() if not is_temporary(file.name)}
    except OSError as error:
        raise ImagecotError(f"cannot read {folder}: {error.strerror}; choose another folder.") from error
    if not names:
        return None
    if (folder / PARTIAL).is_symlink():
        raise ImagecotError(f"{folder / PARTIAL} is a link, and nothing is written through one; remove it.")
    if TRACE in names:
        refuse_other(folder, *_comparable(read_identity(folder / TRACE), identity))
        trace = Trace.load(folder)
        refuse(folder, trace.identity)
        shutil.rmtree(folder / PARTIAL, ignore_errors=True)  # left where a run was killed at its very end
        return trace
    if names == {PARTIAL} and not any((folder / PARTIAL).glob("*.safetensors")):
        return None  # a run that failed before anything was finished
    if PARTIAL in names:
        there = read_identity(folder / PARTIAL / RUN)
        refuse_other(folder, *_comparable(there, identity))
        refuse(folder, there)
        return None
    raise UsageError(
        f"{folder} is not empty and holds no run of imagecot; choose another folder or delete what is there."
    )


def _comparable(there: Identity, asked: Identity) -> tuple[Identity, Identity]:
    """Both identities, without the settings of models that earlier versions did not record."""
    if "model_settings" not in there:
        asked = {name: value for name, value in asked.items() if name != "model_settings"}
    return there, asked
