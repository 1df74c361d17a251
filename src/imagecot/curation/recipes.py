"""The recipes of curations: who draws, who labels, from which data, and where the rows go."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from imagecot.bounds import MOST_IMAGES, MOST_PATHS
from imagecot.execution.executors import LOCAL
from imagecot.execution.fields import On, Workers
from imagecot.precision import Precision
from imagecot.recipe_fields import RECIPE, Count, Name, Place, Seed

MOST_TEMPERATURE = 100.0
MOST_SCENES = 10_000_000
MOST_PER_TASK = 100_000

_FROZEN = ConfigDict(**RECIPE, frozen=True)
Paths = Annotated[int, Field(strict=True, ge=1, le=MOST_PATHS)]
Images = Annotated[int, Field(strict=True, ge=1, le=MOST_IMAGES)]
Temperature = Annotated[float, Field(strict=True, ge=0, le=MOST_TEMPERATURE)]
Folders = Annotated[tuple[Place, ...], Field(min_length=1)]
Pairing = Literal["nearest", "random"]


class CuratePrompts(BaseModel):
    """Training prompts in GenEval's templates, none of them a test prompt, written to the file `output`.

    world     the name of a world; `everyday`, for photos of 200 everyday objects; or a file with a name a line
    per_task  prompts of each of the six tasks at most
    """

    model_config = _FROZEN

    kind: Literal["curate-prompts"] = "curate-prompts"
    output: Place
    world: Name = "drawn"
    per_task: Annotated[int, Field(strict=True, ge=1, le=MOST_PER_TASK)] = 200
    seed: Seed = 0


class CuratePrm(BaseModel):
    """Labels of the previews of every step: yes where one of four continuations ends right.

    prompts      a file of `curate-prompts`
    temperature  strength of the decoding noise; None for the generator's own
    """

    model_config = _FROZEN

    kind: Literal["curate-prm"] = "curate-prm"
    prompts: Place
    output: Place
    generator: Name = "tiny"
    detector: Name = "pictograms"
    temperature: Temperature | None = None
    seed: Seed = 0
    precision: Precision | None = None
    workers: Workers = 1
    on: On = LOCAL


class CurateOrm(BaseModel):
    """Labels of final images: yes where GenEval's scorer finds all that the prompt asks.

    paths  drawn for each prompt
    keep   images kept of each prompt at most, both labels alike where there are enough
    """

    model_config = _FROZEN

    kind: Literal["curate-orm"] = "curate-orm"
    prompts: Place
    output: Place
    generator: Name = "tiny"
    detector: Name = "pictograms"
    paths: Paths = 20
    keep: Images = 20
    temperature: Temperature | None = None
    seed: Seed = 0
    precision: Precision | None = None
    workers: Workers = 1
    on: On = LOCAL


class CurateParm(BaseModel):
    """Labels of previews for clarity and potential, and of final images for selection, as 120 : 80 : 200."""

    model_config = _FROZEN

    kind: Literal["curate-parm"] = "curate-parm"
    prompts: Place
    output: Place
    generator: Name = "tiny"
    detector: Name = "pictograms"
    paths: Paths = 20
    keep: Images = 20
    temperature: Temperature | None = None
    seed: Seed = 0
    precision: Precision | None = None
    workers: Workers = 1
    on: On = LOCAL


class CurateRedraws(BaseModel):
    """Labels of rejected images that are drawn again from prompt, image and reasons.

    data    a folder of `curate-corrections`
    groups  rejected images at most
    paths   drawn for each rejected image; `keep` of them at most become rows
    """

    model_config = _FROZEN

    kind: Literal["curate-redraws"] = "curate-redraws"
    data: Place
    output: Place
    generator: Name = "tiny-self-correct"
    detector: Name = "pictograms"
    groups: Images = 1000
    paths: Paths = 16
    keep: Images = 4
    temperature: Temperature | None = None
    seed: Seed = 0
    precision: Precision | None = None
    workers: Workers = 1
    on: On = LOCAL


class CuratePairs(BaseModel):
    """A yes image beside a no image of the same prompt, for preference alignment.

    data        folders of `curate-orm` or `curate-redraws`
    per_prompt  pairs of each prompt at most; `most` in all
    """

    model_config = _FROZEN

    kind: Literal["curate-pairs"] = "curate-pairs"
    data: Folders
    output: Place
    per_prompt: Images = 1
    most: Count | None = None
    seed: Seed = 0


class CurateReflection(BaseModel):
    """What is wrong with the rejected images of `data`, in words; about one in five rows is an accepted image.

    data             a folder of `curate-orm`
    detector         its findings are the reasons
    endpoint, model  a chat model with vision that gives the reasons instead; its key is in OPENAI_API_KEY
    """

    model_config = _FROZEN

    kind: Literal["curate-reflection"] = "curate-reflection"
    data: Place
    output: Place
    detector: Name = "pictograms"
    endpoint: str | None = Field(None, strict=True, repr=False)
    model: str | None = Field(None, strict=True)
    seed: Seed = 0
    workers: Workers = 1
    on: On = LOCAL

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if (self.endpoint is None) != (self.model is None):
            raise ValueError("endpoint and model go together; give both or neither")
        return self


class CurateRepairs(BaseModel):
    """Accepted images that differ from rejected ones only in what is wrong (drawn world only).

    data    a folder of `curate-orm`, whose rejected images are put right
    scenes  instead of it: so many scenes are drawn beside a prompt that they miss, and put right
    """

    model_config = _FROZEN

    kind: Literal["curate-repairs"] = "curate-repairs"
    output: Place
    data: Place | None = None
    scenes: Annotated[int, Field(strict=True, ge=0, le=MOST_SCENES)] = 0
    generator: Name = "tiny"
    seed: Seed = 0
    workers: Workers = 1
    on: On = LOCAL

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.data is None) == (self.scenes == 0):
            raise ValueError("give either data, a folder of curate orm, or scenes, a number of at least 1")
        return self


class CurateCorrections(BaseModel):
    """An accepted image beside each rejected one that has reasons, for self-correction.

    data     folders of `curate-reflection`
    images   folders with their accepted images: `curate-orm`, `curate-repairs`
    pairing  nearest: the accepted image whose pixels differ least from the rejected one's, so that the generator learns
             to keep what was right (its codes may differ where the pictures hardly do); random: any
    most     groups in all at most, a random choice
    """

    model_config = _FROZEN

    kind: Literal["curate-corrections"] = "curate-corrections"
    data: Folders
    images: Folders
    output: Place
    pairing: Pairing = "nearest"
    most: Count | None = None
    seed: Seed = 0


class CurateExport(BaseModel):
    """A curated folder as LLaVA conversations: data.json and images/."""

    model_config = _FROZEN

    kind: Literal["curate-export"] = "curate-export"
    data: Place
    output: Place


class CurateImport(BaseModel):
    """LLaVA conversations, such as the paper's released data, as a curated folder.

    file    the JSON file of the conversations; their image paths start from the folder `images`
    """

    model_config = _FROZEN

    kind: Literal["curate-import"] = "curate-import"
    file: Place
    images: Place
    output: Place


InUnits = CurateOrm | CuratePrm | CurateParm | CurateReflection | CurateRepairs | CurateRedraws
"""What goes on where it was, done by so many `workers`, which are started `on` one of the ways of
`imagecot.execution.executors`."""
Whole = CuratePrompts | CuratePairs | CurateCorrections | CurateExport | CurateImport
"""What is done at once."""
Recipe = InUnits | Whole
