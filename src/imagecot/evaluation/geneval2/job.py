"""An evaluation by GenEval 2 that is asked for: its data, its source, its judge and its identity."""

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from imagecot import registry
from imagecot.contracts.values import JSON
from imagecot.evaluation.drawing import Drawing, identity_of, identity_of_settings
from imagecot.evaluation.folder import ImageSet
from imagecot.evaluation.geneval2.images import read_images
from imagecot.evaluation.geneval2.judging import Asking, judge_of
from imagecot.evaluation.geneval2.recipe import Geneval2Recipe
from imagecot.evaluation.job import check_paths
from imagecot.evaluation.state import CONTENT, settings_of
from imagecot.execution import machine
from imagecot.execution.executors import LOCAL
from imagecot.execution.team import Team
from imagecot.geneval2.answers import TEMPLATE
from imagecot.geneval2.data import Benchmark
from imagecot.judging import beside, judge_named
from imagecot.strategies.defaults import completed, load_model

_JUDGE = "verifier_judge"  # what the judge's weights are called, beside those of a verifier of paths


def with_output(recipe: Geneval2Recipe) -> Geneval2Recipe:
    """The recipe, with a folder that is called after the time where it names none."""
    if recipe.output is not None:
        return recipe
    return recipe.model_copy(update={"output": Path("runs") / time.strftime("geneval2-%Y%m%d-%H%M%S")})


@dataclass(frozen=True)
class Job:
    """An evaluation that is asked for; `source` is the images that there are, or how to draw them."""

    recipe: Geneval2Recipe
    benchmark: Benchmark
    source: ImageSet | Drawing
    out: Path

    @classmethod
    def of(cls, recipe: Geneval2Recipe) -> Self:
        """Read the data, name all that a recipe leaves open, and look through its images.

        UsageError for data that cannot be scored, names that there are not, a folder that holds no images, and paths
        that no file can record.
        """
        recipe = with_output(recipe)
        check_paths(recipe.output, recipe.images, recipe.data)
        recipe = recipe.model_copy(update={"judge": judge_named(recipe.judge, recipe.generator)})
        assert recipe.output is not None
        registry.check("verifier", recipe.judge)
        benchmark = Benchmark.read(recipe.data).first(recipe.per_count)
        source: Drawing | ImageSet
        if recipe.generator is not None:
            named = completed(recipe.generator, recipe.search, recipe.verifier, recipe.corrector, recipe.settings)
            source = Drawing([*benchmark.metadata.values()], recipe.samples, named, recipe.n, recipe.seed)
        else:
            assert recipe.images is not None
            source = read_images(recipe.images, benchmark, recipe.samples)
        return cls(recipe, benchmark, source, recipe.output)

    @property
    def team(self) -> Team:
        """Who takes part."""
        return Team(self.recipe.workers, self.recipe.on, self.recipe.model_copy(update={"workers": 1, "on": LOCAL}))

    def worker(self) -> Asking:
        """Load the judge, and who draws where anybody does; UsageError for a verifier that cannot judge."""
        machine.settle()
        name, precision = self.recipe.judge, self.recipe.precision
        weights: dict[str, JSON] = {**registry.digests(_JUDGE, name)}
        if isinstance(self.source, ImageSet):
            judge = judge_of(name, registry.load("verifier", name, dtype=precision))
            return Asking(self.source, self.benchmark, name, judge, said={"weights": weights})
        drawers = self.source.load(precision)
        with beside(self.source.named.models["generator"], drawers.generator, dtype=precision):
            judge = judge_of(name, registry.load("verifier", name, dtype=precision))
        return Asking(self.source, self.benchmark, name, judge, drawers, {"weights": weights})

    @property
    def identity(self) -> dict[str, JSON]:
        """What defines the evaluation: equal identities give equal results."""
        text = "\n".join(metadata.text for metadata in self.benchmark.metadata.values())
        own: dict[str, JSON] = {
            "benchmark": self.recipe.kind,
            "prompts": len(self.benchmark.rows),
            "prompts_sha256": hashlib.sha256(text.encode()).hexdigest(),
            "data_sha256": self.benchmark.digest,
            "samples": self.recipe.samples,
            "judge": self.recipe.judge,
            "template": TEMPLATE,
            "precision": self.recipe.precision,
            **self._judge_settings(),
        }
        weights: dict[str, JSON] = {**registry.digests(_JUDGE, self.recipe.judge)}
        if isinstance(self.source, ImageSet):
            return {**own, "images": str(self.recipe.images), "weights": weights, CONTENT: self.source.digest}
        settings = identity_of_settings(self.source, self.recipe.precision)
        weights |= self.source.named.digests()
        return {**own, **identity_of(self.source), "weights": weights, **settings}

    def _judge_settings(self) -> dict[str, JSON]:
        """Of other people's code the settings; those of a checkpoint follow from its weights."""
        name = self.recipe.judge
        if not registry.is_code("verifier", name):
            return {}
        return {settings_of("judge"): dict(load_model("verifier", name, self.recipe.precision).settings)}
