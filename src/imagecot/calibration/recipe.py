"""What is calibrated: searches for a generator and a verifier, on which prompts, and by whom images are judged."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from imagecot.bounds import MOST_PROMPTS
from imagecot.precision import Precision
from imagecot.recipe_fields import RECIPE, Few, Name, Place, Seed

Paths = Annotated[int, Field(strict=True, ge=2, le=256)]  # as many as a search compares in one batch
Orders = Annotated[int, Field(strict=True, ge=1, le=1000)]
Points = Annotated[float, Field(strict=True, ge=0, le=100)]


class CalibrationRecipe(BaseModel):
    """The settings of searches, chosen by what they cost and lose on recorded paths.

    verifier    who judges in the searches; `self` is the generator
    output      the folder of the pools, which the same command goes on with
    prompts     the name of a world, whose training prompts are taken, or a file; None for the generator's world
    per_task    training prompts of each task of a world
    n           paths of each prompt, and of best-of-n, with which all is compared
    first_step  after which previews are judged; None for a quarter of the steps, all of them for none
    detector    who says which images are right; None for the one of the generator's world
    judge       a verifier that says it instead, by its P(yes)
    pools       the folder of a study whose paths are taken instead of drawing any
    orders      in which the paths of a prompt are drawn again and again
    loss        points of the score that may be lost
    """

    model_config = ConfigDict(**RECIPE, frozen=True)

    searches: Annotated[tuple[Name, ...], Field(min_length=1)]
    generator: Name
    verifier: Name
    output: Place = Path("runs/calibration")
    prompts: Name | None = None
    per_task: Annotated[int, Field(strict=True, ge=1, le=MOST_PROMPTS)] = 12
    n: Paths = 20
    seed: Seed = 77
    first_step: Few | None = None
    detector: Name | None = None
    judge: Name | None = None
    pools: Place | None = None
    precision: Precision | None = None
    orders: Orders = 40
    loss: Points = 1.0

    @model_validator(mode="after")
    def _one_judge(self) -> Self:
        if self.detector is not None and self.judge is not None:
            raise ValueError("give either a detector or a judge, not both")
        if self.pools is not None and (self.prompts, self.detector, self.judge) != (None, None, None):
            raise ValueError("the pools of a study have prompts and judges of their own; leave out yours")
        twice = next((name for k, name in enumerate(self.searches) if name in self.searches[:k]), None)
        if twice is not None:
            raise ValueError(f"{twice} is named twice")
        return self
