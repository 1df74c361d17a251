"""The ways in which workers are started, by their names; each is a function in a file of its own.

Such a function is given a `Sharing` and returns when nothing is missing. It raises UsageError for what cannot be asked
for, and ImagecotError where no worker can do more.
"""

from pkgutil import resolve_name
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from imagecot.execution.team import Sharing

LOCAL = "local"
EXECUTORS = {
    LOCAL: "imagecot.execution.local:run",
    "slurm": "imagecot.execution.slurm:run",
    "ray": "imagecot.execution.on_ray:run",
}


class Executor(Protocol):
    """Starts workers and waits until nothing is missing."""

    def __call__(self, sharing: "Sharing", /) -> None:
        """Errors as of the module."""
        ...


def start(name: str) -> Executor:
    """The executor of that name."""
    found: Executor = resolve_name(EXECUTORS[name])
    return found
