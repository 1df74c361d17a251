"""The two kinds of failure that reach a user: each carries one sentence saying what is wrong and what to do."""

import difflib
from collections.abc import Sequence

OUT_OF_MEMORY = "there is not enough memory; draw fewer paths with -n, or use a smaller model."


class ImagecotError(Exception):
    """The work could not be done (exit code 1): a corrupt checkpoint, a full disk, an unreadable image."""

    exit_code = 1


class UsageError(ImagecotError):
    """The request itself makes no sense (exit code 2): an empty prompt, N below 1, an unknown model name."""

    exit_code = 2


def nearest(what: str, name: str, names: Sequence[str], others: str = "") -> UsageError:
    """Return the UsageError of a name that does not exist, with the nearest one, all of them and `others`."""
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return UsageError(f"there is no {what} {name[:200]!r}{hint}; choose one of {', '.join(names)}{others}.")


def first_line(error: BaseException) -> str:
    """What a library's exception says, in one line; its type where it says nothing."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def said(error: OSError | ValueError) -> str:
    """What the system says of a path that cannot be read, without the path itself."""
    return str(error.strerror if isinstance(error, OSError) and error.strerror else error).lower()
