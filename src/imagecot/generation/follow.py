"""`run`: a prompt from its recipe to its trace. A run that is finished is read back without loading a model."""

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from imagecot.errors import UsageError
from imagecot.generation.recipe import GenerationRecipe
from imagecot.generation.words import slug, unknown_words
from imagecot.identity import Identity
from imagecot.models import known_words
from imagecot.recipes import usable
from imagecot.strategies.defaults import Models, Named, completed
from imagecot.strategies.folder import open_folder
from imagecot.strategies.trace import Trace
from imagecot.watch import SILENT, Watch

if TYPE_CHECKING:
    from imagecot.strategies.request import Request

_MOST_NAMESAKES = 1000


def run(recipe: GenerationRecipe, *, watch: Watch = SILENT) -> Trace:
    """Draw a prompt, search, and return the trace, which is in the recipe's folder then.

    A run that was interrupted there goes on, a finished one is read back. UsageError for a name that there is not, an
    option that cannot be, and a folder that holds something else; ImagecotError where a model or file cannot be used.
    """
    return Opened.of(recipe, watch).trace()


@dataclass(frozen=True)
class Job:
    """What is asked for: the recipe, the search and its models by name, and SHA-256 of what they are."""

    recipe: GenerationRecipe
    named: Named
    weights: dict[str, str]
    watch: Watch

    @property
    def identity(self) -> Identity:
        """What is known of the identity of the run before a model is loaded."""
        return {
            "prompt": self.recipe.prompt,
            "strategy": self.named.strategy,
            "generator": self.named.models["generator"],
            "verifier": self.named.models.get("verifier"),
            "n": self.named.paths(self.recipe.n),
            "seed": self.recipe.seed,
            "weights": self.weights,
        }

    def refuse_other(self, folder: Path, there: Identity) -> None:
        """Raise UsageError where the run of a folder has other options, or is known to have another precision."""
        self.named.refuse_other_options(folder, there)
        asked, settings = self.recipe.precision, there["settings"]
        had = settings.get("precision", asked) if isinstance(settings, dict) else asked
        if asked is not None and had != asked:
            raise UsageError(f"{folder} holds another run (precision {had}, not {asked}); choose another folder.")

    def load(self, load: Callable[[], Models] | None = None) -> "Request":
        """Load the models, and name the words that the generator does not know.

        load  gives the models, where some are loaded already
        """
        from imagecot.strategies.request import Request

        recipe, named = self.recipe, self.named
        with self.watch.waiting("loading the models"):
            models = load() if load is not None else named.load(recipe.precision)
        self._warn_of_unknown_words()
        return Request(
            recipe.prompt,
            models.generator,
            models.verifier,
            named.strategy,
            recipe.n,
            recipe.seed,
            named.given,
            models.corrector,
            names=named.models,
            weights=self.weights,
        )

    def _warn_of_unknown_words(self) -> None:
        """Tell the words that the generator was not trained on."""
        generator = self.named.models["generator"]
        words = known_words(generator)
        unknown = unknown_words(self.recipe.prompt, words) if words is not None else []
        if unknown:
            told = ", ".join(unknown)
            self.watch.tell(f"warning: {generator} does not know {told}; the image may leave that out.")


@dataclass(frozen=True)
class Opened:
    """A run and its folder.

    request   what is searched, where its models had to be loaded to know which run this is
    finished  the trace, where this very run was finished in the folder before
    """

    job: Job
    request: "Request | None"
    folder: Path
    finished: Trace | None

    @classmethod
    def of(cls, recipe: GenerationRecipe, watch: Watch = SILENT, *, drawn_here: bool = True) -> Self:
        """Name all that the recipe leaves open, and look into the folder; errors as of `run`.

        drawn_here  whether this process draws: a server draws with models that are known before they are loaded

        Where no folder is given it is named after day and prompt, with a number behind where others took the name.
        """
        recipe = usable(recipe, watch)
        named = completed(recipe.generator, recipe.search, recipe.verifier, recipe.corrector, recipe.settings)
        job = Job(recipe, named, named.digests(), watch)
        if named.known_when_loaded and not drawn_here:
            raise UsageError("a model or search of your own code is not drawn by a server; leave out --server.")
        request = job.load() if named.known_when_loaded else None
        if recipe.output is not None:
            return cls(job, request, recipe.output, _finished(job, request, recipe.output))
        default = Path("runs") / f"{datetime.date.today()}-{slug(recipe.prompt)}"
        for number in range(1, _MOST_NAMESAKES):
            folder = default if number == 1 else default.with_name(f"{default.name}-{number}")
            try:
                return cls(job, request, folder, _finished(job, request, folder))
            except UsageError:
                continue
        raise UsageError(f"{default} and {_MOST_NAMESAKES - 2} more of its name are taken; give a folder with --out.")

    def trace(self) -> Trace:
        """The finished run, or else search, and leave the trace in the folder."""
        if self.finished is not None:
            return self.finished
        request = self.request or self.job.load()
        from imagecot.strategies.search import search_in

        with self.job.watch.progress("drawing") as progress:
            return search_in(self.folder, request, progress)


def _finished(job: Job, request: "Request | None", folder: Path) -> Trace | None:
    """The trace of this run where it is finished in a folder; UsageError where the folder holds something else."""
    if request is not None:
        return open_folder(folder, request.identity)
    return open_folder(folder, job.identity, job.refuse_other)
