"""How docstrings are shown: aligned lists (`name  meaning`) as lists, and a recipe with its keys and their defaults."""

import re
from collections.abc import Iterator

import griffe

ENTRY = re.compile(r"(?P<name>\S(?:.{0,40}?\S)?) {2,}(?P<meaning>\S.*)")


def as_lists(text: str) -> str:
    """The text with Markdown lists in place of lines `name  meaning`, which Markdown would run together."""
    return "\n\n".join("\n".join(_listed(block.splitlines())) for block in re.split(r"\n{2,}", text))


def _listed(lines: list[str]) -> Iterator[str]:
    inside = False
    for line in lines:
        entry = ENTRY.fullmatch(line)
        if inside != bool(entry) and not (inside and line.startswith(" ")):
            inside = not inside
            yield ""  # a list and the sentences beside it are paragraphs of their own
        yield f"- `{entry['name'].replace('`', '')}`: {entry['meaning']}" if entry else line


def keys(recipe: griffe.Class) -> str:
    """The keys of a pydantic model with their types and defaults, as a block of code."""
    found = {name: one for name, one in recipe.attributes.items() if one.annotation}
    return "".join(f"\n    {k}: {v.annotation}" + (f" = {v.value}" if v.value else "") for k, v in found.items())


class Shown(griffe.Extension):
    """Rewrites every docstring before it is rendered."""

    def on_object(self, *, obj: griffe.Object, **kwargs: object) -> None:
        """Rewrite the docstring of an object, if it has one."""
        if obj.docstring:
            obj.docstring.value = as_lists(obj.docstring.value)
            if isinstance(obj, griffe.Class) and "BaseModel" in map(str, obj.bases):
                obj.docstring.value += f"\n\nKeys:\n{keys(obj)}"
