"""A prompt and what its images must show, as GenEval's metadata say it (Ghosh et al., 2023)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from imagecot.contracts.values import JSON


@dataclass(frozen=True)
class Need:
    """So many objects of a class: at least `count` where they must be there, fewer where they must not.

    color     of each of them; "" where any will do
    relation  to the objects of an earlier need, such as `left of`; "" where they stand anywhere
    target    the place of that need among those of the prompt; -1 without a relation
    """

    name: str
    count: int = 1
    color: str = ""
    relation: str = ""
    target: int = -1

    @classmethod
    def of(cls, values: object) -> Self:
        """A need as GenEval writes it: class, count, color and position; ValueError for what is none."""
        match values:
            case {"class": str(name), "count": int(count), **more}:
                match more.get("color", ""), more.get("position", ("", -1)):
                    case str(color), [str(relation), int(target)]:
                        return cls(name, count, color, relation, target)
        raise ValueError(f"no requirement of GenEval: {values!r:.100}")

    def as_json(self) -> dict[str, JSON]:
        """The need as GenEval writes it."""
        found: dict[str, JSON] = {"class": self.name, "count": self.count}
        if self.color:
            found["color"] = self.color
        if self.relation:
            found["position"] = [self.relation, self.target]
        return found


@dataclass(frozen=True)
class Metadata:
    """A prompt of a task, and what its images must show (`include`) and must not (`exclude`).

    text  the JSON object that it was read from, with whatever else stood there; made of the rest where it is not given
    """

    tag: str
    prompt: str
    include: tuple[Need, ...]
    exclude: tuple[Need, ...] = ()
    text: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if not self.text:
            object.__setattr__(self, "text", json.dumps(self._values()))

    @classmethod
    def of(cls, values: Mapping[str, object]) -> Self:
        """Metadata as GenEval writes them: tag, include, exclude, prompt; ValueError for what is none."""
        match values:
            case {"tag": str(tag), "prompt": str(prompt), **more}:
                match more.get("include", ()), more.get("exclude", ()):
                    case [*include], [*exclude]:
                        needs, limits = (tuple(Need.of(need) for need in part) for part in (include, exclude))
                        return cls(tag, prompt, needs, limits, json.dumps(values))
        raise ValueError(f"no metadata of GenEval: {values!r:.100}")

    @property
    def key(self) -> str:
        """Equal for metadata that say the same, in whatever order."""
        return json.dumps(self.as_json(), sort_keys=True)

    def as_json(self) -> dict[str, JSON]:
        """The metadata as GenEval writes them, in the order and with all keys of what they were read from."""
        found: dict[str, JSON] = json.loads(self.text)
        return found

    def worded(self, prompt: str) -> Self:
        """The same requirement, of another prompt."""
        return replace(self, prompt=prompt, text=json.dumps({**self.as_json(), "prompt": prompt}))

    def _values(self) -> dict[str, JSON]:
        exclude: dict[str, JSON] = {"exclude": [need.as_json() for need in self.exclude]} if self.exclude else {}
        include: list[JSON] = [need.as_json() for need in self.include]
        return {"tag": self.tag, "include": include, **exclude, "prompt": self.prompt}
