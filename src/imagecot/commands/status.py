"""`imagecot status`: how far the work in a folder is, who is at it, and what failed."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imagecot.commands.options import AsJson
from imagecot.interruption import check, continuing
from imagecot.naming import printable

if TYPE_CHECKING:
    from imagecot.execution.status import Running, Status

_CODES = {"finished": 0, "running": 3, "stopped": 4}
_EVERY = 2.0  # seconds
_TOLD = 5  # failures


def status(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of an evaluation, a curation or a study.")],
    watch: Annotated[bool, typer.Option("--watch", help="Go on until it is finished, or nobody is at it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say how far the work in a folder is: units done and under way, by whom, the rate, the time left, failures.

    It works from any machine that sees the folder. Exit code 0: finished; 3: under way; 4: not finished, and nobody is
    at it, so that its command is to be run again.

    Examples:

      imagecot status runs/parm

      imagecot status runs/parm --watch
    """
    from imagecot.execution.status import status as look

    shown = ""
    with continuing("the work goes on"):
        while True:
            found = look(folder)
            text = json.dumps(_as_json(found), ensure_ascii=False) if as_json else "\n".join(_lines(found))
            if text != shown:
                typer.echo(text)
                shown = text
            if not watch or found.state != "running":
                break
            check()
            time.sleep(_EVERY)
    raise typer.Exit(_CODES[found.state])


def _as_json(found: "Status") -> dict[str, object]:
    return {
        "folder": found.folder,
        "state": found.state,
        "doing": found.doing,
        "units": found.units,
        "done": found.done,
        "rate": found.rate,
        "left": found.left,
        "running": [vars(one) for one in found.running],
        "failures": [failure.model_dump() for failure in found.failures],
        "errors": found.kinds,
        "given_up": found.given_up,
    }


def _lines(found: "Status") -> list[str]:
    """What people are told."""
    said = {
        "finished": "finished",
        "running": f"under way ({found.doing})" if found.doing else "under way",
        "stopped": "not finished, and nobody is at it; run its command again",
    }[found.state]
    head = f"{found.folder}: {said}"
    if found.units is not None:
        head += f"; {found.done} of {found.units} units done"
    if found.rate:
        head += f", {found.rate:.3g} a second"
    if found.left is not None:
        head += f", about {_span(found.left)} left"
    lines = [head, *(_runs(one) for one in found.running)]
    if found.failures:
        kinds = ", ".join(f"{count} {kind}" for kind, count in found.kinds.items())
        lines.append(f"  {len(found.failures)} tries failed ({kinds})")
        lines += [f"  {one.unit} on {one.host} at {one.time}: {one.sentence}" for one in found.failures[-_TOLD:]]
    return [printable(line) for line in lines]


def _runs(one: "Running") -> str:
    silent = "" if one.silent is None or one.alive else f", silent for {_span(one.silent)}"
    who = f"{one.host}, process {one.pid}"
    if not one.alive:
        return f"  {who} has ended or cannot be reached{silent}; others take over {one.unit}"
    return f"  {who}: {one.unit} for {_span(one.seconds)}, {one.done} done before"


def _span(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 6000 else f"{seconds / 3600:.1f} hours"
