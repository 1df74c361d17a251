"""Reading YAML that people wrote by hand: one sentence with the line for what is wrong with it, and never a long wait.

A few lines of YAML can stand for gigabytes, by anchors that repeat each other. So the text is measured before anything
is made of it: how deep it goes, and how many values it holds with every anchor written out.
"""

import re
from collections.abc import Hashable
from pathlib import Path

import yaml

from imagecot.errors import UsageError
from imagecot.reading import read_text

MOST_CHARACTERS = 1_000_000
MOST_VALUES = 10_000  # with every anchor written out
DEEPEST = 30
_LONGEST_NUMBER = 1000  # bits
_MERGE = "tag:yaml.org,2002:merge"
_FLOAT = "tag:yaml.org,2002:float"


class _Loader(yaml.SafeLoader):
    """A safe loader that refuses a key given twice, which YAML forbids and PyYAML overlooks; 1e-4 is a number to it."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> object:
        try:
            value: object = super().construct_object(node, deep)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError):
            kind = node.tag.rsplit(":", 1)[-1]
            raise _problem(f"{_shown(node)} is no valid {kind}", node) from None
        if isinstance(value, int) and value.bit_length() > _LONGEST_NUMBER:
            raise _problem("a number has hundreds of digits", node)
        return value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        if not isinstance(node, yaml.MappingNode):
            raise _problem(f"{_shown(node)} is no mapping", node)
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == _MERGE:
                continue  # `<<: *anchor` takes over another mapping's keys, of which the mapping's own go first
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable):
                if key in seen:
                    raise _problem(f"the key {key!r} is given twice", key_node)
                seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    _FLOAT, re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$"), list("-+.0123456789")
)


def read_yaml(file: Path) -> dict[str, object]:
    """Read a YAML file that holds a mapping; UsageError, with the line, where it does not."""
    if not file.exists():
        raise UsageError(f"there is no recipe {file}; check the path.")
    values = parse_yaml(read_text(file, failure=UsageError, advice="pass a YAML file"), str(file))
    if not isinstance(values, dict):
        raise UsageError(f"{file} holds no recipe; it must be a mapping of keys to values.")
    return values


def parse_yaml(text: str, where: str) -> object:
    """Return the value of one YAML document; UsageError, naming `where` and the line, for what is none."""
    try:
        if len(text) > MOST_CHARACTERS:
            raise _problem(f"it has {len(text):,} characters, more than {MOST_CHARACTERS:,}", None)
        _measure(text)
        found: object = yaml.load(text, _Loader)
        return found
    except yaml.YAMLError as error:
        raise UsageError(_sentence(error, where)) from None


def _sentence(error: yaml.YAMLError, where: str) -> str:
    if isinstance(error, yaml.MarkedYAMLError):
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        told = " ".join(filter(None, (error.context, error.problem)))
        return f"{where}{line}: {' '.join(told.split())}; correct the YAML."
    return f"{where}: {' '.join(str(error).split())}; correct the YAML."


def _measure(text: str) -> None:
    """Raise YAMLError for a document that is too deep or too large, its anchors written out, or holds itself."""
    sizes: dict[str, int] = {}  # of finished anchors
    held: list[tuple[str | None, int]] = [(None, 0)]  # anchor and values of each collection that is still open
    for event in yaml.parse(text, _Loader):
        anchor = event.anchor if isinstance(event, yaml.NodeEvent) else None
        if isinstance(event, yaml.CollectionStartEvent):
            held.append((anchor, 1))
            if len(held) > DEEPEST:
                raise _problem(f"values are nested deeper than {DEEPEST - 1} levels", event)
            continue
        if isinstance(event, yaml.AliasEvent):
            if any(anchor == name for name, _ in held):
                raise _problem(f"*{anchor} holds itself", event)
            size = sizes.get(str(event.anchor), 1)
        elif isinstance(event, yaml.ScalarEvent):
            size = 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = held.pop()
        else:
            continue
        if anchor is not None and not isinstance(event, yaml.AliasEvent):
            sizes[anchor] = size
        held[-1] = (held[-1][0], held[-1][1] + size)
        if sum(count for _, count in held) > MOST_VALUES:
            raise _problem(f"more than {MOST_VALUES:,} values, with its anchors written out", event)


def _problem(text: str, at: yaml.Node | yaml.Event | None) -> yaml.MarkedYAMLError:
    mark = at.start_mark if at else None
    return yaml.MarkedYAMLError(problem=text, problem_mark=mark if isinstance(mark, yaml.Mark) else None)


def _shown(node: yaml.Node) -> str:
    return repr(node.value[:40]) if isinstance(node.value, str) else "a collection"
