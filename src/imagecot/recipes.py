"""Recipes: YAML files that say of what kind they are, checked against that kind's pydantic model, and followed.

    from imagecot.recipes import follow, read
    follow(read("recipes/tiny/dpo.yaml", ["training.steps=5"]))

Nothing is guessed: a recipe says its `kind`. One of an earlier version does not; then whoever reads it says what it is
about, and `EARLIER` what it is.
"""

import difflib
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError

from imagecot.errors import UsageError, nearest
from imagecot.kinds import KINDS, STUDY, TRAIN
from imagecot.precision import has_bfloat16
from imagecot.watch import SILENT, Watch
from imagecot.yaml_files import parse_yaml, read_yaml

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

__all__ = ["check", "follow", "in_float32", "kind_of", "override", "problems", "read", "read_yaml", "usable"]

Recipe = TypeVar("Recipe", bound=BaseModel)
_SHOWN = 60  # characters of a wrong value that a message repeats
_NAMED = 20  # problems that a message names

EARLIER = {
    "dpo": ("iterative-dpo", ("prompts", "rounds")),
    "verifier": ("reward-model", ("base",)),
    "study": ("corrections-study", ("generator", "corrector")),
}
"""What a recipe without `kind` is: by what is said of it, another kind where it has one of these keys."""

# What recipes call bfloat16, and float32 in the same place.
_INSTEAD: dict[tuple[str, object], str | bool] = {
    ("precision", "bfloat16"): "float32",
    ("precision", "bf16"): "no",
    ("bf16", True): False,
}


def read(
    file: str | Path, overrides: Iterable[str] = (), kind: str = "", *, command: str = "", watch: Watch = SILENT
) -> BaseModel:
    """Return the recipe in a YAML file, checked by the model of its kind.

    overrides  `key=value` with dotted keys
    kind       what it must be; needed only of a recipe of an earlier version, which does not say it. Kinds that have
               one name in `EARLIER` fit each other, and all those of the command of that name
    command    whose kinds it must be one of, as `imagecot.kinds` says them; "" for any
    watch      is told the line that a recipe of an earlier version lacks

    UsageError for what is no recipe, says no kind or an unknown one, or has problems, all of them in one sentence.
    """
    file = Path(file)
    values = read_yaml(file)
    for assignment in overrides:
        before, values = values, override(values, [assignment])
        if "kind" in before and values["kind"] != before["kind"]:
            raise UsageError(f"{file}: kind is said twice, {_cut(before['kind'])} and {_cut(values['kind'])}.")
    found = _kind(values, file, kind, watch)
    if command not in ("", KINDS[found].command):
        raise UsageError(f"{file} is a recipe of the kind {found}; follow it by: {command_of(found, file)}.")
    return check({**values, "kind": found}, KINDS[found].model(), f"{file}, as a recipe of the kind {found},")


def _kind(values: Mapping[str, object], file: Path, said: str, watch: Watch) -> str:
    """The kind of a recipe that was read from a file; arguments and errors as of `read`."""
    if said and said not in KINDS:
        raise nearest("kind of recipe", said, [*KINDS])
    if "kind" not in values:
        return _earlier(values, file, said, watch)
    kind = values["kind"]
    if not isinstance(kind, str):
        raise UsageError(f"{file}: kind must be the name of a kind of recipe, such as dpo, not {_cut(kind)}.")
    if kind not in KINDS:
        raise UsageError(f"{file}: {nearest('kind of recipe', kind, [*KINDS])}")
    if said not in ("", kind, called_before(kind), KINDS[kind].command):
        raise UsageError(f"{file} is a recipe of the kind {kind}; follow it by: {command_of(kind, file)}.")
    return kind


def _earlier(values: Mapping[str, object], file: Path, said: str, watch: Watch) -> str:
    """The kind of a recipe that does not say it."""
    if not said:
        raise UsageError(f"{file} does not say its kind; add the line kind: and one of {', '.join(KINDS)}.")
    other, keys = EARLIER.get(said, (said, ()))
    kind = other if any(key in values for key in keys) else said
    watch.tell(f"{file} does not say its kind, as recipes of earlier versions; add the line kind: {kind}")
    return kind


def called_before(kind: str) -> str:
    """How recipes of a kind were called before they said it."""
    return next((name for name, (other, _) in EARLIER.items() if other == kind), kind)


def command_of(kind: str, file: Path, overrides: Iterable[str] = ()) -> str:
    """The command line that follows a recipe of a kind."""
    command = KINDS[kind].command
    return shlex.join(["imagecot", command if command in (TRAIN, STUDY) else "run", str(file), *overrides])


