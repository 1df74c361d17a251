"""`--log FILE`: an option of every command that may take long."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperOption

from imagecot.commands.output import LOG, say
from imagecot.event_log import EventLog


def _opened(context: typer.Context, value: Path | None) -> Path | None:
    if value is not None and not context.resilient_parsing:
        LOG.set(EventLog(value, say))
    return value


def _asked(
    log: Annotated[
        Path | None,
        typer.Option(
            "--log",
            help="Append what goes on to this file, a JSON object a line.",
            metavar="FILE.jsonl",
            show_default=False,
            expose_value=False,
            callback=_opened,
        ),
    ] = None,
) -> None:
    """Nothing is done: only the parameter is wanted."""  # fmt: skip


def parameters(function: Callable[..., None]) -> list[TyperOption]:
    """The options that typer makes of a function's parameters."""
    app = typer.Typer(add_completion=False)
    app.command()(function)
    return [param for param in typer.main.get_command(app).params if isinstance(param, TyperOption)]


class LoggedCommand(TyperCommand):
    """A command with the option `--log`, before help."""

    _log: list[TyperOption] | None = None

    def get_params(self, ctx: Any) -> list[Any]:
        """The command's own parameters, and `--log`."""
        own = super().get_params(ctx)
        if self._log is None:
            self._log = parameters(_asked)
        return [*own[: len(self.params)], *self._log, *own[len(self.params) :]]
