"""Settings: what tells two models of the same weights apart must be in them, as JSON knows it."""

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from torch import Tensor, nn

from imagecot.contracts.generator import Generator
from imagecot.contracts.verifier import Verifier
from imagecot.memory import is_out_of_memory
from imagecot.promises import no_json

Model = TypeVar("Model", bound=Generator | Verifier)
Simple = bool | int | float | str
_OF_MODULES = frozenset(vars(nn.Module()))  # what every module has of its own, such as `training`


def json_and_stay(model: Generator | Verifier, use: Callable[[], object], after: str) -> str | None:
    """What is wrong with the settings of a model: that JSON does not hold them, or that they differ after its use."""
    problem = no_json(model.settings)
    if problem is not None:
        return f"{problem}."
    before = dict(model.settings)
    use()
    if dict(model.settings) != before:
        return f"settings differ after {after}; let them hold nothing but what you were made with."
    return None


def unnamed(model: Model, does: Callable[[Model], Tensor], differ: Callable[[Tensor, Tensor], bool]) -> list[str]:
    """Simple attributes of a model that are in no settings, though another value changes what it does.

    does    what a model does, such as to draw; a copy that cannot do it any more is left aside
    differ  whether two such results differ

    The attributes are those of the instance that are a bool, int, float or str, all but `steps`. A copy shares the
    weights and everything else with the model.
    """
    before = dict(model.settings)
    expected = does(copy.copy(model))
    found = []
    for name, value in _simple(model):
        if name in before or name == "steps":
            continue
        for other in _others(value):
            changed = copy.copy(model)
            try:
                object.__setattr__(changed, name, other)
                if dict(changed.settings) == before and differ(expected, does(changed)):
                    found.append(name)
                    break
            except Exception as error:  # such a value cannot be
                if is_out_of_memory(error):
                    raise
    return found


def said(names: list[str], what: str) -> str | None:
    """The sentence about attributes that are in no settings; None where there are none."""
    if not names:
        return None
    return f"another {' and another '.join(names)} changes {what}, and settings does not say so; put it into settings."


def _simple(model: object) -> Iterator[tuple[str, Simple]]:
    module = isinstance(model, nn.Module)
    for name, value in vars(model).items():
        if isinstance(value, bool | int | float | str) and not (module and name in _OF_MODULES):
            yield name, value


def _others(value: Simple) -> Sequence[Simple]:
    """Other values of the same kind."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, 2 * value + 3]
    if isinstance(value, float):
        return [value + 1.0, value / 2, value + 0.25]
    return [f"{value} and more", ""]