def kind_of(recipe: BaseModel) -> str:
    """The kind of a recipe; UsageError for what is no recipe of a known kind."""
    kind = dict(recipe).get("kind") if isinstance(recipe, BaseModel) else None
    if not isinstance(kind, str) or kind not in KINDS:
        raise UsageError(f"{_cut(recipe)} is no recipe that can be followed; give one that `imagecot.recipes` reads.")
    return kind


def follow(recipe: BaseModel, *, watch: Watch = SILENT) -> object:
    """Do what a recipe of any kind says, and return what the function of its kind returns (`imagecot.kinds`).

    bfloat16 is done in float32 where the processor has none. UsageError for what is no recipe of a known kind; other
    errors are those of the function.
    """
    kind = KINDS[kind_of(recipe)]
    return kind.function()(recipe if kind.as_said else usable(recipe, watch), watch=watch)


def usable(recipe: Recipe, watch: Watch = SILENT) -> Recipe:
    """The recipe itself, or where the processor has no bfloat16 the same in float32, which `watch` is told."""
    changed = in_float32(recipe)
    if changed == recipe or has_bfloat16():
        return recipe
    watch.tell("this processor has no bfloat16; float32 is used instead.")
    return changed


def in_float32(recipe: Recipe) -> Recipe:
    """The recipe with float32 for bfloat16 in all of its parts."""
    update: dict[str, object] = {}
    for name, value in recipe:
        if isinstance(value, BaseModel):
            update[name] = in_float32(value)
        elif isinstance(value, str | bool) and (name, value) in _INSTEAD:
            update[name] = _INSTEAD[name, value]
    return recipe.model_copy(update=update)


def override(values: Mapping[str, object], assignments: Iterable[str]) -> dict[str, object]:
    """Return a copy of `values` with each dotted `key=value` set; values are read as YAML.

    UsageError where an assignment has no `=`, is no YAML, or goes through a value that is no mapping.
    """
    result = dict(values)
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        path = key.split(".")
        if not equals or not all(name.strip() for name in path):
            raise UsageError(f"{_cut(assignment)} is not an override; write key=value, as in optimization.steps=100.")
        result = _with(result, path, parse_yaml(text, f"the value of {_cut(assignment)} is not YAML"), key)
    return result


def _with(values: Mapping[str, object], path: list[str], value: object, key: str) -> dict[str, object]:
    """A copy of a mapping with the value at a path of keys; `key` is how the whole path was written."""
    name, *rest = path
    if not rest:
        return {**values, name: value}
    inner = values.get(name, {})
    if not isinstance(inner, Mapping):
        raise UsageError(f"{key} cannot be set: {name} is not a group of keys in this recipe.")
    return {**values, name: _with(inner, rest, value, key)}


def _cut(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def problems(values: Mapping[str, object], model: type[BaseModel]) -> list[str]:
    """Return everything that keeps `values` from being a recipe of this kind, one phrase a problem."""
    try:
        model.model_validate(values)
    except ValidationError as error:
        return [_phrase(detail, model) for detail in error.errors()]
    return []


def _phrase(detail: "ErrorDetails", model: type[BaseModel]) -> str:
    where = ".".join(map(str, detail["loc"]))
    if detail["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(detail["loc"][-1]), _keys(model, detail["loc"][:-1]), n=1)
        return f"{where} is not a known key" + (f" (did you mean {near[0]}?)" if near else "")
    if detail["type"] == "missing":
        return f"{where} is missing"
    own = detail["type"] == "value_error"  # a sentence of ours, which may begin with a name
    message = detail["msg"].removeprefix("Value error, ") if own else detail["msg"][:1].lower() + detail["msg"][1:]
    return f"{where}: {message}, not {_cut(detail['input'])}" if where else message


def _keys(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """Return the keys that a model knows at a path of nested models."""
    for name in path:
        field = model.model_fields.get(str(name))
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return []
        model = field.annotation
    return list(model.model_fields)


def check(values: Mapping[str, object], model: type[Recipe], name: str) -> Recipe:
    """Return the recipe that `values` are; UsageError names all problems at once."""
    found = problems(values, model)
    if found:
        count = "1 problem" if len(found) == 1 else f"{len(found)} problems"
        rest = f"; and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        raise UsageError(f"{name} has {count}: {'; '.join(found[:_NAMED])}{rest}.")
    return model.model_validate(values)
