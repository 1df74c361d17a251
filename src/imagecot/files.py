"""Writing files whole or not at all, and saying clearly why a folder cannot be used.

A file is filled under a temporary name that nobody can foresee and that is created exclusively, so in a folder that
others may write to no link of theirs is followed. Then it takes its place in one step.
"""

import errno
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from imagecot.errors import ImagecotError, first_line

_ADVICE = {
    errno.ENOSPC: "the disk is full; free some space or choose another folder",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another folder",
    errno.EFBIG: "the file would be larger than this process may write; raise the limit (ulimit -f)",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.EACCES: "there is no permission to write there; choose another folder",
    errno.EPERM: "there is no permission to write there; choose another folder",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
}
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)  # of a file system without
_TEMPORARY = ".partial"
# What torch and safetensors say of a file that they cannot write; the first with an error number, the second without.
_NUMBERED = re.compile(r"os error (\d+)")
_UNNUMBERED = ("iostream error", "PytorchStreamWriter", "inline_container")


def reason(error: OSError) -> str:
    """Say in half a sentence what went wrong with a file and what to do."""
    text = (error.strerror or str(error) or type(error).__name__).lower()
    return _ADVICE.get(error.errno or 0, f"{text}; check the path or choose another folder")


@contextmanager
def clear_write_errors(what: Path) -> Iterator[None]:
    """Turn a failure to write inside into an ImagecotError of one sentence about `what`."""
    try:
        yield
    except Exception as error:
        failed = _as_os_error(error)
        if failed is None:
            raise
        raise ImagecotError(f"cannot write {what}: {reason(failed)}.") from error


def _as_os_error(error: BaseException | None) -> OSError | None:
    """The OSError that a library's exception stands for or was raised after; None for any other failure."""
    while error is not None:
        if isinstance(error, OSError):
            return error
        found = _NUMBERED.search(str(error))
        if found:
            return OSError(int(found[1]), os.strerror(int(found[1])))
        if isinstance(error, RuntimeError) and any(text in str(error) for text in _UNNUMBERED):
            return OSError(0, first_line(error))
        error = error.__cause__ or error.__context__
    return None


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary neighbour, then move it to `path`; ImagecotError where that fails."""
    with clear_write_errors(path), _filled(path, write) as partial:
        os.replace(partial, path)


def publish(path: Path, write: Callable[[Path], object]) -> bool:
    """As `write_atomically`, but never over what is there: of several that write the first counts.

    Returns whether this one did. Where the file system has no links, two that write at the same moment may both.
    """
    with clear_write_errors(path), _filled(path, write) as partial:
        try:
            return _link(partial, path)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            if path.exists():
                return False
            os.replace(partial, path)
            return True


def create(path: Path, data: bytes) -> bool:
    """Make a file that is not there, whole; returns whether it was not. OSError where that cannot be written."""
    with _filled(path, lambda partial: partial.write_bytes(data)) as partial:
        try:
            return _link(partial, path)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
    try:
        with path.open("xb") as file:
            file.write(data)
    except FileExistsError:
        return False
    return True


def _link(partial: Path, path: Path) -> bool:
    """Give a file another name, which must be new; whether it was."""
    try:
        os.link(partial, path)
    except FileExistsError:
        # A server's answer may be lost and the call repeated: then the name is there, and it is ours.
        return partial.stat().st_nlink == 2
    return True


@contextmanager
def _filled(path: Path, write: Callable[[Path], object]) -> Iterator[Path]:
    """A temporary neighbour of a file, filled by `write`; what is left of it in the end is removed."""
    partial = path.with_name(f".{path.name[:80]}.{secrets.token_hex(8)}{_TEMPORARY}")
    partial.touch(exist_ok=False)
    try:
        mode = partial.lstat().st_mode & 0o777
        write(partial)
        partial.chmod(mode)  # safetensors writes files that only their owner may read
        yield partial
    finally:
        partial.unlink(missing_ok=True)


def write_whole(path: Path, data: bytes) -> None:
    """Write `data` to `path` whole or not at all; ImagecotError where that fails."""
    write_atomically(path, lambda partial: partial.write_bytes(data))


def write_text(path: Path, text: str) -> None:
    """Write `text` in UTF-8 to `path` whole or not at all; ImagecotError where that fails."""
    write_whole(path, text.encode("utf-8"))


def write_folder(folder: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary folder, then move its files into `folder`; ImagecotError where that fails.

    For libraries that write several files under names of their own. A failure to write leaves none of them.
    """
    make_folder(folder)
    partial = folder / f".{secrets.token_hex(8)}{_TEMPORARY}"
    with clear_write_errors(folder):
        partial.mkdir()
        try:
            write(partial)
            mode = partial.stat().st_mode & 0o666
            for file in sorted(file for file in partial.rglob("*") if file.is_file()):
                place = folder / file.relative_to(partial)
                make_folder(place.parent)
                file.chmod(mode)  # safetensors writes files that only their owner may read
                os.replace(file, place)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def is_temporary(name: str) -> bool:
    """Whether a file of this name was left by a process that was killed while it wrote."""
    return name.startswith(".") and name.endswith(_TEMPORARY)


def make_folder(folder: Path) -> Path:
    """Make a folder and those above it; ImagecotError where that is not possible."""
    with clear_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def make_own_folder(folder: Path) -> Path:
    """Make a folder inside a folder of results; ImagecotError where a link stands in its place."""
    if folder.is_symlink():
        raise ImagecotError(
            f"{folder} is a link, which nothing is written through; remove it or choose another folder."
        )
    return make_folder(folder)


def check_writable(folder: Path) -> None:
    """Raise ImagecotError where a folder that is still to be made could not be: before any work, not after it."""
    with clear_write_errors(folder):
        with suppress(FileNotFoundError, NotADirectoryError):
            folder.lstat()  # which fails where the name is too long
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists() or path.is_symlink())
        if not there.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{there} is no folder")
        if not os.access(there, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "permission denied")
