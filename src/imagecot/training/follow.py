"""Following the recipe of any training."""

from pydantic import BaseModel

from imagecot.errors import UsageError
from imagecot.kinds import TRAIN, of_command
from imagecot.recipes import follow
from imagecot.training.output import Recipe
from imagecot.watch import SILENT, Watch


def run(recipe: Recipe, *, watch: Watch = SILENT) -> object:
    """Follow a recipe of any kind of training; returns what that kind returns, such as the model that was trained.

    An interrupted training is resumed. UsageError for what is no such recipe; other errors are those of the training.
    """
    if not isinstance(recipe, BaseModel) or recipe.kind not in of_command(TRAIN):
        raise UsageError(f"trainings are {', '.join(of_command(TRAIN))}; give a recipe of one of these kinds.")
    return follow(recipe, watch=watch)
