"""What is timed, how often, and where the numbers go."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from imagecot.benchmark.bounds import LARGEST_BATCH, MOST_PATHS, MOST_REPEATS, MOST_STEPS
from imagecot.precision import Precision
from imagecot.recipe_fields import RECIPE, Place

Name = Annotated[str, Field(strict=True)]  # of which the registry says what is wrong with it


class BenchmarkRecipe(BaseModel):
    """Drawing and judging, part by part, and against a plain decoder in the same run.

    generator  any; or random weights of a Show-o of the size `config`: tiny, mid or full
    verifier   who judges; None for nobody
    steps      of an image; None for the generator's own
    n          paths of the best-of-n that is timed with the judge
    largest    batch of paths
    repeats    of each work; the median counts
    precision  of both models, even where the processor is slow in it; by default float32, and of a class its own
    """

    model_config = ConfigDict(**RECIPE, frozen=True)

    kind: Literal["benchmark"] = "benchmark"
    output: Place = Path("runs/benchmark")
    generator: Name | None = None
    config: Name | None = None
    verifier: Name | None = None
    steps: Annotated[int, Field(strict=True, ge=1, le=MOST_STEPS)] | None = None
    n: Annotated[int, Field(strict=True, ge=1, le=MOST_PATHS)] = 20
    largest: Annotated[int, Field(strict=True, ge=1, le=LARGEST_BATCH)] = 64
    repeats: Annotated[int, Field(strict=True, ge=1, le=MOST_REPEATS)] = 3
    precision: Precision | None = None

    @model_validator(mode="after")
    def _one_model(self) -> Self:
        if (self.generator is None) == (self.config is None):
            raise ValueError("give either generator for a model or config for random weights, not both or neither")
        return self
