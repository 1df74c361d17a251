"""What is scored by GenEval 2, by whom, and where the scores go."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from imagecot.bounds import MOST_IMAGES, MOST_PATHS, MOST_PROMPTS
from imagecot.evaluation.recipe import Folder, Name
from imagecot.execution.executors import LOCAL
from imagecot.execution.fields import On, Workers
from imagecot.geneval2.published import JUDGE
from imagecot.precision import Precision
from imagecot.recipe_fields import RECIPE, Seed


class Geneval2Recipe(BaseModel):
    """Soft-TIFA of the images in a folder (`images`), or of those that a generator draws for it.

    data       the prompts and questions, as geneval2_data.jsonl holds them
    output     the folder; None for runs/ with the day and the time
    images     laid out like 00000/metadata.jsonl and 00000/samples/0000.png, or a JSON file {prompt: path of an image}
    generator  who draws; verifier, search, n, settings, corrector and seed are about drawing alone
    verifier   who judges the paths; None for the one that the generator's checkpoint names
    search     which of n paths are taken
    settings   of the search, by their names
    corrector  who draws again what a search finds wrong
    per_count  the first so many prompts of each atom count only
    samples    images a prompt
    judge      who answers the questions about the images, a verifier that answers in words
    precision  of all models
    workers    how many do units, where no launcher started this process
    on         how these are started (`imagecot.execution.executors`)
    """

    model_config = ConfigDict(**RECIPE, frozen=True)

    kind: Literal["geneval2"] = "geneval2"
    data: Folder
    output: Folder | None = None
    images: Folder | None = None
    generator: Name | None = None
    verifier: Name | None = None
    search: Name = "single"
    n: Annotated[int, Field(strict=True, ge=1, le=MOST_PATHS)] = 20
    settings: dict[str, object] = {}
    corrector: Name | None = None
    per_count: Annotated[int, Field(strict=True, ge=1, le=MOST_PROMPTS)] | None = None
    samples: Annotated[int, Field(strict=True, ge=1, le=MOST_IMAGES)] = 1
    seed: Seed = 0
    judge: Name = JUDGE
    precision: Precision | None = None
    workers: Workers = 1
    on: On = LOCAL

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.images is None) == (self.generator is None):
            raise ValueError("give either images to score those or generator to draw, not both or neither")
        if self.images is not None and (self.settings or (self.verifier, self.corrector) != (None, None)):
            raise ValueError(
                "verifier, corrector and settings of searches are about images that are drawn; leave them out with "
                "images"
            )
        return self
