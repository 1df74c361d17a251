"""A request for a search, checked before anything is drawn, and the identity of its result."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from imagecot import registry
from imagecot.bounds import check_paths, check_seed, shown
from imagecot.contracts.asking import Asking, Selective
from imagecot.contracts.generator import Corrector, Doubting, Generator, Remasker
from imagecot.contracts.search import Candidate, Choice, Cost, Strategy
from imagecot.contracts.values import JSON
from imagecot.contracts.verifier import Advised, Verifier
from imagecot.errors import UsageError
from imagecot.imported import calling
from imagecot.promises import number_of_paths
from imagecot.prompts import check_prompt, check_prompts
from imagecot.reflection.reflect import check_reflects
from imagecot.strategies.options import settings_of, told
from imagecot.strategies.trace import Trace

if TYPE_CHECKING:
    from pydantic import BaseModel
    from torch import Tensor

    from imagecot.strategies.run import Run


@dataclass(frozen=True)
class Request:
    """A request for a search; UsageError where it cannot be carried out.

    strategy  the name of a search, or a search itself
    options   of the strategy, as given
    names     of the models, for the trace; by default those of their classes
    weights   SHA-256 of their weights, by role
    of_path   whether the seed is that of the path itself, where a search draws only one
    """

    prompt: str
    generator: Generator
    verifier: Verifier | None
    strategy: str | Strategy
    n: int
    seed: int
    options: Mapping[str, object] = field(default_factory=dict)
    corrector: Generator | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)
    of_path: bool = False

    def __post_init__(self) -> None:
        check_prompt(self.prompt)
        check_paths(self.n)
        check_seed(self.seed)
        for what, given in (("names", self.names), ("weights", self.weights)):
            if not isinstance(given, Mapping) or not all(isinstance(t, str) for pair in given.items() for t in pair):
                raise UsageError(f"{what} must be texts by the roles of models, not {shown(given)}.")
        for role, model in (("generator", self.generator), ("verifier", self.verifier), ("corrector", self.corrector)):
            if role == "generator" or model is not None:
                registry.met(role, type(model).__qualname__, model)
        _ = self.settings
        self._check_models(self.search.needs)
        check_prompts([self.prompt], self.generator, self.verifier, self.corrector)

    @cached_property
    def search(self) -> Strategy:
        """The strategy itself."""
        return find_strategy(self.strategy)

    @cached_property
    def settings(self) -> "BaseModel":
        """Its options: those given, else those that the verifier advises, else the paper's."""
        advice: Mapping[str, JSON] = {}
        if isinstance(self.verifier, Advised):
            advice = self.verifier.advice.get(self.name, {})
        return settings_of(self.search, self.name, self.options, advice, self.generator.steps)

    @property
    def name(self) -> str:
        """The name of the strategy."""
        return self.strategy if isinstance(self.strategy, str) else registry.called("search", self.search)

    @property
    def paths(self) -> int:
        """How many paths are drawn."""
        return number_of_paths(self.search, self.name, self.n)

    @property
    def path_seeds(self) -> "Tensor":
        """The paths' own seeds (n,): the k-th depends on the seed and k alone."""
        from imagecot.contracts.randomness import path_seeds

        if self.of_path and self.paths == 1:
            return path_seeds(self.seed, 1).fill_(self.seed)
        return path_seeds(self.seed, self.paths)

    def _check_models(self, needs: frozenset[str]) -> None:
        """Raise UsageError where the strategy lacks a model, or has no use for one."""
        corrector = self.corrector
        if "verifier" in needs and self.verifier is None:
            raise UsageError(f"{self.name} needs a verifier; name one, or search with single.")
        if isinstance(self.search, Asking) and isinstance(self.verifier, Selective):
            with calling(self.verifier, "check_question"):
                for question in sorted(self.search.questions, key=lambda asked: asked.name):
                    self.verifier.check_question(question)
        if corrector is not None and "corrector" not in needs:
            raise UsageError(f"{self.name} corrects nothing; leave the corrector out, or search with parm++.")
        if "corrector" in needs and not isinstance(corrector or self.generator, Corrector):
            role = "corrector" if corrector else "generator"
            raise UsageError(
                f"{self.name} draws wrong images again, which this {role} cannot; name a corrector that can and has "
                "the same image codes, or take another search."
            )
        if corrector is not None and corrector.steps != self.generator.steps:
            raise UsageError(
                f"the corrector takes {corrector.steps} steps and the generator {self.generator.steps}; set both alike."
            )
        if corrector is not None and corrector.canvas != self.generator.canvas:
            raise UsageError("the corrector has other image codes than the generator; name one with the same.")
        going_back = isinstance(self.generator, Remasker) and isinstance(self.generator, Doubting)
        if "remasker" in needs and not going_back:
            raise UsageError(
                f"{self.name} takes codes back and draws them anew, which this generator cannot; name one that draws "
                "by masks, such as tiny, or take another search."
            )
        if "reflector" in needs and self.verifier is not None:
            check_reflects(self.verifier, self.prompt)

    @property
    def identity(self) -> dict[str, JSON]:
        """What defines the trace: equal identities give equal results."""
        return self._empty.identity

    @property
    def _empty(self) -> Trace:
        """The trace of a search that has drawn nothing yet."""
        models = {"verifier": self.verifier, "corrector": self.corrector}
        settings = {role: dict(model.settings) for role, model in models.items() if model is not None}
        corrector = {"corrector": self._called("corrector", self.corrector)} if self.corrector else {}
        own = self.generator.settings
        # An option of the search with the name of a setting of the generator is written with the name of the search.
        options = {f"{self.name} {k}" if k in own else k: value for k, value in told(self.settings).items()}
        return Trace(
            prompt=self.prompt,
            strategy=self.name,
            generator=self._called("generator", self.generator),
            verifier=self._called("verifier", self.verifier) if self.verifier is not None else None,
            n=self.paths,
            seed=self.seed,
            steps=self.generator.steps,
            settings={**own, **options, **corrector},
            weights=dict(self.weights),
            candidates=[],
            chosen=0,
            cost=Cost(),
            model_settings={role: found for role, found in settings.items() if found},
        )

    def _called(self, role: str, model: object) -> str:
        return self.names.get(role, type(model).__name__)

    def trace(self, run: "Run", choice: Choice[Candidate]) -> Trace:
        """The trace of a run and its choice."""
        found = [*choice.candidates]
        return replace(self._empty, candidates=found, chosen=choice.index, cost=run.cost, look=run.pictures())


def find_strategy(strategy: object) -> Strategy:
    """Return a search, given itself or by its name; UsageError for an unknown name, and for an object that is none."""
    if isinstance(strategy, str):
        return registry.load("search", strategy)
    if isinstance(strategy, Strategy):
        found: Strategy = registry.met("search", type(strategy).__qualname__, strategy)
        return found
    raise UsageError(
        f"{type(strategy).__name__} is no search; give the name of one, or an object with what "
        "imagecot.contracts.Strategy says."
    )
