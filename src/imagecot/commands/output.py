"""What all commands share on the terminal: standard error for people, standard output for results."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.text import Text

from imagecot.event_log import EventLog
from imagecot.naming import printable
from imagecot.watch import Progress, Watch, together

errors = Console(stderr=True, soft_wrap=True, highlight=False)
LOG: ContextVar[EventLog | None] = ContextVar("log", default=None)
"""Where events go too, once `--log` was read."""


def terminal() -> Watch:
    """Tells on standard error and in the log what goes on; bars and what takes long show on a terminal only."""
    shown, log = Watch(say, waiting, progress_bar), LOG.get()
    return together(shown, log.watch()) if log else shown


def say(text: str) -> None:
    """Print a line for people on standard error, without anything that steers their terminal."""
    errors.print(printable(text), markup=False, emoji=False)


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """Show that something is going on; only on a terminal."""
    if not errors.is_terminal:
        yield
        return
    with errors.status(Text(text)):
        yield


@contextmanager
def progress_bar(text: str) -> Iterator[Progress]:
    """Yield what moves a bar, with the rate, the time left and a note; it disappears at the end. Only on a terminal."""
    what, note = (TextColumn(shown, markup=False) for shown in ("{task.description}", "{task.fields[note]}"))
    rate = TextColumn("{task.percentage:3.0f} %{task.fields[rate]}")
    columns = (what, BarColumn(), rate, TimeRemainingColumn(), note)
    with Bar(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bar:
        task = bar.add_task(text, total=None, rate="", note="")

        def move(done: int, of: int, note: str = "") -> None:
            speed = next(one.speed for one in bar.tasks if one.id == task)
            rate = f", {speed:.3g} a second" if speed else ""
            bar.update(task, completed=done, total=of, rate=rate, note=printable(note))

        yield move


def completion(role: str) -> Callable[[], list[str]]:
    """Return what completes a name in this role, or begins a form of it; nothing is looked up before somebody asks."""

    def names() -> list[str]:
        from imagecot import forms, registry

        return registry.names(role) + [form.opening for form in forms.FORMS.get(role, ())]

    return names
