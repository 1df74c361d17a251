"""The two kinds of failure that reach a user: each carries one sentence saying what is wrong and what to do."""

OUT_OF_MEMORY = "there is not enough memory; draw fewer paths with -n, or use a smaller model."


class ImagecotError(Exception):
    """The work could not be done (exit code 1): a corrupt checkpoint, a full disk, an unreadable image."""

    exit_code = 1


class UsageError(ImagecotError):
    """The request itself makes no sense (exit code 2): an empty prompt, N below 1, an unknown model name."""

    exit_code = 2


def first_line(error: BaseException) -> str:
    """What a library's exception says, in one line; its type where it says nothing."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def said(error: OSError | ValueError) -> str:
    """What the system says of a path that cannot be read, without the path itself."""
    return str(error.strerror if isinstance(error, OSError) and error.strerror else error).lower()
