"""`imagecot check`: whether a generator, a verifier or a search keeps what its protocol promises."""

import json
from enum import StrEnum
from typing import Annotated

import typer

from imagecot.commands.options import AsJson
from imagecot.commands.output import waiting
from imagecot.errors import ImagecotError


class Role(StrEnum):
    """What can be checked."""

    generator = "generator"
    verifier = "verifier"
    search = "search"


Kind = Annotated[Role, typer.Argument(help="What it is that is checked.", show_default=False)]
Name = Annotated[
    str, typer.Argument(help="A shipped name, a folder, a hub id or package.module:Class.", show_default=False)
]
Prompt = Annotated[
    list[str] | None,
    typer.Option(help="What to draw or to ask about, twice: two prompts that it can read.", show_default=False),
]


def check(kind: Kind, name: Name, *, prompt: Prompt = None, as_json: AsJson = False) -> None:
    """Try whether your class keeps the rules that all the rest relies on; one line a rule.

    A path must be the same in every batch, after a resume and when it is forked; costs must be counted; what changes an
    image must stand in the settings. Each broken rule says what was seen and what to do.

    Examples:

      imagecot check generator my_package.my_module:MyGenerator

      imagecot check verifier tiny-parm

      imagecot check search my_search:Halving --json
    """
    with waiting(f"checking {name}"):
        from imagecot.checks import broken, check_named
        from imagecot.checks.outcome import as_json as told

        outcomes = check_named(kind.value, name, prompt or ())
    if as_json:
        typer.echo(json.dumps({"kind": kind.value, "name": name, **told(outcomes)}, ensure_ascii=False))
    else:
        width = max(len(outcome.rule) for outcome in outcomes)
        for outcome in outcomes:
            typer.echo(f"{outcome.state:9}  {outcome.rule:{width}}  {outcome.seen}".rstrip())
    wrong = len(broken(outcomes))
    if wrong:
        raise ImagecotError(f"{name} breaks {wrong} of {len(outcomes)} rules; mend it, and check again.")
