"""Recipes: YAML files checked against a pydantic model, with `key=value` overrides from the command line."""

import dataclasses
import difflib
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from imagecot.errors import UsageError

Recipe = TypeVar("Recipe", bound=BaseModel)
_MERGE = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """A safe loader that refuses a key given twice, which YAML forbids and PyYAML overlooks."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == _MERGE:
                continue  # `<<: *anchor` takes over another mapping's keys, of which the mapping's own go first
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable):
                if key in seen:
                    raise yaml.MarkedYAMLError(
                        problem=f"the key {key!r} is given twice", problem_mark=key_node.start_mark
                    )
                seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(file: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping; UsageError, with the line, where it does not."""
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"there is no recipe {file}; check the path.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read as text ({error}); pass a YAML file.") from error
    try:
        values = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise UsageError(f"{file}{where}: {problem or error}; correct the YAML.") from error
    if not isinstance(values, dict):
        raise UsageError(f"{file} holds no recipe; it must be a mapping of keys to values.")
    return values


def override(values: dict[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """Return a copy of `values` with each dotted `key=value` set; values are read as YAML.

    UsageError where an assignment has no `=`, is no YAML, or goes through a value that is no mapping.
    """
    result = _copy(values)
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key.strip("."):
            raise UsageError(f"{assignment!r} is not an override; write key=value, as in optimization.steps=100.")
        try:
            value = yaml.load(text, _Loader)
        except yaml.YAMLError as error:
            raise UsageError(f"the value of {assignment!r} is not YAML; quote it.") from error
        *path, last = key.split(".")
        place = result
        for name in path:
            place = place.setdefault(name, {})
            if not isinstance(place, dict):
                raise UsageError(f"{key} cannot be set: {name} is not a group of keys in this recipe.")
        place[last] = value
    return result


def _copy(value: Any) -> Any:
    return {key: _copy(item) for key, item in value.items()} if isinstance(value, dict) else value


def fields_of(config: type[Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A pydantic check that a dictionary has no other keys than a dataclass has fields."""

    def checked(values: dict[str, Any]) -> dict[str, Any]:
        names = [field.name for field in dataclasses.fields(config)]
        for key in values:
            if key not in names:
                near = difflib.get_close_matches(key, names, n=1)
                raise ValueError(f"{key} is not a known key" + (f" (did you mean {near[0]}?)" if near else ""))
        return values

    return checked


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
    message = detail["msg"][0].lower() + detail["msg"][1:]
    return f"{where}: {message}" + (f", not {detail['input']!r}" if detail["loc"] != () else "")


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
        raise UsageError(f"{name} has {count}: {'; '.join(found)}.")
    return model.model_validate(values)
