"""Trainings that are stopped as by Ctrl-C behind a state that they have kept, and the recipe of a toy."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import BaseModel

from imagecot.training import loop


@contextmanager
def stopped_behind_state(number: int = 1) -> Iterator[None]:
    """The training inside must stop when it has kept its state for the `number`-th time."""
    save, kept = loop.save_state, 0

    def save_and_stop(*arguments: object) -> None:
        nonlocal kept
        save(*arguments)
        kept += 1
        if kept == number:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "save_state", save_and_stop)
        yield


class Toy(BaseModel):
    """A recipe of nothing but an output."""

    kind: str = "toy"
    output: Path
    report_to: list[str] = []
