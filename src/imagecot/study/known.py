"""What is known of a study's models when it begins: digests, and what a verifier advises.

Of a checkpoint its files say it. Other people's code is loaded once for that, since nobody else knows its settings.
"""

import json
from collections.abc import Mapping
from typing import Any

from imagecot import registry
from imagecot.contracts.generator import Generator
from imagecot.contracts.verifier import Advised
from imagecot.errors import UsageError

Advice = Mapping[str, Mapping[str, Any]]


class Known:
    """The models that a study names, each looked at once."""

    def __init__(self, precision: str | None) -> None:
        self._precision = precision
        self._said: dict[tuple[str, str], tuple[dict[str, Any], Advice]] = {}

    def digests(self, role: str, name: str) -> dict[str, Any]:
        """SHA-256 of what a model or a search consists of, and the settings of other people's code, by role.

        What the hub has and this machine not is fetched. UsageError for a name that can be none.
        """
        found = registry.digests(role, registry.check(role, name))
        return found | self._of_code(role, name)[0]

    def advice(self, verifier: str) -> Advice:
        """The settings that a verifier likes to be searched with, by the names of searches."""
        return {**registry.advice(verifier), **self._of_code("verifier", verifier)[1]}

    def _of_code(self, role: str, name: str) -> tuple[dict[str, Any], Advice]:
        """The settings and the advice of a class; nothing of a checkpoint or a search."""
        if role == "search" or not registry.is_code(role, name):
            return {}, {}
        if (role, name) not in self._said:
            model = registry.load(role, name, dtype=self._precision)
            said = {"steps": model.steps} if isinstance(model, Generator) else {}
            self._said[role, name] = (
                {f"{role}_settings": _plain(said | dict(model.settings), name)},
                model.advice if isinstance(model, Advised) else {},
            )
        return self._said[role, name]


def _plain(settings: dict[str, Any], name: str) -> Any:
    try:
        return json.loads(json.dumps(settings, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name} has settings that JSON does not know ({error}); let them be plain values.") from None
