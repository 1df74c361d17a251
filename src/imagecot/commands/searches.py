"""The options of searches on the command line: all settings of all known ones, by their names and by `--set`.

They are made of each search's `Settings` when a command that names a search is run, completed or asked for help: for
`imagecot --help` no search is read.
"""

import inspect
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperOption

from imagecot.commands.logged import LoggedCommand, parameters
from imagecot.commands.output import completion
from imagecot.errors import ImagecotError, UsageError

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    Known = dict[str, list[tuple[str, FieldInfo]]]  # a setting -> the searches that have it

_GIVEN = "imagecot.commands.searches"  # where a command's context holds what was given by name
_PANEL = "Settings of searches"

Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="A setting of the search, whoever wrote it: keep=0.4.", metavar="NAME=VALUE"),
]

Corrector = Annotated[
    str | None,
    typer.Option(
        help="Who draws again what a search finds wrong, with the same image codes. Default: the generator itself, "
        "of shipped ones tiny-self-correct.",
        autocompletion=completion("generator"),
        show_default=False,
    ),
]


def searches() -> list[str]:
    """The names of all known searches."""
    from imagecot import registry

    return registry.names("search")


class SearchCommand(LoggedCommand):
    """A command that names a search: each setting of a known one is an option of it, told with all that is known.

    A setting that is called like another option of the command is given by `--set`. In the help of the command's own
    options `{searches}` stands for the names of all searches.
    """

    _settings: list[TyperOption] | None = None

    def get_params(self, ctx: Any) -> list[Any]:
        """The command's own parameters, the settings of searches, and help."""
        own = super().get_params(ctx)
        if self._settings is None:
            taken = {option for param in own for option in param.opts}
            self._settings = _parameters(name for name in _known() if _option(name) not in taken)
            names = ", ".join(searches())
            for param in own:
                if isinstance(param, TyperOption) and param.help:
                    param.help = param.help.replace("{searches}", names)
        return [*own[: len(self.params)], *self._settings, *own[len(self.params) :]]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help, with what is known of each setting."""
        self.get_params(ctx)
        known, advised = _known(), _advice()
        for param in self._settings or []:
            param.help = _told(known[str(param.name)], advised.get(str(param.name), {}))
        super().format_help(ctx, formatter)


def settings_given(context: typer.Context, assignments: Sequence[str] | None) -> dict[str, object]:
    """The settings of the search that were given, by name and by `--set`; values are read as YAML.

    UsageError for an assignment that is none, a value that is no YAML, and a setting that is given twice.
    """
    from imagecot.yaml_files import parse_yaml

    found: dict[str, str] = dict(context.meta.get(_GIVEN, {}))
    for assignment in assignments or []:
        name, equals, text = assignment.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name:
            raise UsageError(f"--set {assignment[:60]!r} sets nothing; write NAME=VALUE, as in keep=0.4.")
        if name in found:
            raise UsageError(f"{name} is given twice; give it once.")
        found[name] = text
    return {name: parse_yaml(text, f"the value of {name} is not YAML") for name, text in found.items()}


def _known() -> "Known":
    """The settings of all known searches; one that cannot be had is told when it is named."""
    from imagecot import registry

    found: Known = {}
    for search in searches():
        try:
            fields = registry.load("search", search).Settings.model_fields
        except ImagecotError:
            continue
        for name, entry in fields.items():
            found.setdefault(name, []).append((search, entry))
    return found


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _parameters(names: Iterable[str]) -> list[TyperOption]:
    """An option for each setting, as typer makes them of a function's parameters."""

    def note(context: typer.Context, option: typer.CallbackParam, value: list[str] | None) -> list[str] | None:
        if value and not context.resilient_parsing:
            if len(value) > 1:
                raise UsageError(f"{option.name} is given twice; give it once.")
            context.meta.setdefault(_GIVEN, {})[option.name] = value[0]
        return value

    def settings(**_: list[str] | None) -> None:
        """Nothing is done: only the parameters are wanted."""

    kinds: dict[str, object] = {
        name: Annotated[
            list[str] | None,
            typer.Option(
                _option(name), metavar="VALUE", rich_help_panel=_PANEL, show_default=False, expose_value=False,
                callback=note,
            ),
        ]
        for name in names
    }  # fmt: skip
    settings.__annotations__ = kinds
    settings.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kinds[name])
            for name in kinds
        ]
    )
    return parameters(settings)


def _advice() -> "dict[str, dict[str, list[str]]]":
    """What the shipped verifiers advise: setting -> value, as it is written -> their names."""
    from imagecot import registry
    from imagecot.models import shipped

    found: dict[str, dict[str, list[str]]] = {}
    for verifier in shipped("verifier"):
        try:
            advice = registry.advice(verifier)
        except ImagecotError:  # a damaged file is told when its model is named
            continue
        for settings in advice.values():
            for name, value in settings.items():
                who = found.setdefault(name, {}).setdefault(_written(value), [])
                who += [verifier] * (verifier not in who)
    return found


def _told(having: "Sequence[tuple[str, FieldInfo]]", advised: Mapping[str, Sequence[str]]) -> str:
    """The help of a setting: what it is, of which searches, its default, and what shipped verifiers advise."""
    from rich.markup import escape

    what = " ".join(dict.fromkeys(entry.description for _, entry in having if entry.description))
    defaults: dict[str, list[str]] = {}
    for search, entry in having:
        value = "none" if entry.is_required() else _written(entry.get_default(call_default_factory=True))
        defaults.setdefault(value, []).append(search)
    one = len(defaults) == 1
    default = ", ".join(value if one else f"{value} in {_listed(of)}" for value, of in defaults.items())
    advice = "".join(f"; with {_listed(who)} {value}" for value, who in advised.items())
    return escape(f"{what} Of {_listed([search for search, _ in having])}. Default: {default}{advice}.".strip())


def _written(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else json.dumps(value, default=str)


def _listed(names: "Sequence[str]") -> str:
    """Names as a sentence has them."""
    *before, last = names
    return f"{', '.join(before)} and {last}" if before else last
