"""What a frontier is before any model is loaded: its prompts, its pools, the file of each row, what each is made of.

Pools are those of a generator, a seed, a number format and the judges, or are refused. A row in whose file something
else is kept (other settings, other weights) is carried out again.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from imagecot.contracts.metadata import Metadata
from imagecot.contracts.values import JSON
from imagecot.identity import claim, refuse_occupied
from imagecot.study.folder import STUDY
from imagecot.study.frontier.pools import Pools
from imagecot.study.frontier.recipe import FrontierRecipe
from imagecot.study.frontier.rows import Replayed
from imagecot.study.known import Known, Weights
from imagecot.study.recipe import RowRecipe, prompts
from imagecot.study.store import Store
from imagecot.worlds import find


@dataclass(frozen=True)
class Plan:
    """A frontier with all settings said.

    prompts  in their order, each with its rank in its task
    weights  SHA-256 of all models, by the plural of the role, name and part
    """

    recipe: FrontierRecipe
    prompts: Sequence[tuple[int, Metadata]]
    weights: Weights

    @classmethod
    def of(cls, recipe: FrontierRecipe) -> "Plan":
        """Read what the models advise and consist of; UsageError for a row that cannot be carried out on the pools."""
        known = Known(recipe.precision)
        recipe = recipe.resolved(known.advice)
        return cls(recipe, prompts(recipe.detector, recipe.prompts_per_task, recipe.world), _weights(recipe, known))

    @property
    def identity(self) -> dict[str, JSON]:
        """What all parts share."""
        recipe = self.recipe
        return {"precision": recipe.precision, "seed": recipe.seed, "detector": recipe.detector, "world": recipe.world}

    def check(self) -> None:
        """Raise UsageError where the output holds something else, or other pools; nothing is written."""
        refuse_occupied(self.recipe.output / STUDY, self.identity, "study")
        for key in self.recipe.generators:
            self.pools(key).check()

    def claim(self) -> None:
        """Make the output that of this study; UsageError where it holds something else."""
        claim(self.recipe.output / STUDY, self.identity, "study")

    def pools(self, key: str) -> Pools:
        """The pools of a generator."""
        name = self.recipe.generators[key]
        identity = {
            **self.identity,
            "generator": name,
            "paths": self.recipe.n,
            "weights": self.weights["generators"][name],
            "judges": self.weights["judges"],
        }
        return Pools(self.recipe.output / "pools" / key, identity)

    def due(self, name: str) -> dict[int, Metadata]:
        """The prompts of a row, by their numbers."""
        most = self.recipe.rows[name].prompts_per_task
        numbered = enumerate(self.prompts)
        return {number: metadata for number, (rank, metadata) in numbered if most is None or rank < most}

    def of_row(self, name: str) -> str:
        """By what results of a row are told apart from those with other settings or weights."""
        row = self.recipe.rows[name]
        models = {"generators": self.recipe.generators[row.generator], "verifiers": row.verifier}
        used = {role: self.weights[role].get(model or "") for role, model in models.items()}
        made_of = [row.identity, used, self.weights["searches"].get(row.search), self.recipe.n]
        text = json.dumps([made_of, self.recipe.sizes(row), self.recipe.orders_of(row)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def store(self, name: str) -> Store[Replayed]:
        """Where the prompts of a row are kept."""
        return Store(self.recipe.output / "searches", name, Replayed, claim=partial(_made, self))

    def kept(self, name: str) -> dict[int, Replayed]:
        """The prompts of a row that are there, as the row now is."""
        of, due = self.of_row(name), self.due(name)
        return {row.number: row for row in self.store(name).rows() if row.of == of and row.number in due}

    def left(self, key: str) -> Iterator[tuple[int, Metadata, dict[str, RowRecipe]]]:
        """The prompts of a generator at which something is to do, each with the rows that lack it."""
        rows = self.recipe.rows_of(key)
        lacking = {name: self.due(name).keys() - self.kept(name).keys() for name in rows}
        pools = self.pools(key)
        for number, (_, metadata) in enumerate(self.prompts):
            missing = {name: row for name, row in rows.items() if number in lacking[name]}
            if missing or not pools.has(number):
                yield number, metadata, missing


def _made(plan: Plan) -> None:
    from imagecot.files import make_own_folder

    plan.claim()
    make_own_folder(plan.recipe.output / "searches")


def _weights(recipe: FrontierRecipe, known: Known) -> Weights:
    found = known.of_rows(recipe.rows.values(), recipe.generators.values())
    found["judges"] = {name: dict(find.digests(name)) for name in find.judges_of(recipe.detector, recipe.world)}
    return found
