"""Searches: strategies that decide which paths live, one a file, and the trace of what they did.

A strategy is a module with `choose(run) -> (candidates, index of the choice)` and `NEEDS_VERIFIER`; a new one
is a file and a line in STRATEGIES.
"""

import difflib
import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from imagecot.bounds import MAX_SEED, MIN_SEED, MOST_PATHS, check_seed, check_whole
from imagecot.errors import ImagecotError, UsageError
from imagecot.prompts import check_prompt, check_prompts

if TYPE_CHECKING:
    from imagecot.contracts.generator import Generator
    from imagecot.strategies.resume import Partial
    from imagecot.strategies.run import Run
    from imagecot.contracts.search import Candidate
    from imagecot.strategies.trace import Trace
    from imagecot.contracts.verifier import Verifier

STRATEGIES = {
    "single": "imagecot.strategies.single",
    "best-of-n": "imagecot.strategies.best_of_n",
    "stepwise": "imagecot.strategies.stepwise",
    "parm": "imagecot.strategies.parm",
    "parm++": "imagecot.strategies.parm_plus_plus",
}

_SETTINGS = ("guidance_scale", "temperature", "schedule", "reference_temperature", "precision")


def search(
    prompt: str,
    *,
    generator: "Generator",
    verifier: "Verifier | None" = None,
    strategy: str = "best-of-n",
    n: int = 20,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    folder: str | Path | None = None,
    names: Mapping[str, str] | None = None,
    weights: Mapping[str, str] | None = None,
    first_step: int = 1,
    keep: float = 0.0,
    corrector: "Generator | None" = None,
) -> "Trace":
    """Draw n paths of a prompt and choose one of them.

    strategy  one of STRATEGIES
    n         number of paths (always 1 for single; the corrections of parm++ come on top)
    seed      the k-th path's own seed derives from it and k alone
    progress  called with the path steps done, and those in all
    folder    where the trace is saved; an interrupted run is resumed there, a finished one read back
    names     of the models, for the trace: {"generator": ..., "verifier": ..., "corrector": ...}
    weights   SHA-256 of their weights, for the trace
    first_step  the first step after which parm and parm++ ask about clarity: earlier previews are not even decoded
    keep      of the paths that become clear after the same step the share that parm and parm++ let run on, those with
              most potential; 0, the paper's rule, stops every no
    corrector  who draws again in the rounds of parm++, instead of the generator; both have the same image codes

    UsageError for a prompt that is empty or that a model cannot read whole, n below 1, a seed beyond 64 bits, an
    unknown strategy, a missing verifier, a first step that is none, a share outside [0, 1], or a folder that holds
    something else; ImagecotError where the folder cannot be written.
    """
    settings = Settings(
        prompt, generator, verifier, strategy, n, seed, first_step, keep, corrector, names or {}, weights or {}
    )
    if folder is None:
        return settings.trace(*_chosen(settings.run(None, progress), strategy))
    return _search_in(Path(folder), settings, progress)


def _search_in(folder: Path, settings: "Settings", progress: Callable[[int, int], None] | None) -> "Trace":
    """Search, and leave the trace in a folder; what is finished or begun there is taken over."""
    from imagecot.strategies.folder import open_folder
    from imagecot.strategies.resume import Partial

    finished = open_folder(folder, settings.identity)
    if finished is not None:
        return finished
    partial = Partial(folder, settings.identity)
    try:
        trace = settings.trace(*_chosen(settings.run(partial, progress), settings.strategy))
        trace.save(folder)
    except ImagecotError:
        # The same search in another process may have finished first, and removed the parts of both.
        finished = open_folder(folder, settings.identity)
        if finished is None:
            raise
        return finished
    partial.remove()
    return trace


def _chosen(run: "Run", strategy: str) -> "tuple[Run, list[Candidate], int]":
    return run, *importlib.import_module(STRATEGIES[strategy]).choose(run)


