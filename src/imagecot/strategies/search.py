"""`search`: draw paths of a prompt, let a strategy choose, and keep what happened."""

import time
from collections.abc import Mapping
from pathlib import Path

from imagecot.bounds import shown
from imagecot.contracts.generator import Generator
from imagecot.contracts.search import Cost, Strategy
from imagecot.contracts.verifier import Verifier
from imagecot.errors import ImagecotError, UsageError
from imagecot.strategies.chosen import choose
from imagecot.strategies.folder import open_folder
from imagecot.strategies.request import Request
from imagecot.strategies.resume import Partial
from imagecot.strategies.run import Progress, Run, Watcher
from imagecot.strategies.trace import Trace


def search(
    prompt: str,
    *,
    generator: Generator,
    verifier: Verifier | None = None,
    strategy: str | Strategy = "best-of-n",
    n: int = 20,
    seed: int = 0,
    progress: Progress | None = None,
    folder: str | Path | None = None,
    names: Mapping[str, str] | None = None,
    weights: Mapping[str, str] | None = None,
    corrector: Generator | None = None,
    **options: object,
) -> Trace:
    """Draw n paths of a prompt and choose one of them.

    strategy   a name (`imagecot.registry.names("search")`), `package.module:Class`, or a search itself
    n          number of paths (always 1 for single; the corrections of parm++ come on top)
    seed       the k-th path's own seed derives from it and k alone
    progress   called with the path steps done, and those in all
    folder     where the trace is saved; an interrupted run is resumed there, a finished one read back
    names      of the models, for the trace: {"generator": ..., "verifier": ..., "corrector": ...}
    weights    SHA-256 of their weights, for the trace
    corrector  the generator that draws again what parm++ rejects; it has the same image codes as `generator`, which
               draws again itself by default
    options    the strategy's own, such as first_step=6 and keep=0.4 of parm. An option that is not given is as the
               verifier advises, else as in the paper

    UsageError for a prompt that is empty or that a model cannot read whole, n below 1, a seed beyond 64 bits, an
    unknown strategy or option, a model that is missing or cannot do what the strategy needs, or a folder that holds
    something else; ImagecotError where the folder cannot be written.
    """
    request = Request(
        prompt, generator, verifier, strategy, n, seed, options, corrector, names=names or {}, weights=weights or {}
    )
    if progress is not None and not callable(progress):
        raise UsageError(f"progress must be a function of steps done and steps in all, not {shown(progress)}.")
    if folder is None:
        return carry_out(request, progress=progress)
    if not isinstance(folder, str | Path) or "\0" in str(folder):
        raise UsageError(f"{shown(folder)} is no name of a folder; give a path as text or a Path.")
    return search_in(Path(folder), request, progress)


def carry_out(
    request: Request,
    partial: Partial | None = None,
    progress: Progress | None = None,
    watcher: Watcher | None = None,
) -> Trace:
    """Search, and return the trace."""
    run = Run(request, partial, progress, watcher)
    began = time.perf_counter()
    choice = choose(request.search, run)
    run.cost += Cost(seconds=time.perf_counter() - began)
    return request.trace(run, choice)


def search_in(folder: Path, request: Request, progress: Progress | None = None) -> Trace:
    """Search, and save the trace in a folder. A finished run there is read back, an interrupted one is resumed."""
    finished = open_folder(folder, request.identity)
    if finished is not None:
        return finished
    partial = Partial(folder, request.identity)
    try:
        trace = carry_out(request, partial, progress)
        trace.save(folder)
    except ImagecotError:
        # The same search in another process may have finished first, and removed the parts of both.
        finished = open_folder(folder, request.identity)
        if finished is None:
            raise
        return finished
    partial.remove()
    return trace
