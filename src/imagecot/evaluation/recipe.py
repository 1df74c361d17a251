"""What is scored: images that there are, or that are drawn; by whom, and where the scores go."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from imagecot.bounds import MOST_IMAGES, MOST_PATHS, MOST_PROMPTS
from imagecot.execution.executors import LOCAL
from imagecot.execution.fields import On, Workers
from imagecot.geneval.published import CLIP
from imagecot.precision import Precision
from imagecot.recipe_fields import RECIPE, Seed


def _said(value: object) -> object:
    if isinstance(value, str) and not value.strip():
        raise ValueError("it is empty")
    return value


Folder = Annotated[Path, BeforeValidator(_said)]
Name = Annotated[str, Field(strict=True)]  # of which the registry says what is wrong with it


class EvaluationRecipe(BaseModel):
    """GenEval's score of the images in a folder (`images`), or of those that a generator draws for it.

    output     the folder; None for runs/ with the day and the time
    images     laid out like the reference's: 00000/metadata.jsonl and 00000/samples/0000.png
    generator  who draws; verifier, search, n, settings, budget, corrector, per_task and seed are about
               drawing alone
    verifier   who judges the paths; None for the one that the generator's checkpoint names
    search     which of n paths are taken
    settings   of the search, by their names
    budget     paths of each search on average, which prompts share: then n is the most; of a search in rounds
    corrector  who draws again what a search finds wrong
    prompts    a world or a metadata file; None for those of the generator's world. With `images` what the folder must
               hold
    per_task   the first so many prompts of each task only
    samples    images a prompt
    detector   who judges the images; None for the one of the prompts' world
    clip       who names colours beside a Mask2Former
    precision  of the models that draw
    workers    how many do units, where no launcher started this process
    on         how these are started (`imagecot.execution.executors`)
    against    a finished evaluation of the same prompts to compare with
    """

    model_config = ConfigDict(**RECIPE, frozen=True)

    kind: Literal["geneval"] = "geneval"
    output: Folder | None = None
    images: Folder | None = None
    generator: Name | None = None
    verifier: Name | None = None
    search: Name = "single"
    n: Annotated[int, Field(strict=True, ge=1, le=MOST_PATHS)] = 20
    settings: dict[str, object] = {}
    budget: Annotated[int, Field(strict=True, ge=1, le=MOST_PATHS)] | None = None
    corrector: Name | None = None
    prompts: Name | None = None
    per_task: Annotated[int, Field(strict=True, ge=1, le=MOST_PROMPTS)] | None = None
    samples: Annotated[int, Field(strict=True, ge=1, le=MOST_IMAGES)] = 4
    seed: Seed = 0
    detector: Name | None = None
    clip: Name = CLIP
    precision: Precision | None = None
    workers: Workers = 1
    on: On = LOCAL
    against: Folder | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.images is None) == (self.generator is None):
            raise ValueError("give either images to score a folder or generator to draw, not both or neither")
        drawing = (self.verifier, self.corrector, self.per_task, self.budget, *self.settings)
        if self.images is not None and any(value is not None for value in drawing):
            raise ValueError(
                "verifier, corrector, per_task, budget and settings of searches are about images that are drawn; leave "
                "them out with images"
            )
        return self
