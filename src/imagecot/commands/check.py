"""`imagecot check`: whether a generator, a verifier or a search keeps what its protocol promises."""

import json
from enum import StrEnum
from typing import Annotated, Any

import typer

from imagecot.commands.output import waiting
from imagecot.errors import ImagecotError, UsageError


class Kind(StrEnum):
    """What can be checked."""

    generator = "generator"
    verifier = "verifier"
    search = "search"


def check(
    kind: Annotated[Kind, typer.Argument(help="What it is that is checked.", show_default=False)],
    name: Annotated[
        str,
        typer.Argument(help="A shipped name, a folder, a hub id or package.module:Class.", show_default=False),
    ],
    prompt: Annotated[
        list[str] | None,
        typer.Option(help="What to draw or to ask about, twice: two prompts that it can read.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Try whether your class keeps the rules that all the rest relies on; one line a rule.

    A path must be the same in every batch, after a resume and when it is forked; costs must be counted; what changes an
    image must stand in the settings. Each broken rule says what was seen and what to do.

    Examples:

      imagecot check generator my_package.my_module:MyGenerator

      imagecot check verifier tiny-parm

      imagecot check search my_search:Halving --json
    """
    prompts = _two(kind, prompt)
    with waiting(f"checking {name}"):
        from imagecot.checks.outcome import as_json as told
        from imagecot.checks.outcome import broken

        outcomes = _outcomes(kind, name, prompts)
    if as_json:
        typer.echo(json.dumps({"kind": kind.value, "name": name, **told(outcomes)}, ensure_ascii=False))
    else:
        width = max(len(outcome.rule) for outcome in outcomes)
        for outcome in outcomes:
            typer.echo(f"{outcome.state:9}  {outcome.rule:{width}}  {outcome.seen}".rstrip())
    wrong = len(broken(outcomes))
    if wrong:
        raise ImagecotError(f"{name} breaks {wrong} of {len(outcomes)} rules; mend it, and check again.")


def _outcomes(kind: Kind, name: str, prompts: tuple[str, str] | None) -> Any:
    """What came of all rules; errors as of `registry.load`, but for what the protocol lacks, which is a rule."""
    from imagecot import contracts, registry
    from imagecot.checks import check_generator, check_search, check_verifier
    from imagecot.imported import code_named

    protocols = {"generator": contracts.Generator, "verifier": contracts.Verifier, "search": contracts.Strategy}
    code = code_named(registry.check(kind.value, name))
    # Of a class that is named itself, what it lacks is told with all the rest.
    model: Any = code.make(protocols[kind.value], {}) if code else registry.load(kind.value, name)
    given = (prompts,) if prompts else ()
    trials: dict[str, Any] = {"generator": check_generator, "verifier": check_verifier, "search": check_search}
    return trials[kind.value](model, *given)


def _two(kind: Kind, prompts: list[str] | None) -> tuple[str, str] | None:
    """Two prompts, or None for those that every check has; UsageError for any other number."""
    if not prompts:
        return None
    if kind is Kind.search:
        raise UsageError("a search is tried on small models that read anything; leave out --prompt.")
    if len(prompts) != 2 or prompts[0] == prompts[1]:
        raise UsageError("a check takes two different prompts; give --prompt twice.")
    return prompts[0], prompts[1]
