"""The state of a training under accelerate: kept whole or not at all, and resumed."""

import os
import shutil
from pathlib import Path
from typing import Any

from imagecot.files import clear_write_errors


def save_state(accelerator: Any, folder: Path, step: int) -> None:
    """Keep optimizer, weights and random states; an older state goes only when the new one is whole."""
    new = folder / f"state-{step:07d}"
    partial = folder / f".{new.name}.partial"
    accelerator.save_state(str(partial), safe_serialization=True)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        with clear_write_errors(new):
            os.replace(partial, new)
        for old in folder.glob("state-*"):
            if old != new:
                shutil.rmtree(old, ignore_errors=True)
    accelerator.wait_for_everyone()


def resume(accelerator: Any, folder: Path) -> int:
    """Load the last whole state; returns the steps it has done."""
    states = sorted(folder.glob("state-*"))
    if not states:
        return 0
    accelerator.load_state(str(states[-1]))
    return int(states[-1].name.removeprefix("state-"))
