"""The defaults of a search: its name, its verifier, its corrector and its options, where a user names none.

They are read from the checkpoints' `search_config.json`. Naming them loads no model, and not torch either.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from imagecot import registry
from imagecot.contracts.search import Strategy
from imagecot.errors import ImagecotError, UsageError
from imagecot.identity import Identity
from imagecot.judging import beside, judge_named
from imagecot.promises import number_of_paths
from imagecot.strategies.options import settings_of, told

if TYPE_CHECKING:
    from pydantic import BaseModel

    from imagecot.contracts.generator import Generator
    from imagecot.contracts.verifier import Verifier

DEFAULT = "parm"  # where the generator advises no search, but a verifier is named


@dataclass(frozen=True)
class Models:
    """The models of a search; None for a role that it does not have."""

    generator: "Generator"
    verifier: "Verifier | None" = None
    corrector: "Generator | None" = None


@dataclass(frozen=True)
class Named:
    """A search and its models, by their names.

    models  names by role: the generator, and the verifier and the corrector where the search has one
    given   options of the search that the user gave
    """

    strategy: str
    models: Mapping[str, str]
    given: Mapping[str, object] = field(default_factory=dict)

    @property
    def search(self) -> Strategy:
        """The search itself."""
        return registry.load("search", self.strategy)

    def paths(self, n: int) -> int:
        """How many paths the search draws where n are asked for; UsageError where that is no valid number."""
        return number_of_paths(self.search, self.strategy, n)

    @property
    def known_when_loaded(self) -> bool:
        """Whether a model is code of other people, whose settings are known only when it is loaded."""
        return any(registry.is_code(role, name) for role, name in self.models.items())

    def load(self, precision: str | None = None) -> Models:
        """Load the models in a number format, by default the loader's choice; errors as of `registry.load`."""
        name, verifier, corrector = (self.models.get(role) for role in ("generator", "verifier", "corrector"))
        assert name is not None
        generator = registry.load("generator", name, dtype=precision)
        with beside(name, generator, dtype=precision):
            judge = registry.load("verifier", verifier, dtype=precision) if verifier is not None else None
        again = registry.load("generator", corrector, dtype=precision) if corrector is not None else None
        return Models(generator, judge, again)

    def digests(self) -> dict[str, str]:
        """SHA-256 by role of all that is named."""
        found: dict[str, str] = {}
        for role, name in [*self.models.items(), ("search", self.strategy)]:
            found |= registry.digests(role, name)
        return found

    def settings(self, steps: int | None = None) -> "BaseModel":
        """The options of the search: what the user gave, else what the verifier advises, else its defaults.

        steps  of a path; None where they are not known yet

        UsageError for an unknown option or an invalid value.
        """
        verifier = self.models.get("verifier")
        advice = registry.advice(verifier).get(self.strategy, {}) if verifier else {}
        return settings_of(self.search, self.strategy, self.given, advice, steps)

    def refuse_other_options(self, folder: Path, there: Identity) -> None:
        """Raise UsageError where the run in a folder had other options, as its identity there says."""
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
    """Fill in what is not named (None) as the generator's checkpoint advises; the verifier `self` is the generator.

    UsageError for an unknown name, an unknown option or an invalid value, and where the search needs a verifier that
    neither the user nor the checkpoint names, or the generator cannot be it.
    """
    registry.check("generator", generator)
    verifier = judge_named(verifier, generator) if verifier is not None else None
    roles = {"verifier": verifier, "corrector": corrector, "search": strategy}
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
    """The name that a generator's checkpoint advises in a role; ImagecotError where nothing has this name."""
    try:
        named = judge_named(name, generator) if role == "verifier" and name is not None else name
        return named if named is None else registry.check(role, named)
    except ImagecotError as error:
        raise ImagecotError(f"{generator} says a {role} that cannot be had: {error}") from None


def load_model(role: str, name: str, precision: str | None = None) -> "Generator | Verifier":
    """Load the model of a role in a search; errors as of `registry.load`."""
    if role == "verifier":
        return registry.load("verifier", name, dtype=precision)
    return registry.load("generator", name, dtype=precision)
