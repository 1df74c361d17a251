"""Searches: strategies that decide which paths live, one a file, and the trace of what they did.

A strategy is a module with `choose(run) -> (candidates, index of the choice)` and `NEEDS_VERIFIER`; a new one
is a file and a line in STRATEGIES.
"""

import difflib
import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from imagecot.errors import UsageError

if TYPE_CHECKING:
    from imagecot.generators.paths import Generator
    from imagecot.search.trace import Trace
    from imagecot.verifiers import Verifier

STRATEGIES = {
    "single": "imagecot.search.single",
    "best-of-n": "imagecot.search.best_of_n",
    "stepwise": "imagecot.search.stepwise",
    "parm": "imagecot.search.parm",
    "parm++": "imagecot.search.parm_plus_plus",
}

_SETTINGS = ("guidance_scale", "temperature", "schedule", "reference_temperature")


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
) -> "Trace":
    """Draw n paths of a prompt and choose one of them.

    strategy  one of STRATEGIES
    n         number of paths (always 1 for single; the corrections of parm++ come on top)
    seed      the k-th path's own seed derives from it and k alone
    progress  called with the path steps done, and those in all
    folder    where the trace is saved; an interrupted run is resumed there, a finished one read back
    names     of the models, for the trace: {"generator": ..., "verifier": ...}
    weights   SHA-256 of their weights, for the trace

    UsageError for an empty prompt, n below 1, an unknown strategy, a missing verifier, or a folder that holds
    something else; ImagecotError where the folder cannot be written.
    """
    check_request(prompt, strategy, n)
    module = importlib.import_module(STRATEGIES[strategy])
    if module.NEEDS_VERIFIER and verifier is None:
        raise UsageError(f"{strategy} needs a verifier; name one, or search with single.")

    from imagecot.search.resume import Partial, open_folder
    from imagecot.search.run import Run
    from imagecot.search.trace import Trace

    names = names or {}
    identity: dict[str, Any] = {
        "prompt": prompt,
        "strategy": strategy,
        "generator": names.get("generator", type(generator).__name__),
        "verifier": names.get("verifier", type(verifier).__name__) if verifier is not None else None,
        "n": 1 if strategy == "single" else n,
        "seed": seed,
        "steps": generator.steps,
        "settings": {name: getattr(generator, name) for name in _SETTINGS if hasattr(generator, name)},
        "weights": dict(weights or {}),
    }
    partial = None
    if folder is not None:
        finished = open_folder(Path(folder), identity)
        if finished is not None:
            return finished
        partial = Partial(Path(folder), identity)
    run = Run(prompt, generator, verifier, identity["n"], seed, partial, progress)
    candidates, chosen = module.choose(run)
    trace = Trace(**identity, candidates=candidates, chosen=chosen, cost=run.cost, decode=run.decoder())
    if folder is not None and partial is not None:
        trace.save(folder)
        partial.remove()
    return trace


def check_request(prompt: str, strategy: str, n: int) -> None:
    """Raise UsageError for what can be seen to be wrong without any model."""
    if not prompt.strip():
        raise UsageError("the prompt is empty; say what to draw.")
    if any(0xD800 <= ord(character) <= 0xDFFF for character in prompt):
        raise UsageError("the prompt is not valid UTF-8 text; check the terminal's encoding.")
    if strategy not in STRATEGIES:
        near = difflib.get_close_matches(strategy, STRATEGIES, n=1, cutoff=0.4)
        raise UsageError(
            f"there is no search {strategy!r}{f' (did you mean {near[0]}?)' if near else ''}; "
            f"choose one of {', '.join(STRATEGIES)}."
        )
    if n < 1:
        raise UsageError(f"a search needs at least 1 path, not {n}; give a positive number.")


class _CallableModule(ModuleType):
    """Lets `from imagecot import search` be the function although this package bears the same name."""

    __call__ = staticmethod(search)


sys.modules[__name__].__class__ = _CallableModule