@dataclass(frozen=True)
class Settings:
    """What was asked for in a search; UsageError where that cannot be done."""

    prompt: str
    generator: "Generator"
    verifier: "Verifier | None"
    strategy: str
    n: int
    seed: int
    first_step: int = 1
    keep: float = 0.0
    corrector: "Generator | None" = None
    names: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_request(self.prompt, self.strategy, self.n, self.seed)
        check_stopping(self.first_step, self.keep, self.strategy, self.generator.steps)
        if self.verifier is None and importlib.import_module(STRATEGIES[self.strategy]).NEEDS_VERIFIER:
            raise UsageError(f"{self.strategy} needs a verifier; name one, or search with single.")
        if self.corrector is not None and self.strategy != "parm++":
            raise UsageError(f"{self.strategy} corrects nothing; leave the corrector out, or search with parm++.")
        if self.corrector is not None and self.corrector.steps != self.generator.steps:
            raise UsageError(
                f"the corrector takes {self.corrector.steps} steps and the generator {self.generator.steps}; "
                "set both alike."
            )
        check_prompts([self.prompt], self.generator, self.verifier, self.corrector)

    @property
    def paths(self) -> int:
        """How many paths are drawn."""
        return 1 if self.strategy == "single" else self.n

    @property
    def identity(self) -> dict[str, Any]:
        """What defines the trace: equal identities give equal results."""
        verifier = _name(self.names, "verifier", self.verifier) if self.verifier is not None else None
        found = {name: getattr(self.generator, name) for name in _SETTINGS if hasattr(self.generator, name)}
        return {
            "prompt": self.prompt,
            "strategy": self.strategy,
            "generator": _name(self.names, "generator", self.generator),
            "verifier": verifier,
            "n": self.paths,
            "seed": self.seed,
            "steps": self.generator.steps,
            "settings": found
            | ({"first_step": self.first_step} if self.first_step > 1 else {})
            | ({"keep": self.keep} if self.keep else {})
            | ({"corrector": _name(self.names, "corrector", self.corrector)} if self.corrector else {}),
            "weights": dict(self.weights),
        }

    def run(self, partial: "Partial | None" = None, progress: Callable[[int, int], None] | None = None) -> "Run":
        """Return the search, not begun."""
        from imagecot.strategies.run import Run

        return Run(
            self.prompt,
            self.generator,
            self.verifier,
            self.paths,
            self.seed,
            partial,
            progress,
            self.first_step,
            self.keep,
            self.corrector,
        )

    def trace(self, run: "Run", candidates: "list[Candidate]", chosen: int) -> "Trace":
        """Return what the search left."""
        from imagecot.strategies.trace import Trace

        return Trace(**self.identity, candidates=candidates, chosen=chosen, cost=run.cost, decode=run.decoder())


def _name(names: Mapping[str, str], role: str, model: object) -> str:
    return names.get(role, type(model).__name__)


def check_stopping(first_step: int, keep: float, strategy: str, steps: int) -> None:
    """Raise UsageError where there is no such step to ask after or no such share, or the strategy stops no paths."""
    check_whole(first_step, "the first step", MIN_SEED, MAX_SEED)
    if not isinstance(keep, Real) or isinstance(keep, bool) or not 0 <= keep <= 1:
        raise UsageError(f"the share of paths to keep must be from 0 to 1, not {keep!r}.")
    for what, asked in (("first step", first_step != 1), ("share to keep", keep != 0)):
        if asked and strategy not in ("parm", "parm++"):
            raise UsageError(f"{strategy} stops no paths, so it has no {what}; leave it out, or search with parm.")
    if first_step != 1 and not 1 <= first_step < steps:
        raise UsageError(f"the first step must be from 1 to {steps - 1}, not {first_step}.")


def check_request(prompt: str, strategy: str, n: int, seed: int = 0) -> None:
    """Raise UsageError for what can be seen to be wrong without any model."""
    check_prompt(prompt)
    if not isinstance(strategy, str) or strategy not in STRATEGIES:
        near = difflib.get_close_matches(str(strategy), STRATEGIES, n=1, cutoff=0.4)
        raise UsageError(
            f"there is no search {strategy!r}{f' (did you mean {near[0]}?)' if near else ''}; "
            f"choose one of {', '.join(STRATEGIES)}."
        )
    if isinstance(n, int) and n < 1:
        raise UsageError(f"a search needs at least 1 path, not {n}; give a positive number.")
    check_whole(n, "the number of paths", 1, MOST_PATHS)
    check_seed(seed)


class _CallableModule(ModuleType):
    """Lets `from imagecot import search` be the function although this package bears the same name."""

    __call__ = staticmethod(search)


sys.modules[__name__].__class__ = _CallableModule
