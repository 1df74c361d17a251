"""A study of one row a prompt that one process makes: what it is before any model is loaded."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel

from imagecot.contracts.metadata import Metadata
from imagecot.contracts.values import JSON
from imagecot.identity import Identity, claim, refuse_occupied
from imagecot.study.folder import STUDY
from imagecot.study.rows import Numbered
from imagecot.study.store import Store

Recipe = TypeVar("Recipe", bound=BaseModel)
Kept = TypeVar("Kept", bound=Numbered)
Weights = Mapping[str, Mapping[str, JSON]]


@dataclass(frozen=True)
class ByPrompt(Generic[Recipe, Kept]):
    """Its prompts in their order, the digests of its models, and where its rows are kept."""

    recipe: Recipe
    every: Sequence[Metadata]
    weights: Weights
    store: Store[Kept]

    @property
    def left(self) -> int:
        """Rows that are still to be made."""
        return len(self.every) - len(self.store.numbers())


def claimed(recipe: BaseModel, folder: Path, weights: Weights) -> Callable[[], object]:
    """Return what makes a folder that of a study; UsageError where it holds another one."""
    identity: Identity = {**recipe.model_dump(mode="json", exclude={"kind", "output"}), "weights": weights}
    refuse_occupied(folder / STUDY, identity, "study")
    return partial(claim, folder / STUDY, identity, "study")
