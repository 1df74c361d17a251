"""What several commands' options have in common: their bounds, checked while they are read.

`typer.Option(callback=PATHS)` refuses a number that is too small or too large by one sentence and exit code 2.
"""

from collections.abc import Callable
from typing import Annotated

import typer

from imagecot import forms
from imagecot.bounds import MAX_SEED, MIN_SEED, MOST_IMAGES, MOST_PATHS, MOST_PROMPTS, MOST_WORKERS, check_whole
from imagecot.errors import nearest
from imagecot.execution.executors import EXECUTORS

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Check = Callable[[typer.Context, typer.CallbackParam, int | None], int | None]


def between(least: int, most: int) -> Check:
    """Return the callback of an option that takes whole numbers from `least` to `most`, or nothing."""

    def check(context: typer.Context, option: typer.CallbackParam, value: int | None) -> int | None:
        if value is None or context.resilient_parsing:
            return value
        return check_whole(value, option.opts[0], least, most)

    return check


PATHS = between(1, MOST_PATHS)
IMAGES = between(1, MOST_IMAGES)
PROMPTS = between(1, MOST_PROMPTS)
WORKERS = between(1, MOST_WORKERS)
SEED = between(MIN_SEED, MAX_SEED)


def _on(value: str) -> str:
    if value not in EXECUTORS:
        raise nearest("way to start workers", value, [*EXECUTORS])
    return value


Workers = Annotated[int, typer.Option(help="How many share the work, each with a GPU of its own.", callback=WORKERS)]
On = Annotated[
    str,
    typer.Option(
        help=f"How these are started: {', '.join(EXECUTORS)}. Processes of a launcher (torchrun, accelerate, MPI) "
        "share the work as they are.",
        callback=_on,
    ),
]


def written(role: str = "verifier") -> str:
    """How models of a role can be written, beside their names, for help and lists."""
    return ", ".join(form.shown for form in forms.FORMS[role])
