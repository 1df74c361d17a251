"""What all commands share on the terminal: standard error for people, standard output for results."""

import difflib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from imagecot.errors import UsageError
from imagecot.naming import printable
from imagecot.precision import check_precision, has_bfloat16

errors = Console(stderr=True, soft_wrap=True, highlight=False)


def say(text: str) -> None:
    """Print a line for people on standard error, without anything that steers their terminal."""
    errors.print(printable(text), markup=False)


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """Show that something is going on; only on a terminal."""
    if not errors.is_terminal:
        yield
        return
    with errors.status(text):
        yield


@contextmanager
def progress_bar(text: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function (done, total) that moves a bar, which disappears at the end; only on a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f} %"))
    with Progress(
        *columns, TimeRemainingColumn(), console=errors, transient=True, disable=not errors.is_terminal
    ) as bar:
        task = bar.add_task(text, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def completion(kind: str) -> Callable[[], list[str]]:
    """Return what completes the name of a model of this kind; nothing is looked up before somebody asks."""

    def names() -> list[str]:
        from imagecot.models import known

        return known(kind)

    return names


def nearest(what: str, name: str, names: list[str], others: str = "") -> UsageError:
    """Return the UsageError of a name that does not exist, with the nearest one, all of them and `others`."""
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return UsageError(f"there is no {what} {name!r}{hint}; choose one of {', '.join(names)}{others}.")


def usable(precision: str | None) -> str | None:
    """The precision itself, or float32 for a bfloat16 that the processor has not. UsageError for an unknown one."""
    check_precision(precision)
    if precision != "bfloat16" or has_bfloat16():
        return precision
    say("this processor has no bfloat16; float32 is used instead.")
    return "float32"


def check_models(**named: str | None) -> None:
    """Raise UsageError for a name, by its role, that is no model here and cannot be one of the hub."""
    from imagecot.models import known, locate

    for role, name in named.items():
        if name is not None and locate(name) is None and name.partition(":")[0].count("/") != 1:
            raise nearest(role, name, known(role), ", or give a folder or another hub id")
