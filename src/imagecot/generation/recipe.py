"""What is drawn, by whom, in which search, and where it goes."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

from imagecot.bounds import MOST_PATHS
from imagecot.errors import UsageError
from imagecot.precision import Precision
from imagecot.prompts import check_prompt
from imagecot.recipe_fields import RECIPE, Place, Seed

Name = Annotated[str, Field(strict=True)]  # of which the registry says what is wrong with it


def _readable(prompt: str) -> str:
    try:
        check_prompt(prompt)
    except UsageError as error:
        raise ValueError(str(error).rstrip(".")) from None
    return prompt


class GenerationRecipe(BaseModel):
    """A prompt that is drawn many times; the image that the verifier believes in most is kept.

    What is None is as the generator's checkpoint says, as of `imagecot generate`.

    output     the folder; None for runs/ with the day and the prompt
    search     the name of a search
    settings   of the search, by their names
    corrector  who draws again what a search finds wrong
    precision  of all models
    """

    model_config = ConfigDict(**RECIPE, frozen=True)

    kind: Literal["generate"] = "generate"
    prompt: Annotated[str, Field(strict=True), AfterValidator(_readable)]
    output: Place | None = None
    generator: Name = "tiny-dpo"
    verifier: Name | None = None
    search: Name | None = None
    n: Annotated[int, Field(strict=True, ge=1, le=MOST_PATHS)] = 20
    seed: Seed = 0
    settings: dict[str, JsonValue] = {}
    corrector: Name | None = None
    precision: Precision | None = None
