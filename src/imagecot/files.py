"""Writing files whole or not at all, and saying clearly why a folder cannot be used."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from imagecot.errors import ImagecotError

_ADVICE = {
    errno.ENOSPC: "the disk is full; free some space or choose another folder",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another folder",
    errno.EFBIG: "the file would be larger than this process may write; raise the limit (ulimit -f)",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.EACCES: "there is no permission to write there; choose another folder",
    errno.EPERM: "there is no permission to write there; choose another folder",
}


def reason(error: OSError) -> str:
    """Say in half a sentence what went wrong with a file and what to do."""
    text = (error.strerror or str(error) or type(error).__name__).lower()
    return _ADVICE.get(error.errno or 0, f"{text}; check the path or choose another folder")


@contextmanager
def clear_write_errors(what: Path) -> Iterator[None]:
    """Turn an OSError inside into an ImagecotError of one sentence about `what`."""
    try:
        yield
    except OSError as error:
        raise ImagecotError(f"cannot write {what}: {reason(error)}.") from error


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary neighbour, then move it to `path`; ImagecotError where that fails."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with clear_write_errors(path):
        try:
            write(partial)
            os.replace(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def write_whole(path: Path, data: bytes) -> None:
    """Write `data` to `path` whole or not at all; ImagecotError where that fails."""
    write_atomically(path, lambda partial: partial.write_bytes(data))
