"""The command line. Each command is a file of `imagecot.commands`; here is what holds for all of them.

Exit codes: 0 done, 1 failed, 2 a mistake in the request, 130 interrupted. No failure that a user can cause
ends in a traceback.
"""

import sys
from typing import Annotated, NoReturn

import typer

from imagecot import __version__
from imagecot.commands import benchmark, curate, evaluate, generate, models, recipe, report
from imagecot.commands.output import say
from imagecot.errors import ImagecotError

app = typer.Typer(
    name="imagecot",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(generate.generate)
app.add_typer(curate.app, name="curate")
app.add_typer(evaluate.app, name="evaluate")
app.command()(recipe.train)
app.command()(recipe.study)
app.command()(report.report)
app.command()(recipe.validate)
app.command()(models.models)
app.command()(benchmark.benchmark)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"imagecot {__version__}")
        raise typer.Exit


@app.callback(epilog='Start with: imagecot generate "a photo of a red apple"')
def imagecot(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Verify and reinforce image generation, step by step."""


def main() -> None:
    """Run the command line, and turn failures into one line and an exit code."""
    try:
        app()
    except ImagecotError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail("stopped.", 130)
    except OSError as error:
        from imagecot.files import reason

        _fail(f"{error.filename or 'a file'}: {reason(error)}.", 1)
    except (RuntimeError, MemoryError) as error:
        from imagecot.memory import is_out_of_memory

        if is_out_of_memory(error):
            _fail(_MEMORY, 1)
        raise


_MEMORY = "there is not enough memory; draw fewer paths with -n, or use a smaller model."


def _fail(message: str, code: int) -> NoReturn:
    say(f"error: {message}")
    sys.exit(code)
