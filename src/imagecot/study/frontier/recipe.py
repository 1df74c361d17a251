"""What a frontier compares: searches over recorded pools of paths, each at several budgets, and its seconds.

    imagecot study recipes/study/clock.yaml
    imagecot report runs/study/clock

Pools are drawn once and kept with the codes of every step, so that every search can be carried out on them. A row whose
settings change is carried out again; its pools stay.
"""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, Field, model_validator

from imagecot import registry
from imagecot.errors import UsageError
from imagecot.precision import Precision
from imagecot.recipe_fields import RECIPE, Name, Place, Seed
from imagecot.study.recipe import (
    Advises,
    Key,
    NoPrompts,
    PathCount,
    Prompts,
    RowRecipe,
    judge_in,
    rows_judged,
    rows_named,
)

Budgets = Annotated[list[PathCount], Field(min_length=1, max_length=20), AfterValidator(lambda found: sorted({*found}))]


class FrontierRecipe(BaseModel):
    """A recipe of `imagecot study` about scores at equal seconds."""

    model_config = RECIPE

    kind: Literal["frontier"] = "frontier"
    output: Place
    budgets: Budgets = Field([1, 2, 4, 8, 12, 20], description="numbers of paths that every search is asked for")
    orders: Annotated[int, Field(strict=True, ge=1, le=1000)] = Field(
        4, description="orders of a pool's paths in which a search takes them; one of rows with prompts_per_task"
    )
    image_orders: Annotated[int, Field(strict=True, ge=1, le=1000)] = Field(
        40, description="the same of searches that ask about final images alone, which is quick"
    )
    precision: Precision | None = None
    prompts_per_task: Prompts = 60
    timed_prompts: NoPrompts = Field(
        8, description="prompts on which the searches are run for their seconds, with the largest budget"
    )
    timed_together: PathCount = Field(8, description="prompts that are timed at once; 1 for each by itself")
    timed_in_rounds: PathCount = Field(
        64, description="the same of searches in rounds, as an evaluation draws them; as many batches are timed"
    )
    seed: Seed = 0
    detector: Name = Field("pictograms", description="who judges, as in `evaluate geneval`; by default as world says")
    world: Name | None = Field(
        None, description="whose prompts are drawn: by default those that the detector judges by"
    )
    generators: dict[Key, Name] = Field(min_length=1, max_length=100)
    rows: dict[Key, RowRecipe] = Field(min_length=1, max_length=200)
    against: dict[Key, Key] = Field(description="of each generator the row that the others are held against")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        self.detector = judge_in(self.world, self.detector, "detector" in self.model_fields_set)
        self.rows = rows_judged(self.rows, self.generators)
        for key in self.generators:
            rows = self.rows_of(key)
            if rows and self.against.get(key) not in rows:
                raise ValueError(f"against.{key}: name one of its rows, {', '.join(rows)}")
        return self

    @property
    def n(self) -> int:
        """The largest budget, which is how many paths a pool has."""
        return self.budgets[-1]

    def rows_of(self, generator: str) -> dict[str, RowRecipe]:
        """The rows that draw with a generator, by its key."""
        return {name: row for name, row in self.rows.items() if row.generator == generator}

    def sizes(self, row: RowRecipe) -> list[int]:
        """The budgets of a row: of those for which it draws equally many paths the smallest."""
        return sorted({row.how.paths(size): size for size in reversed(self.budgets)}.values())

    def orders_of(self, row: RowRecipe) -> int:
        """How many orders of a pool's paths a row takes: many where that is quick, one where prompts are fewer."""
        if row.verifier and row.how.asks_of_images_alone:
            return self.image_orders
        return self.orders if row.prompts_per_task is None else 1

    def only(self, names: Sequence[str]) -> Self:
        """The study of some rows and those that they are held against; UsageError for a name that is none."""
        used = {row.generator for row in rows_named(self.rows, names).values()}
        wanted = {*names, *(self.against[key] for key in used)}
        rows = {name: row for name, row in self.rows.items() if name in wanted}
        generators = {key: name for key, name in self.generators.items() if key in used}
        return self.model_copy(update={"rows": rows, "generators": generators})

    def resolved(self, advice: Advises = registry.advice) -> Self:
        """The same with everything said that its rows leave to the checkpoints of their models.

        UsageError for a row that draws more paths than a pool has.
        """
        rows = {name: row.resolved(self.generators[row.generator], advice) for name, row in self.rows.items()}
        for name, row in rows.items():
            if row.how.paths(self.n) > self.n:
                raise UsageError(f"rows.{name}: {row.search} draws more paths than the pools have, which is {self.n}.")
        return self.model_copy(update={"rows": rows})
