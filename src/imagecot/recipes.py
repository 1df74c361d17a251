"""Recipes: YAML files checked against a pydantic model, with `key=value` overrides from the command line."""

import difflib
from collections.abc import Iterable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from imagecot.errors import UsageError
from imagecot.yaml_files import parse_yaml, read_yaml

__all__ = ["check", "override", "problems", "read_yaml"]

Recipe = TypeVar("Recipe", bound=BaseModel)
_SHOWN = 60  # characters of a wrong value that a message repeats
_NAMED = 20  # problems that a message names


def override(values: dict[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """Return a copy of `values` with each dotted `key=value` set; values are read as YAML.

    UsageError where an assignment has no `=`, is no YAML, or goes through a value that is no mapping.
    """
    result = _copy(values)
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        *path, last = key.split(".")
        if not equals or not all(name.strip() for name in (*path, last)):
            raise UsageError(f"{_cut(assignment)} is not an override; write key=value, as in optimization.steps=100.")
        value = parse_yaml(text, f"the value of {_cut(assignment)} is not YAML")
        place = result
        for name in path:
            place = place.setdefault(name, {})
            if not isinstance(place, dict):
                raise UsageError(f"{key} cannot be set: {name} is not a group of keys in this recipe.")
        place[last] = value
    return result


def _cut(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _copy(value: Any) -> Any:
    return {key: _copy(item) for key, item in value.items()} if isinstance(value, dict) else value


def problems(values: dict[str, Any], model: type[BaseModel]) -> list[str]:
    """Return everything that keeps `values` from being a recipe of this kind, one phrase a problem."""
    try:
        model.model_validate(values)
    except ValidationError as error:
        return [_phrase(detail, model) for detail in error.errors()]
    return []


def _phrase(detail: Any, model: type[BaseModel]) -> str:
    where = ".".join(map(str, detail["loc"]))
    if detail["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(detail["loc"][-1]), _keys(model, detail["loc"][:-1]), n=1)
        return f"{where} is not a known key" + (f" (did you mean {near[0]}?)" if near else "")
    if detail["type"] == "missing":
        return f"{where} is missing"
    message = detail["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    return f"{where}: {message}, not {_cut(detail['input'])}" if where else message


def _keys(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """Return the keys that a model knows at a path of nested models."""
    for name in path:
        field = model.model_fields.get(str(name))
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return []
        model = field.annotation
    return list(model.model_fields)


def check(values: dict[str, Any], model: type[Recipe], name: str) -> Recipe:
    """Return the recipe that `values` are; UsageError names all problems at once."""
    found = problems(values, model)
    if found:
        count = "1 problem" if len(found) == 1 else f"{len(found)} problems"
        rest = f"; and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        raise UsageError(f"{name} has {count}: {'; '.join(found[:_NAMED])}{rest}.")
    return model.model_validate(values)
