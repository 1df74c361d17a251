"""Workers that are tasks of a Slurm array: each follows the same recipe on the machine that Slurm gives it.

What a task needs (partition, time, GPUs) Slurm's own `sbatch` reads from its variables, such as SBATCH_PARTITION. A
task that is preempted gives back what it holds when it is asked to end, and goes on when Slurm starts it again. This
process only waits: whichever task finds all units done concludes.
"""

import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from imagecot import interruption
from imagecot.errors import ImagecotError, UsageError, first_line
from imagecot.files import make_own_folder, write_text

if TYPE_CHECKING:
    from pydantic import BaseModel

    from imagecot.execution.team import Sharing

_EVERY = 5.0  # seconds between two questions to Slurm
_GRACE = 60  # seconds before the end of its time in which a task is asked to end
_OVER = ("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT")
_SCRIPT = """#!/bin/sh
#SBATCH --job-name={name}
#SBATCH --array=0-{last}
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@{grace}
#SBATCH --chdir={here}
#SBATCH --output={folder}/task-%a.log
exec {command}
"""


def run(sharing: "Sharing") -> None:
    """Submit an array, and wait until a task has concluded, or all have ended.

    UsageError where there is no Slurm; ImagecotError where it takes no job, and where all tasks ended too early.
    """
    if shutil.which("sbatch") is None:
        raise UsageError("there is no sbatch on this machine; run this where Slurm takes jobs, or leave out --on.")
    if sharing.team.recipe is None:
        raise UsageError("only work that a recipe describes can be sent to Slurm.")
    sharing.camp.plan(sharing.work)
    folder = make_own_folder(sharing.camp.folder / "slurm")
    job = _submit(folder, sharing.team.recipe, sharing.team.workers, sharing.work.doing)
    out = sharing.work.folder
    sharing.watch.tell(
        f"Slurm has job {job}, {sharing.team.workers} tasks; follow it by: imagecot status {out} --watch"
    )
    with interruption.continuing(f"Slurm goes on with job {job}; imagecot status {out} says how far, scancel ends it"):
        _wait(sharing, job, folder)


def _submit(folder: Path, recipe: "BaseModel", workers: int, doing: str) -> str:
    """Write the recipe and the script of its array, and submit it; the number of the job."""
    said = {"kind": dict(recipe)["kind"], **recipe.model_dump(mode="json", exclude_unset=True)}
    file, script = folder.absolute() / "recipe.yaml", folder.absolute() / "array.sh"
    write_text(file, yaml.safe_dump(said, allow_unicode=True, sort_keys=False))
    file.chmod(0o600)  # it may name a server with a password
    text = _SCRIPT.format(
        name=shlex.quote(f"imagecot-{doing.replace(' ', '-')}"),
        last=workers - 1,
        grace=_GRACE,
        here=shlex.quote(str(Path.cwd())),
        folder=shlex.quote(str(folder.absolute())),
        command=shlex.join([sys.executable, "-m", "imagecot", "run", str(file)]),
    )
    write_text(script, text)
    done = subprocess.run(["sbatch", "--parsable", str(script)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ImagecotError(f"Slurm takes no job: {first_line(Exception(done.stderr))}.")
    return done.stdout.strip().partition(";")[0]


def _wait(sharing: "Sharing", job: str, folder: Path) -> None:
    asked, gone, held = 0.0, 0, ""
    while sharing.camp.planned(sharing.work) and gone < 2:
        interruption.check()
        time.sleep(sharing.team.pace.look)
        missing = sharing.work.missing()
        sharing.look(missing)
        if time.monotonic() - asked > _EVERY:
            asked = time.monotonic()
            states = _states(job)
            gone = 0 if any(state.partition(" ")[0] not in _OVER for state in states) else gone + 1
            now = next((state for state in states if "held" in state.lower()), "")
            if now != held:
                held = now
                if held:
                    sharing.watch.tell(
                        f"Slurm holds tasks of job {job} ({held}); scontrol release {job} lets them go on."
                    )
    if sharing.camp.planned(sharing.work) and sharing.work.missing():
        sharing.failures.check()
        raise ImagecotError(f"job {job} ended before all was done; {folder}/task-*.log say why. Run the command again.")


def _states(job: str) -> list[str]:
    """The state and its reason of each task of a job that Slurm knows of."""
    asked = ["squeue", "--noheader", "--array", "--jobs", job, "--states=all", "--format=%T %r"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    return done.stdout.splitlines()
