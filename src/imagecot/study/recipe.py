"""What a study compares: generators, rows of a table over them, and the prompts on which all of them are seen."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BaseModel, Field, StringConstraints, model_validator

from imagecot.bounds import MOST_PATHS, MOST_PROMPTS
from imagecot.errors import UsageError
from imagecot.geneval.prompts import TASKS
from imagecot.precision import Precision
from imagecot.recipe_fields import RECIPE, Few, Name, Place, Seed, Share
from imagecot.worlds.find import benchmark_of

SIZES = (1, 2, 3, 5, 8, 12, 16, 20, 30, 40)
RANDOM, ORACLE = "random", "oracle"  # lines of every table and curve, so no names of rows
Key = Annotated[str, StringConstraints(pattern=r"^\w[\w.+-]*$", max_length=50)]  # a part of file names
Label = Annotated[str, StringConstraints(max_length=200, strict=True)]
PathCount = Annotated[int, Field(strict=True, ge=1, le=MOST_PATHS)]
Prompts = Annotated[int, Field(strict=True, ge=1, le=MOST_PROMPTS)]
NoPrompts = Annotated[int, Field(strict=True, ge=0, le=MOST_PROMPTS)]
Metadata = dict[str, Any]


class RowRecipe(BaseModel):
    """A row of the table: who draws, by which search, and who judges in it."""

    model_config = RECIPE

    generator: Key
    search: Literal["single", "best-of-n", "stepwise", "parm"] = "single"
    verifier: Name | None = None
    first_step: Few = 1
    keep: Share = Field(0.0, description="as of imagecot.strategies.search")
    prompts_per_task: Prompts | None = Field(None, description="where fewer than in the study: the first of them")
    label: Label = ""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.verifier is None) != (self.search == "single"):
            raise ValueError(f"{self.search} {'needs a' if self.verifier is None else 'has no'} verifier")
        if (self.first_step > 1 or self.keep) and self.search != "parm":
            raise ValueError(f"{self.search} stops no paths, so it has no first_step and no keep")
        return self

    @property
    def chooses(self) -> bool:
        """Whether it chooses among the recorded paths of its generator; stepwise draws its own."""
        return self.search in ("best-of-n", "parm")

    @property
    def method(self) -> tuple[str, str | None, int, float]:
        """What is the same in rows that differ in their generator alone."""
        return self.search, self.verifier, self.first_step, self.keep

    def sizes(self, n: int) -> list[int]:
        """The numbers of paths for which its score and seconds are of interest, up to `n`."""
        if self.search == "single":
            return [1]
        return [size for size in SIZES if size < n] + [n] if self.chooses else [n]


class SelfCorrection(BaseModel):
    """The models of Table 5, which share the study's prompts and number of paths."""

    model_config = RECIPE

    correcting_generator: Name
    orm: Name
    parm: Name
    parm_plus_plus: Name
    first_step: Few = Field(1, description="from which PARM asks")
    keep: Share = Field(0.0, description="as of imagecot.strategies.search")
    more_paths: PathCount = Field(32, description="paths of PARM that take as long as PARM++ with reflection")


class StudyRecipe(BaseModel):
    """A recipe of `imagecot study`."""

    model_config = RECIPE

    output: Place
    n: PathCount = 20
    precision: Precision | None = None
    prompts_per_task: Prompts = 20
    timed_prompts: NoPrompts = Field(3, description="prompts on which the searches are run for their seconds")
    gallery: NoPrompts = Field(2, description="prompts a task whose chosen images are kept")
    seed: Seed = 0
    detector: Name = Field("pictograms", description="who judges, and by whose prompts, as in `evaluate geneval`")
    generators: dict[Key, Name] = Field({}, max_length=100)
    rows: dict[Key, RowRecipe] = Field({}, max_length=200)
    self_correction: SelfCorrection | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if not self.rows and self.self_correction is None:
            raise ValueError("there are neither rows nor self_correction, so nothing to study")
        for name, row in self.rows.items():
            if name in (RANDOM, ORACLE):
                raise ValueError(f"rows.{name}: every table has a line of this name; choose another")
            if row.generator not in self.generators:
                raise ValueError(f"rows.{name}.generator: {row.generator!r} is none of {', '.join(self.generators)}")
        return self

    def only(self, names: Sequence[str]) -> Self:
        """The study of some rows alone; UsageError for a name that is none of them."""
        if not self.rows:
            raise UsageError("this study has no rows to choose from; leave out --rows.")
        for name in names:
            if name not in self.rows:
                raise UsageError(f"there is no row {name!r} in this study; it has {', '.join(self.rows)}.")
        rows = {name: self.rows[name] for name in names}
        used = {row.generator for row in rows.values()}
        generators = {key: name for key, name in self.generators.items() if key in used}
        return self.model_copy(update={"rows": rows, "generators": generators, "self_correction": None})

    def rows_of(self, generator: str) -> dict[str, RowRecipe]:
        """The rows that draw with a generator, by its key."""
        return {name: row for name, row in self.rows.items() if row.generator == generator}

    def chosen_from(self, generator: str) -> bool:
        """Whether any row chooses among several paths of a generator."""
        return any(row.chooses for row in self.rows_of(generator).values())


class Unit(NamedTuple):
    """A piece of the work: one prompt drawn by one generator.

    number  of the prompt in the study
    rank    of the prompt in its task, from 0
    """

    generator: str
    number: int
    rank: int
    metadata: Metadata


def prompts(detector: str, per_task: int) -> list[tuple[int, Metadata]]:
    """The first `per_task` prompts of each task, with their rank in it; task by task in turn."""
    every = benchmark_of(detector)
    tasks = [[m for m in every if m["tag"] == task][:per_task] for task in TASKS]
    most = max(map(len, tasks), default=0)
    return [(rank, task[rank]) for rank in range(most) for task in tasks if rank < len(task)]


def units(recipe: StudyRecipe) -> Iterator[Unit]:
    """All the work but timing and self-correction, generator by generator, so that few models are loaded at once."""
    for key in recipe.generators:
        if recipe.rows_of(key):
            for number, (rank, metadata) in enumerate(prompts(recipe.detector, recipe.prompts_per_task)):
                yield Unit(key, number, rank, metadata)


def due(recipe: StudyRecipe, unit: Unit) -> dict[str, RowRecipe]:
    """The rows that this prompt is drawn for."""
    return {
        name: row
        for name, row in recipe.rows_of(unit.generator).items()
        if row.prompts_per_task is None or unit.rank < row.prompts_per_task
    }


def timed_prompts(recipe: StudyRecipe) -> list[str]:
    """The prompts on which searches are timed: spread evenly over the tasks."""
    texts = [m["prompt"] for m in benchmark_of(recipe.detector)]
    return texts[:: max(1, len(texts) // max(1, recipe.timed_prompts))][: recipe.timed_prompts]
