"""What goes where a user says nothing: which search, who judges in it and who corrects, and under which options.

The checkpoints say it (`search_config.json`). No model is loaded, and neither is torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from imagecot import registry
from imagecot.contracts.search import Strategy
from imagecot.errors import ImagecotError, UsageError
from imagecot.identity import Identity
from imagecot.promises import number_of_paths
from imagecot.strategies.options import settings_of, told

if TYPE_CHECKING:
    from pydantic import BaseModel

    from imagecot.contracts.generator import Generator
    from imagecot.contracts.verifier import Verifier

DEFAULT = "parm"  # where the generator says nothing, but a verifier is named


@dataclass(frozen=True)
class Models:
    """The models of a search, as far as it has any."""

    generator: "Generator"
    verifier: "Verifier | None" = None
    corrector: "Generator | None" = None


@dataclass(frozen=True)
class Named:
    """A search and its models, by their names.

    models  by role: generator, verifier and corrector, as far as there are any
    given   the options of the search that were given
    """

    strategy: str
    models: Mapping[str, str]
    given: Mapping[str, object] = field(default_factory=dict)

    @property
    def search(self) -> Strategy:
        """The search itself."""
        return registry.load("search", self.strategy)

    def paths(self, n: int) -> int:
        """How many paths the search draws where n are asked for; UsageError where it says no such number."""
        return number_of_paths(self.search, self.strategy, n)

    @property
    def known_when_loaded(self) -> bool:
        """Whether nobody knows the settings of a model before it is loaded."""
        return any(registry.is_code(role, name) for role, name in self.models.items())

    def load(self, precision: str | None = None) -> Models:
        """Load the models in a number format, by default the loader's choice; errors as of `registry.load`."""
        verifier, corrector = self.models.get("verifier"), self.models.get("corrector")
        return Models(
            registry.load("generator", self.models["generator"], dtype=precision),
            registry.load("verifier", verifier, dtype=precision) if verifier is not None else None,
            registry.load("generator", corrector, dtype=precision) if corrector is not None else None,
        )

    def digests(self) -> dict[str, str]:
        """SHA-256 by role of all that is named."""
        found: dict[str, str] = {}
        for role, name in [*self.models.items(), ("search", self.strategy)]:
            found |= registry.digests(role, name)
        return found

    def settings(self, steps: int | None = None) -> "BaseModel":
        """The options of the search: what is given, else what the verifier advises, else its defaults.

        steps  of a path; None where they are not known yet

        UsageError for an option that the search has not, or a value that it cannot have.
        """
        verifier = self.models.get("verifier")
        advice = registry.advice(verifier).get(self.strategy, {}) if verifier else {}
        return settings_of(self.search, self.strategy, self.given, advice, steps)

    def refuse_other_options(self, folder: Path, there: Identity) -> None:
        """Raise UsageError where the run in a folder was searched under other options, by its identity there."""
        steps, recorded = there.get("steps"), there.get("settings")
        asked = self.settings(steps if isinstance(steps, int) else None)
        had = recorded if isinstance(recorded, dict) else {}
        for name, entry in type(asked).model_fields.items():
            if had.get(name) != told(asked).get(name):
                old = had.get(name, entry.get_default(call_default_factory=True))
                new = asked.model_dump(mode="json")[name]
                raise UsageError(f"{folder} holds another run ({name} {old}, not {new}); choose another folder.")


def completed(
    generator: str, strategy: str | None, verifier: str | None, corrector: str | None, given: Mapping[str, object]
) -> Named:
    """Name what is not named (None), as the generator's checkpoint says it.

    UsageError for a name that there is not, an option that the search has not or that cannot be, and where it needs a
    verifier and nobody knows of one.
    """
    roles = {"generator": generator, "verifier": verifier, "corrector": corrector, "search": strategy}
    for role, name in roles.items():
        if name is not None:
            registry.check(role, name)
    said = registry.search_defaults(generator)
    strategy = strategy or _there(generator, "search", said.search) or (DEFAULT if verifier is not None else None)
    if strategy is None:
        raise UsageError(
            f"{generator} brings no search along; name a verifier trained for what it draws with --verifier, or "
            "search without one, such as with --search single."
        )
    needs = registry.load("search", strategy).needs
    if "verifier" in needs and verifier is None:
        verifier = _there(generator, "verifier", said.verifiers.get(strategy))
        if verifier is None:
            raise UsageError(
                f"{strategy} needs a verifier trained for what {generator} draws; name it with --verifier."
            )
    if "corrector" in needs and corrector is None:
        corrector = _there(generator, "corrector", said.corrector)
    models = {"generator": generator, "verifier": verifier, "corrector": corrector}
    named = Named(strategy, {role: name for role, name in models.items() if name is not None}, given)
    _ = named.settings()
    return named


def _there(generator: str, role: str, name: str | None) -> str | None:
    """The name that a generator's checkpoint says in a role; ImagecotError where there is no such thing."""
    try:
        return name if name is None else registry.check(role, name)
    except ImagecotError as error:
        raise ImagecotError(f"{generator} says a {role} that cannot be had: {error}") from None


def load_model(role: str, name: str, precision: str | None = None) -> "Generator | Verifier":
    """Load the model of a role in a search; errors as of `registry.load`."""
    if role == "verifier":
        return registry.load("verifier", name, dtype=precision)
    return registry.load("generator", name, dtype=precision)
