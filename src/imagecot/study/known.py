"""What is known of a study's models when it begins: digests, and what a verifier advises.

Of a checkpoint its files say it. Other people's code is loaded once for that, since nobody else knows its settings.
"""

import json
from collections.abc import Collection, Iterable, Mapping

from imagecot import registry
from imagecot.contracts.values import JSON
from imagecot.contracts.verifier import Advised
from imagecot.errors import UsageError
from imagecot.study.recipe import Advice, RowRecipe

Weights = dict[str, dict[str, dict[str, JSON]]]
"""SHA-256 of what models and searches consist of, with their settings: by the plural of the role, name and part."""


class Known:
    """The models that a study names, each looked at once."""

    def __init__(self, precision: str | None) -> None:
        self._precision = precision
        self._said: dict[tuple[str, str], tuple[dict[str, JSON], Advice]] = {}

    def digests(self, role: str, name: str) -> dict[str, JSON]:
        """SHA-256 of what a model or a search consists of, and the settings of other people's code, by role.

        What the hub has and this machine not is fetched. UsageError for a name that can be none.
        """
        found = registry.digests(role, registry.check(role, name))
        return found | self._of_code(role, name)[0]

    def of_rows(self, rows: Collection[RowRecipe], generators: Iterable[str], verifiers: Iterable[str] = ()) -> Weights:
        """The digests of all that rows name and of further models, but of our own searches: those of code alone."""
        named: Mapping[str, set[str | None]] = {
            "generator": {*generators, *(row.corrector for row in rows)},
            "verifier": {*verifiers, *(row.verifier for row in rows)},
            "search": {row.search for row in rows if registry.is_code("search", row.search)},
        }
        plural = {"generator": "generators", "verifier": "verifiers", "search": "searches"}
        return {
            plural[role]: {name: self.digests(role, name) for name in sorted(filter(None, asked))}
            for role, asked in named.items()
        }

    def advice(self, verifier: str) -> Advice:
        """The settings that a verifier likes to be searched with, by the names of searches."""
        return {**registry.advice(verifier), **self._of_code("verifier", verifier)[1]}

    def _of_code(self, role: str, name: str) -> tuple[dict[str, JSON], Advice]:
        """The settings and the advice of a class; nothing of a checkpoint or a search."""
        if role == "search" or not registry.is_code(role, name):
            return {}, {}
        if (role, name) not in self._said:
            self._said[role, name] = self._generator(name) if role == "generator" else self._verifier(name)
        return self._said[role, name]

    def _generator(self, name: str) -> tuple[dict[str, JSON], Advice]:
        model = registry.load("generator", name, dtype=self._precision)
        return {"generator_settings": _plain({"steps": model.steps, **model.settings}, name)}, {}

    def _verifier(self, name: str) -> tuple[dict[str, JSON], Advice]:
        model = registry.load("verifier", name, dtype=self._precision)
        advice = model.advice if isinstance(model, Advised) else {}
        return {"verifier_settings": _plain(model.settings, name)}, advice


def _plain(settings: Mapping[str, object], name: str) -> JSON:
    try:
        found: JSON = json.loads(json.dumps(dict(settings), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name} has settings that JSON does not know ({error}); let them be plain values.") from None
    return found
