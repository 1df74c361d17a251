"""Where else the curves of a training go: TensorBoard and Trackio, through accelerate's trackers.

Both write under the folder of the training and nowhere else, unless the environment says otherwise to them.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from imagecot.errors import UsageError

if TYPE_CHECKING:
    from accelerate import Accelerator

    from imagecot.training.output import Output

ReportTo = Annotated[
    list[Literal["tensorboard", "trackio"]], Field(description="where the curves go, too: tensorboard, trackio")
]


def check_trackers(names: Sequence[str]) -> None:
    """Raise UsageError for a library that is not installed."""
    for name in names:
        if find_spec(name) is None:
            raise UsageError(f'report_to asks for {name}, which is not installed; pip install "imagecot[{name}]".')


def keep_trackio_in(folder: Path) -> None:
    """Let Trackio write there, if nobody said where before: it knows one place in all of a process."""
    os.environ.setdefault("TRACKIO_DIR", str(folder.absolute()))


@contextmanager
def tracking(accelerator: "Accelerator", output: "Output", title: str, done: int) -> Iterator[None]:
    """Let `accelerator.log` write to its trackers; a training goes on where its first `done` steps are.

    title  what is trained
    """
    if not accelerator.log_with:
        yield
        return
    keep_trackio_in(output.logs / "trackio")
    options: dict[str, dict[str, object]] = {
        "tensorboard": {"purge_step": done + 1},  # what a training that was killed did behind its last state
        "trackio": {"name": output.folder.name, "resume": "allow", "embed": False},
    }
    with redirect_stdout(StringIO()):  # Trackio says there how to look at it
        accelerator.init_trackers(title, init_kwargs=options)
    try:
        yield
    finally:
        with redirect_stdout(StringIO()):
            for tracker in accelerator.trackers:  # `end_training` would also end the processes' group
                tracker.finish()
            _forget_run()
        accelerator.trackers.clear()


def _forget_run() -> None:
    """Let Trackio not finish its run once more, and say so, when Python ends."""
    trackio = sys.modules.get("trackio")
    if trackio is not None and trackio.context_vars.current_run.get() is not None:
        trackio.finish()
