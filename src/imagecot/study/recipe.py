"""What a study compares: generators, rows of a table over them, and the prompts on which all of them are seen."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Literal, Protocol, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, StringConstraints, model_validator

from imagecot import registry
from imagecot.bounds import MOST_PATHS, MOST_PROMPTS
from imagecot.contracts.metadata import Metadata
from imagecot.contracts.values import JSON
from imagecot.errors import ImagecotError, UsageError
from imagecot.geneval.prompts import TASKS
from imagecot.judging import judge_named
from imagecot.precision import Precision
from imagecot.recipe_fields import RECIPE, Few, Name, Place, Seed, Share
from imagecot.strategies.options import settings_of, told
from imagecot.strategies.parm import Parm
from imagecot.study.searches import How, strategy_named, wrong_settings
from imagecot.worlds import find

RANDOM, ORACLE = "random", "oracle"  # lines of every table and curve, so no names of rows
_PARM = "parm"  # by which a verifier's advice to it is found


def _search(name: str) -> str:
    try:
        strategy_named(name)
    except ImagecotError as error:
        raise ValueError(str(error).rstrip(".")) from None
    return name


Key = Annotated[str, StringConstraints(pattern=r"^\w[\w.+-]*$", max_length=50)]  # a part of file names
Label = Annotated[str, StringConstraints(max_length=200, strict=True)]
PathCount = Annotated[int, Field(strict=True, ge=1, le=MOST_PATHS)]
Prompts = Annotated[int, Field(strict=True, ge=1, le=MOST_PROMPTS)]
NoPrompts = Annotated[int, Field(strict=True, ge=0, le=MOST_PROMPTS)]
Draws = Annotated[int, Field(strict=True, ge=1, le=1_000)]
Search = Annotated[Name, AfterValidator(_search)]
Advice = Mapping[str, Mapping[str, JSON]]  # settings by the names of searches
Advises = Callable[[str], Advice]


def judge_in(name: str | None, detector: str, said: bool) -> str:
    """The detector of a study: what is said, else the first judge of its world; ValueError for what is no world."""
    if name is None or said:
        return detector
    try:
        return find.world(name).judges[0]
    except ImagecotError as error:
        raise ValueError(f"world: {str(error).rstrip('.')}") from None


def judge_of(name: str, generator: str) -> str:
    """The name of a verifier, that of the generator for `self`; ValueError where the generator cannot judge."""
    try:
        return judge_named(name, generator)
    except ImagecotError as error:
        raise ValueError(str(error).rstrip(".")) from None


class RowRecipe(BaseModel):
    """A row of the table: who draws, by which search, and who judges in it, which is `self` for the generator itself.

    All other keys are options of the search, by the names of its `Settings`.
    """

    model_config = ConfigDict(**{**RECIPE, "extra": "allow"})

    generator: Key
    search: Search = "single"
    verifier: Name | None = None
    corrector: Name | None = Field(None, description="who draws again what is rejected, where not the generator does")
    prompts_per_task: Prompts | None = Field(None, description="where fewer than in the study: the first of them")
    label: Label = ""
    _resolved: frozenset[str] = PrivateAttr(frozenset())  # the options that the row itself does not say

    @model_validator(mode="after")
    def _fits(self) -> Self:
        strategy = strategy_named(self.search)
        wrong = wrong_settings(strategy, self.options)
        if wrong:
            raise wrong
        if (self.verifier is None) == ("verifier" in strategy.needs):
            raise ValueError(f"{self.search} {'needs a' if self.verifier is None else 'has no'} verifier")
        if self.corrector and "corrector" not in strategy.needs:
            raise ValueError(f"{self.search} corrects nothing, so it has no corrector")
        return self

    @property
    def options(self) -> dict[str, JSON]:
        """What the row itself says of the search's settings; with what its verifier advises a request goes on."""
        return {name: value for name, value in self._settings.items() if name not in self._resolved}

    @property
    def _settings(self) -> dict[str, JSON]:
        return dict(self.__pydantic_extra__ or {})

    @property
    def how(self) -> How:
        """The search with its settings: what is said or was resolved, and the defaults of the search."""
        strategy = strategy_named(self.search)
        return How(self.search, strategy, settings_of(strategy, self.search, self._settings, {}))

    @property
    def method(self) -> tuple[object, ...]:
        """What is the same in rows that differ in their generator alone."""
        return self.search, self.verifier, self.corrector, self.how.settings

    @property
    def identity(self) -> dict[str, JSON]:
        """What its results depend on, without what is the default."""
        said = self.model_dump(exclude={"label", *self._settings}, exclude_defaults=True)
        return said | told(self.how.settings)

    def sizes(self, n: int) -> list[int]:
        """The numbers of paths for which its score and seconds are of interest, up to `n`."""
        return self.how.sizes(n)

    def resolved(self, generator: str, advice: Advises) -> Self:
        """The row with everything said that it leaves to the checkpoints of its verifier and its generator."""
        strategy = strategy_named(self.search)
        advised = advice(self.verifier).get(self.search, {}) if self.verifier else {}
        settings = settings_of(strategy, self.search, self.options, advised).model_dump()
        corrector = self.corrector
        if "corrector" in strategy.needs and corrector is None:
            corrector = registry.search_defaults(generator).corrector
        found = self.model_copy(update={**settings, "corrector": corrector})
        found._resolved = frozenset(settings.keys() - self.options.keys())
        return found


