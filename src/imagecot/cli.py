"""The command line. Each command is a file of `imagecot.commands`; here is what holds for all of them.

Exit codes: 0 done, 1 failed, 2 a mistake in the request, 130 interrupted, 143 ended. No failure ends in a traceback.
"""

import sys
from typing import Annotated, NoReturn

import typer

from imagecot import __version__, interruption, last_resort
from imagecot.commands import (
    benchmark,
    browser,
    calibrate,
    check,
    curate,
    evaluate,
    generate,
    geneval2,
    judge,
    models,
    plan,
    push,
    report,
    run,
    serve,
    status,
    study,
    train,
    validate,
    view,
)
from imagecot.commands.logged import LoggedCommand
from imagecot.commands.output import LOG, say
from imagecot.commands.searches import SearchCommand
from imagecot.errors import OUT_OF_MEMORY, ImagecotError, UsageError
from imagecot.files import reason
from imagecot.memory import is_out_of_memory

app = typer.Typer(
    name="imagecot",
    invoke_without_command=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(cls=SearchCommand)(generate.generate)
app.add_typer(curate.app, name="curate")
evaluate.app.command(cls=SearchCommand)(geneval2.geneval2)
app.add_typer(evaluate.app, name="evaluate")
app.command(cls=LoggedCommand)(train.train)
app.command(cls=LoggedCommand)(study.study)
app.command()(report.report)
app.command()(view.view)
app.command()(status.status)
app.command(cls=LoggedCommand)(calibrate.calibrate)
app.command(cls=LoggedCommand)(run.run)
app.command()(serve.serve)
app.command()(browser.app)
app.command()(validate.validate)
app.command()(plan.plan)
app.command()(models.models)
app.command()(push.push)
app.command()(check.check)
app.add_typer(judge.app, name="judge")
app.command(cls=LoggedCommand)(benchmark.benchmark)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"imagecot {__version__}")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)]


@app.callback(epilog='Start with: imagecot generate "a photo of a red apple"')
def imagecot(context: typer.Context, *, version: Version = False) -> None:
    """Verify and reinforce image generation, step by step."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise UsageError('no command was given; choose one, such as imagecot generate "a photo of a red apple".')


def main() -> None:
    """Run the command line, and turn failures into one line and an exit code."""
    interruption.catch_signals()
    try:
        app()
    except interruption.Stopped as stopped:
        _end(stopped.sentence, stopped.exit_code)
    except ImagecotError as error:
        _fail(error, str(error), error.exit_code)
    except Exception as error:
        if is_out_of_memory(error):
            _fail(error, OUT_OF_MEMORY, 1)
        if isinstance(error, OSError):
            _fail(error, f"{error.filename or 'a file'}: {reason(error)}.", 1)
        if last_resort.switched_off():
            raise
        _fail(error, last_resort.sentence(error), 1)


def _fail(error: Exception, message: str, code: int) -> NoReturn:
    """End with a message; a failure that a request to stop has caused ends as that request."""
    stopped = interruption.asked()
    if stopped is not None:
        _end(stopped.sentence, stopped.exit_code)
    _end(f"error: {message}", code)


def _end(message: str, code: int) -> NoReturn:
    say(message)
    if log := LOG.get():
        log.write("error", text=message.removeprefix("error: "), exit_code=code)
    sys.exit(code)
