"""What happens to an exception that nobody foresaw: one sentence, and its traceback in a file."""

import os
import tempfile
import traceback

from imagecot.errors import first_line

SWITCH = "IMAGECOT_TRACEBACK"  # set to 1, such an exception ends the program as Python ends it


def switched_off() -> bool:
    """Whether tracebacks are wanted as they are, as in tests."""
    return os.environ.get(SWITCH) == "1"


def sentence(error: BaseException) -> str:
    """Keep the traceback of `error` in a new file, and return the sentence that names both."""
    what = f"{type(error).__name__}: {first_line(error)}" if str(error).strip() else type(error).__name__
    told = f"imagecot failed in a way that was not foreseen ({what})"
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="imagecot-error-", suffix=".txt", encoding="utf-8", errors="backslashreplace", delete=False
        ) as file:
            file.write("".join(traceback.format_exception(error)))
    except OSError:
        return f"{told}; set {SWITCH}=1 to see the traceback."
    return f"{told}; the traceback is in {file.name}: please report it."