class SelfCorrection(BaseModel):
    """The models of Table 5, which share the study's prompts and number of paths."""

    model_config = RECIPE

    correcting_generator: Name
    orm: Name
    parm: Name
    parm_plus_plus: Name
    first_step: Few | None = Field(None, description="from which PARM asks; by default as its checkpoint advises")
    keep: Share | None = Field(None, description="the share that PARM keeps; by default as its checkpoint advises")
    more_paths: PathCount = Field(32, description="paths of PARM that take as long as PARM++ with reflection")

    @property
    def options(self) -> dict[str, JSON]:
        """What is said of PARM's settings, which all rows share."""
        return self.model_dump(include={*Parm.Settings.model_fields}, exclude_none=True)

    @model_validator(mode="after")
    def _judged(self) -> Self:
        named = (judge_of(name, self.correcting_generator) for name in (self.orm, self.parm, self.parm_plus_plus))
        self.orm, self.parm, self.parm_plus_plus = named
        return self

    def resolved(self, advice: Advises) -> Self:
        """The same with these settings said."""
        advised = advice(self.parm).get(_PARM, {})
        return self.model_copy(update=settings_of(Parm(), _PARM, self.options, advised).model_dump())


class Compared(Protocol):
    """What recipes that compare rows have in common: who draws, on which prompts, and where results are kept."""

    @property
    def output(self) -> Path:
        """The folder of the results."""
        ...

    @property
    def generators(self) -> Mapping[str, str]:
        """The names of generators by their keys."""
        ...

    @property
    def seed(self) -> int:
        """From which all paths derive."""
        ...

    @property
    def detector(self) -> str:
        """Who judges."""
        ...

    @property
    def world(self) -> str | None:
        """Whose prompts are drawn, where the detector does not say it."""
        ...

    @property
    def timed_prompts(self) -> int:
        """On how many prompts searches are timed."""
        ...

    def rows_of(self, generator: str) -> Mapping[str, RowRecipe]:
        """The rows of a generator, by its key."""
        ...


class StudyRecipe(BaseModel):
    """A recipe of `imagecot study`."""

    model_config = RECIPE

    kind: Literal["study"] = "study"
    output: Place
    n: PathCount = 20
    precision: Precision | None = None
    prompts_per_task: Prompts = 20
    draws: Draws = Field(1, description="how often every prompt is drawn, each time from the next seed of paths")
    timed_prompts: NoPrompts = Field(3, description="prompts on which the searches are run for their seconds")
    gallery: NoPrompts = Field(2, description="prompts a task whose chosen images are kept")
    seed: Seed = 0
    detector: Name = Field("pictograms", description="who judges, as in `evaluate geneval`; by default as world says")
    world: Name | None = Field(
        None, description="whose prompts are drawn: by default those that the detector judges by"
    )
    generators: dict[Key, Name] = Field({}, max_length=100)
    rows: dict[Key, RowRecipe] = Field({}, max_length=200)
    self_correction: SelfCorrection | None = None

    @model_validator(mode="after")
    def _judged(self) -> Self:
        self.detector = judge_in(self.world, self.detector, "detector" in self.model_fields_set)
        return self

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if not self.rows and self.self_correction is None:
            raise ValueError("there are neither rows nor self_correction, so nothing to study")
        self.rows = rows_judged(self.rows, self.generators)
        return self

    def only(self, names: Sequence[str]) -> Self:
        """The study of some rows alone; UsageError for a name that is none of them."""
        if not self.rows:
            raise UsageError("this study has no rows to choose from; leave out --rows.")
        rows = rows_named(self.rows, names)
        used = {row.generator for row in rows.values()}
        generators = {key: name for key, name in self.generators.items() if key in used}
        return self.model_copy(update={"rows": rows, "generators": generators, "self_correction": None})

    def resolved(self, advice: Advises = registry.advice) -> Self:
        """The same study with everything said that its rows leave to the checkpoints of their models.

        advice  the settings that a verifier likes to be searched with, by the names of searches
        """
        rows = {name: row.resolved(self.generators[row.generator], advice) for name, row in self.rows.items()}
        part = self.self_correction
        return self.model_copy(update={"rows": rows, "self_correction": part and part.resolved(advice)})

    def rows_of(self, generator: str) -> dict[str, RowRecipe]:
        """The rows that draw with a generator, by its key."""
        return {name: row for name, row in self.rows.items() if row.generator == generator}

    def chosen_from(self, generator: str) -> bool:
        """Whether any row chooses among several recorded paths of a generator."""
        return any(row.how.chooses for row in self.rows_of(generator).values())

    def pool(self, generator: str) -> int:
        """How many paths of a generator are recorded: as many as any row takes one of."""
        searches = [row.how for row in self.rows_of(generator).values()]
        least = self.n if any(how.chooses for how in searches) else 1
        return max([least, *(how.paths(self.n) for how in searches if how.replayed)])


