"""An evaluation that is asked for, with all that its recipe leaves open: its source, its judges and its identity."""

import hashlib
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from imagecot import models, registry
from imagecot.contracts.metadata import Metadata
from imagecot.contracts.values import JSON
from imagecot.errors import UsageError
from imagecot.evaluation.drawing import Drawing, check_budget, identity_of, identity_of_settings
from imagecot.evaluation.evaluate import Models, Scoring
from imagecot.evaluation.folder import ImageSet, read_folder
from imagecot.evaluation.recipe import EvaluationRecipe
from imagecot.evaluation.state import CONTENT
from imagecot.execution import machine
from imagecot.execution.executors import LOCAL
from imagecot.execution.team import Team
from imagecot.geneval.metadata import read_prompts
from imagecot.naming import printable
from imagecot.strategies.defaults import completed
from imagecot.worlds.find import benchmark_of, classes_of, is_world, load_judges, prompts_of, world, world_of
from imagecot.worlds.geneval import GenEval


def with_output(recipe: EvaluationRecipe) -> EvaluationRecipe:
    """The recipe, with a folder that is called after the time where it names none."""
    if recipe.output is not None:
        return recipe
    return recipe.model_copy(update={"output": Path("runs") / time.strftime("geneval-%Y%m%d-%H%M%S")})


def check_paths(*paths: Path | None) -> None:
    """Raise UsageError for a path that no file can record."""
    for path in paths:
        if path is not None and any(0xD800 <= ord(character) <= 0xDFFF for character in str(path)):
            raise UsageError(f"{printable(str(path))} is not a name in UTF-8; rename it.")


@dataclass(frozen=True)
class Job:
    """An evaluation that is asked for.

    source    the images that there are, or how to draw them
    home      the world where the detector is looked for first, by its name
    """

    recipe: EvaluationRecipe
    source: ImageSet | Drawing
    out: Path
    detector: str
    home: str

    @classmethod
    def of(cls, recipe: EvaluationRecipe) -> Self:
        """Name all that a recipe leaves open, and look through its images.

        UsageError for names that there are not, prompts that cannot be read or weigh double, a folder that holds no
        images, and paths that no file can record.
        """
        recipe = with_output(recipe)
        assert recipe.output is not None
        home = _home(recipe)
        detector = recipe.detector if recipe.detector is not None else world(home).judges[0]
        if recipe.generator is not None:
            named = completed(recipe.generator, recipe.search, recipe.verifier, recipe.corrector, recipe.settings)
            prompts = first_of_each(_prompts(recipe, home, detector), recipe.per_task)
            source: Drawing | ImageSet = Drawing(prompts, recipe.samples, named, recipe.n, recipe.seed, recipe.budget)
        else:
            source = _image_set(recipe, home, detector)
        job = cls(recipe, source, recipe.output, detector, home)
        job.check()
        return job

    def check(self) -> None:
        """Raise UsageError for a detector that is not there, bad paths, and prompts that weigh double."""
        if self.detector not in world_of(self.detector, self.home).judges:
            registry.check("detector", self.detector)
        check_paths(self.out, self.recipe.images, self.recipe.against)
        if isinstance(self.source, Drawing):
            _refuse_repetitions(self.source.prompts)
            check_budget(self.source)

    @property
    def team(self) -> Team:
        """Who takes part."""
        return Team(self.recipe.workers, self.recipe.on, self.recipe.model_copy(update={"workers": 1, "on": LOCAL}))

    def worker(self) -> Scoring:
        """Load who judges, and who draws where anybody does."""
        machine.settle()
        models = self.load_judges()
        if isinstance(self.source, Drawing):
            models = replace(models, drawers=self.source.load(self.recipe.precision))
        return Scoring(self.source, models)

    def load_judges(self) -> Models:
        """Load who judges."""
        first, *others = load_judges(self.detector, self.recipe.clip, self.home)
        return Models(first, others[0] if others else None)

    @property
    def root(self) -> Path:
        """What the names of the images in the results are relative to."""
        return self.out if isinstance(self.source, Drawing) else Path()

    @property
    def identity(self) -> dict[str, JSON]:
        """What defines the evaluation: equal identities give equal results."""
        precision: dict[str, JSON] = {"precision": self.recipe.precision}
        if isinstance(self.source, ImageSet):
            images: dict[str, JSON] = {"images": str(self.recipe.images)}
            return {**images, **self._judged({}), CONTENT: self.source.digest, **precision}
        drawn, settings = identity_of(self.source), identity_of_settings(self.source, self.recipe.precision)
        return {**drawn, **self._judged(self.source.named.digests()), **precision, **settings}

    def _judged(self, weights: dict[str, str]) -> dict[str, JSON]:
        """What an identity says of how images are judged, and of the weights of those that draw."""
        own = {"detector": _content(self.detector), "clip": _content(self.recipe.clip)}
        if registry.is_code("detector", self.detector):
            own["detector"] = registry.digests("detector", self.detector).get("detector", "")
        return {
            "samples": self.recipe.samples,
            "detector": self.detector,
            "clip": self.recipe.clip,
            "weights": weights,
            **{f"{role}_sha256": digest for role, digest in own.items() if digest},
        }


def _content(judge: str) -> str:
    """SHA-256 of the weights of a judge that is a file or folder here; empty for a name, whose weights stay."""
    path = Path(judge)
    files = [path] if path.is_file() else models.weight_files(path) if path.is_dir() else []
    digests = []
    for file in files:
        with file.open("rb") as data:
            digests.append(hashlib.file_digest(data, "sha256").hexdigest())
    return hashlib.sha256(" ".join(digests).encode()).hexdigest() if digests else ""


def _home(recipe: EvaluationRecipe) -> str:
    """The name of the world of the prompts, where they are a world's, else of the generator, else of all photos."""
    if recipe.prompts is not None and is_world(recipe.prompts):
        return recipe.prompts
    return registry.world_of(recipe.generator) if recipe.generator is not None else GenEval.name


def _prompts(recipe: EvaluationRecipe, home: str, detector: str) -> list[Metadata]:
    """The prompts of a world, or of a metadata file."""
    if recipe.prompts is None or is_world(recipe.prompts):
        return prompts_of(world(home), home)
    return read_prompts(Path(recipe.prompts), classes_of(detector, home))


def first_of_each(prompts: Sequence[Metadata], per_task: int | None) -> list[Metadata]:
    """The first so many of each task; all of them for None."""
    taken: Counter[str] = Counter()
    kept = []
    for metadata in prompts:
        taken[metadata.tag] += 1
        if per_task is None or taken[metadata.tag] <= per_task:
            kept.append(metadata)
    return kept


def _image_set(recipe: EvaluationRecipe, home: str, detector: str) -> ImageSet:
    assert recipe.images is not None
    return read_folder(
        recipe.images,
        recipe.samples,
        classes_of(detector, home),
        prompts=None if recipe.prompts is None else _prompts(recipe, home, detector),
        benchmark=benchmark_of(detector, home),
    )


def _refuse_repetitions(prompts: Sequence[Metadata]) -> None:
    first: dict[str, int] = {}
    for number, metadata in enumerate(prompts, 1):
        same = first.setdefault(metadata.key, number)
        if same != number:
            raise UsageError(
                f"prompt {number} of the metadata is prompt {same} again ({metadata.prompt[:60]!r}), so it would weigh "
                "double; leave one of them out."
            )
