"""The options of a strategy: its own `Settings`, what the verifier advises, and what the user says."""

from collections.abc import Mapping
from numbers import Integral, Real

from pydantic import BaseModel, ConfigDict, ValidationError

from imagecot.bounds import shown
from imagecot.contracts.search import Strategy
from imagecot.contracts.values import JSON
from imagecot.errors import ImagecotError, UsageError
from imagecot.imported import calling
from imagecot.promises import no_json
from imagecot.reading import phrases

OPTIONS = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
"""How the `Settings` of a strategy are configured: no unknown options, no other types, only finite numbers."""
Steps = Mapping[str, int | None]
"""The context in which options are validated: {"steps": steps of a path}, where they are known."""


class NoSettings(BaseModel):
    """Of a strategy without options."""

    model_config = OPTIONS


def settings_of(
    strategy: Strategy, name: str, given: Mapping[str, object], advice: Mapping[str, JSON], steps: int | None = None
) -> BaseModel:
    """Return the settings of a strategy: what is given goes before the advice, and the advice before the defaults.

    name    of the strategy, for messages
    advice  of the verifier; what does not fit a generator of these steps is left out
    steps   of a path, which bound some settings; None where they are not known yet

    UsageError for an unknown option or an invalid value; ImagecotError where they are the verifier's advice.
    """
    known = list(strategy.Settings.model_fields)
    for option in given:
        if option not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise UsageError(f"{name} has no option {option!r}; {has}.")
    context = {"steps": steps}
    advised = {option: value for option, value in advice.items() if option not in given}
    never = wrong_options(strategy, advised, {})
    wrong = [option for option in advised if option not in known or option in never]
    if wrong:
        raise ImagecotError(
            f"the verifier advises {name} {wrong[0]!r} = {shown(advised[wrong[0]])}, which it does not take; mend the "
            "verifier's advice, or give another value."
        )
    for option in wrong_options(strategy, advised, context):
        advised.pop(option, None)
    found = validated(strategy, advised | _plain(given), context)
    if isinstance(found, ValidationError):
        raise UsageError(f"the options of {name} cannot be: {phrases(found)}.")
    with calling(strategy, "Settings"):
        unwritable = no_json(told(found))
    if unwritable:
        raise UsageError(f"the options of {name} cannot be: {unwritable}.")
    return found


def wrong_options(strategy: Strategy, values: Mapping[str, object], context: Steps) -> list[str]:
    """The names of the options whose values are invalid."""
    found = validated(strategy, values, context)
    if isinstance(found, ValidationError):
        return [str(detail["loc"][0]) if detail["loc"] else next(iter(values)) for detail in found.errors()]
    return []


def validated(strategy: Strategy, values: Mapping[str, object], context: Steps) -> BaseModel | ValidationError:
    """The settings of a strategy from these values, or the error that says why they are invalid."""
    with calling(strategy, "Settings"):
        try:
            return strategy.Settings.model_validate(dict(values), context=dict(context))
        except ValidationError as error:
            return error


def told(settings: BaseModel) -> dict[str, JSON]:
    """The settings that differ from the strategy's defaults, as an identity holds them."""
    found: dict[str, JSON] = settings.model_dump(mode="json", exclude_defaults=True)
    return found


def _plain(given: Mapping[str, object]) -> dict[str, object]:
    """Numbers of other libraries as Python's own."""
    return {name: _number(value) for name, value in given.items()}


def _number(value: object) -> object:
    if isinstance(value, bool | int | float):
        return value
    return int(value) if isinstance(value, Integral) else float(value) if isinstance(value, Real) else value
