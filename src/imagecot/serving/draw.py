"""A request from its recipe to the files of its trace, with models that stay loaded."""

import base64
import os
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager
from typing import TYPE_CHECKING

from imagecot import last_resort
from imagecot.errors import OUT_OF_MEMORY, ImagecotError, UsageError, said
from imagecot.generation.follow import Job
from imagecot.generation.recipe import GenerationRecipe
from imagecot.memory import is_out_of_memory
from imagecot.recipes import check, usable
from imagecot.serving.messages import Done, Drawing, Failed, Seen, Tell, Waiting
from imagecot.serving.shelf import Shelf, check_served
from imagecot.serving.worker import Task
from imagecot.strategies.defaults import completed
from imagecot.watch import Progress, Watch

if TYPE_CHECKING:
    from imagecot.serving.looking import Look
    from imagecot.strategies.request import Request


def draw(task: Task, shelf: Shelf) -> Done | Failed:
    """Draw what a task asks for, and tell its client how far it is; the files, or in one sentence what failed.

    Names of models are taken in the folder of the client. Nothing is written there.
    """
    try:
        with _inside(task.ask.folder):
            return _drawn(task, shelf)
    except Exception as error:
        return Failed(message=told(error), exit_code=error.exit_code if isinstance(error, ImagecotError) else 1)


def told(error: Exception) -> str:
    """What whoever asked is told of a failure, in one sentence."""
    if isinstance(error, ImagecotError):
        return str(error)
    return OUT_OF_MEMORY if is_out_of_memory(error) else last_resort.sentence(error)


def opened(asked: Mapping[str, object], shelf: Shelf, watch: Watch) -> "Request":
    """What is asked for by the values of a recipe, with its models loaded; UsageError for what a server does not do."""
    recipe = usable(check(asked, GenerationRecipe, "what was asked for"), watch)
    if recipe.output is not None:
        raise UsageError("a server writes no folder; leave out the output.")
    check_served(recipe)
    named = completed(recipe.generator, recipe.search, recipe.verifier, recipe.corrector, recipe.settings)
    return Job(recipe, named, named.digests(), watch).load(lambda: shelf.load(named, recipe.precision))


def _drawn(task: Task, shelf: Shelf) -> Done:
    from imagecot.serving.looking import Onlooker
    from imagecot.serving.others import others
    from imagecot.strategies.search import carry_out

    request = opened(task.ask.recipe, shelf, _watch(task))

    def progress(done: int, of: int) -> None:
        task.check()
        task.emit(Drawing(done=done, of=of))

    task.check()
    watcher = Onlooker(request.generator, lambda look: task.emit(_seen(look))) if task.ask.steps else None
    trace = carry_out(request, progress=progress, watcher=watcher)
    task.check()
    found = others(request, trace) if task.ask.others else []
    files = {name: base64.b64encode(data).decode() for name, data in trace.files().items()}
    return Done.model_validate({"files": files, "others": found})


def _seen(look: "Look") -> Seen:
    """A look as it is sent."""
    from imagecot.strategies.lines import CandidateLine, as_line

    pictures = {str(seed): base64.b64encode(picture).decode() for seed, picture in look.pictures.items()}
    paths = [CandidateLine.model_validate(as_line(path)) for path in look.paths]
    return Seen(step=look.step, steps=look.steps, paths=paths, pictures=pictures)


def _watch(task: Task) -> Watch:
    """Tells a client what goes on."""

    @contextmanager
    def waiting(text: str) -> Iterator[None]:
        task.check()
        task.emit(Waiting(text=text))
        try:
            yield
        finally:
            task.emit(Waiting(text=None))

    @contextmanager
    def progress(text: str) -> Iterator[Progress]:
        yield lambda done, of, note="": task.emit(Drawing(done=done, of=of))

    return Watch(lambda text: task.emit(Tell(text=text)), waiting, progress)


@contextmanager
def _inside(folder: str) -> Iterator[None]:
    """Be in the folder of a client; UsageError where that is not possible."""
    if not os.path.isdir(folder):
        raise UsageError(f"the server sees no folder {folder[:200]!r}; run the command where the server runs.")
    try:
        with chdir(folder):
            yield
    except OSError as error:
        raise ImagecotError(f"{error.filename or folder}: {said(error)}; check the path.") from error