def rows_named(rows: Mapping[str, RowRecipe], names: Sequence[str]) -> dict[str, RowRecipe]:
    """Some of the rows; UsageError for a name that is none of them."""
    for name in names:
        if name not in rows:
            raise UsageError(f"there is no row {name!r} in this study; it has {', '.join(rows)}.")
    return {name: rows[name] for name in names}


def rows_judged(rows: Mapping[str, RowRecipe], generators: Mapping[str, str]) -> dict[str, RowRecipe]:
    """The rows with the names of their verifiers, which may be their generators; ValueError for what cannot be one."""
    for name, row in rows.items():
        if name in (RANDOM, ORACLE):
            raise ValueError(f"rows.{name}: every table has a line of this name; choose another")
        if row.generator not in generators:
            raise ValueError(f"rows.{name}.generator: {row.generator!r} is none of {', '.join(generators)}")
    return {name: _judged(name, row, generators[row.generator]) for name, row in rows.items()}


def _judged(name: str, row: RowRecipe, generator: str) -> RowRecipe:
    """A row with the name of its verifier, which may be its generator."""
    try:
        verifier = judge_of(row.verifier, generator) if row.verifier is not None else None
    except ValueError as error:
        raise ValueError(f"rows.{name}.verifier: {error}") from None
    return row.model_copy(update={"verifier": verifier}) if verifier != row.verifier else row


@dataclass(frozen=True)
class Unit:
    """A piece of the work: one prompt drawn by one generator.

    number  of the prompt in the study, counted on from draw to draw
    rank    of the prompt in its task, from 0
    seed    from which its paths derive
    draw    which time it is that the prompt is drawn, from 0
    """

    generator: str
    number: int
    rank: int
    metadata: Metadata
    seed: int = 0
    draw: int = 0

    def shown(self, gallery: int) -> bool:
        """Whether its chosen images are kept, where those of so many prompts a task are."""
        return self.draw == 0 and self.rank < gallery


def _benchmark(detector: str, world: str | None) -> list[Metadata]:
    """The prompts that a world is tested by; that of the detector where none is said."""
    return find.prompts_of(find.world(world) if world else find.world_of(detector), world)


def prompts(detector: str, per_task: int, world: str | None = None) -> list[tuple[int, Metadata]]:
    """The first `per_task` prompts of each task, with their rank in it; task by task in turn.

    world  whose prompts they are, where that is not found by the name of the detector
    """
    every = _benchmark(detector, world)
    names = dict.fromkeys([*TASKS, *(m.tag for m in every)])
    tasks = [[m for m in every if m.tag == task][:per_task] for task in names]
    most = max(map(len, tasks), default=0)
    return [(rank, task[rank]) for rank in range(most) for task in tasks if rank < len(task)]


def shuffled(found: Sequence[tuple[int, Metadata]], seed: int) -> list[Metadata]:
    """Prompts in an order in which the one before, whose reasons a control is told, is of any task."""
    every = [metadata for _, metadata in found]
    random.Random(seed).shuffle(every)
    return every


def units(recipe: StudyRecipe) -> Iterator[Unit]:
    """All the work but timing and self-correction, generator by generator, so that few models are loaded at once."""
    every = prompts(recipe.detector, recipe.prompts_per_task, recipe.world)
    for key in recipe.generators:
        if recipe.rows_of(key):
            for number, (draw, (rank, metadata)) in enumerate(product(range(recipe.draws), every)):
                yield Unit(key, number, rank, metadata, recipe.seed + draw, draw)


def due(recipe: StudyRecipe, unit: Unit) -> dict[str, RowRecipe]:
    """The rows that this prompt is drawn for."""
    return {
        name: row
        for name, row in recipe.rows_of(unit.generator).items()
        if row.prompts_per_task is None or unit.rank < row.prompts_per_task
    }


def timed_prompts(recipe: Compared, count: int | None = None) -> list[str]:
    """The prompts on which searches are timed, so many or as the recipe says: spread evenly over the tasks."""
    count = recipe.timed_prompts if count is None else count
    texts = [metadata.prompt for metadata in _benchmark(recipe.detector, recipe.world)]
    count = min(count, len(texts))
    return [texts[k * len(texts) // count] for k in range(count)]
